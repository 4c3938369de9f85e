"""The steps of tries: each in a daemon thread, with a deadline, its end posted to the inbox."""

from __future__ import annotations

import threading
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from copyd.transfers.running.messages import StepEnded
from copyd.transfers.running.states import TIMED

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Message


class Inbox(Protocol):
    """Where threads put their messages, and the runner takes them out; None wakes the runner."""

    def put(self, message: Message | None) -> None:
        """Add a message; never waits, and may be called by a signal handler."""

    def get(self, seconds: float) -> Message | None:
        """Return the oldest message, None where none comes within so many seconds."""


class QueueInbox:
    """The inbox of a run that has threads."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may put while its own thread does.
        self._queue: SimpleQueue[Message | None] = SimpleQueue()

    def put(self, message: Message | None) -> None:
        self._queue.put(message)

    def get(self, seconds: float) -> Message | None:
        with suppress(Empty):
            return self._queue.get(timeout=min(seconds, threading.TIMEOUT_MAX))
        return None


def start_thread(name: str, work: Callable[[], None]) -> None:
    """Start `work` in a daemon thread: it does not keep the program from ending."""
    threading.Thread(target=work, name=name, daemon=True).start()


class Steps:
    """Starts steps; knows when a step is late, and when the backoff of a destination is over."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        inbox: Inbox | None = None,
        start: Callable[[str, Callable[[], None]], None] = start_thread,
    ) -> None:
        inbox = inbox or QueueInbox()
        self.post = inbox.put
        self._inbox = inbox
        self._clock = clock
        self._start = start
        self._due: dict[Destination, float] = {}
        self._limit: dict[Destination, float] = {}

    def take(self, destination: Destination, step: Callable[[], None], *, within: float) -> None:
        """Take `step` of the current try in a thread; it is overdue after so many seconds."""
        attempt = destination.trying
        self.wait(destination, within)

        def work() -> None:
            try:
                attempt.session.work(step)
            except Exception as error:  # noqa: BLE001 - handed to the runner, whose boundary this is
                self.post(StepEnded(destination, attempt, error))
            else:
                self.post(StepEnded(destination, attempt, None))

        self._start(f"copyd {destination.name}", work)

    def wait(self, destination: Destination, seconds: float) -> None:
        """Have `destination` become due after so many seconds."""
        self._due[destination] = self._clock() + seconds
        self._limit[destination] = seconds

    def hurry(self, destination: Destination, seconds: float | None) -> None:
        """Give a step that is under way no more than so many seconds from now."""
        if seconds is not None and self._clock() + seconds < self._due[destination]:
            self.wait(destination, seconds)

    def receive(self, until: float) -> Message | None:
        """Return the next message; None where something is due, or it is `until`, before that."""
        due = [moment for each, moment in self._due.items() if each.state in TIMED]
        return self._inbox.get(max(min([until, *due]) - self._clock(), 0.0))

    def overdue(self) -> list[Destination]:
        """Return the destinations whose step is late, or whose backoff is over."""
        now = self._clock()
        return [each for each, moment in self._due.items() if each.state in TIMED and moment <= now]

    def late(self, destination: Destination) -> TimeoutError:
        """Return the error of a step that is overdue."""
        return TimeoutError(f"no answer within {self._limit.get(destination, inf):g} s")
