"""The steps of tries: each in a daemon thread, with a deadline, its end posted to the inbox."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from copyd.transfers.running.messages import StepEnded
from copyd.transfers.running.states import TIMED

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Message

    Inbox = SimpleQueue[Message | None]
    """The runner's; None wakes it."""


def start_thread(name: str, work: Callable[[], None]) -> None:
    """Start a daemon thread: the program can exit although a step hangs."""
    # Decision: A wait for a destination can be cut off
    threading.Thread(target=work, name=name, daemon=True).start()


class Steps:
    """Starts steps in threads; keeps the deadlines of steps and backoffs."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        inbox: Inbox | None = None,
        start: Callable[[str, Callable[[], None]], None] = start_thread,
    ) -> None:
        self._inbox: Inbox = inbox or SimpleQueue()
        self.post = self._inbox.put  # never blocks
        self._clock = clock
        self._start = start
        self._due: dict[Destination, float] = {}
        self._limit: dict[Destination, float] = {}

    def take(self, destination: Destination, step: Callable[[], None], *, within: float) -> None:
        """Start `step` of the current try in a thread; overdue after `within` seconds."""
        attempt = destination.trying
        self.wait(destination, within)

        def work() -> None:
            error = None
            try:
                attempt.session.work(step)
            except Exception as raised:  # noqa: BLE001 - handed to the runner, whose boundary this is
                error = raised
            self.post(StepEnded(destination, attempt, error))

        self._start(f"copyd {destination.name}", work)

    def wait(self, destination: Destination, seconds: float) -> None:
        """Make `destination` due after so many seconds."""
        self._due[destination] = self._clock() + seconds
        self._limit[destination] = seconds

    def hurry(self, destination: Destination, seconds: float | None) -> None:
        """Shorten the deadline of the current step to so many seconds from now."""
        if seconds is not None and self._clock() + seconds < self._due[destination]:
            self.wait(destination, seconds)

    def receive(self, until: float) -> Message | None:
        """Return the next message; None at `until`, or earlier if a destination is due."""
        due = [moment for each, moment in self._due.items() if each.state in TIMED]
        seconds = max(min([until, *due]) - self._clock(), 0.0)
        with suppress(Empty):
            return self._inbox.get(timeout=min(seconds, threading.TIMEOUT_MAX))
        return None

    def overdue(self) -> list[Destination]:
        """Return the destinations whose step is late or whose backoff is over."""
        now = self._clock()
        return [each for each, moment in self._due.items() if each.state in TIMED and moment <= now]

    def late(self, destination: Destination) -> TimeoutError:
        """Return the error of an overdue step."""
        return TimeoutError(f"no answer within {self._limit[destination]:g} s")
