"""A runner without a server: scripted tries and passes, a manual clock, and no thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from copyd import events
from copyd.loading import Position
from copyd.transfers import Reintroduce, Replica, Server, Stop, Tables, Transfer
from copyd.transfers.destination import Attempt
from copyd.transfers.running.context import Run
from copyd.transfers.running.destination import Destination
from copyd.transfers.running.messages import Completed, PassEnded
from copyd.transfers.running.passes import Pass
from copyd.transfers.running.runner import Runner
from copyd.transfers.running.steps import Steps
from copyd.transfers.source import Reading, Scan, Snapshot, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.events import Event
    from copyd.transfers.running.messages import Message

SCAN = Scan(Reading("t", "t", None, ()))
SHORT = Scan(Reading("t", "t", None, ()), keys_only=())


class Hang(BaseException):
    """Raised in a step that never ends: nobody hears of it."""


class Lost(ConnectionError):
    """A transient fault."""


Act = BaseException | Callable[["ScriptedAttempt"], None] | None
PassAct = Callable[["ScriptedPass"], None]


class ScriptedAttempt(Attempt):
    """A try whose steps do as the script says, and nothing otherwise."""

    def __init__(self, town: Scripted, replica: Replica) -> None:
        super().__init__(replica, town.transfer, "run", is_full=False)
        self.name = replica.server.name
        self.town = town
        self.loads: list[tuple[Scan, int, int]] = []
        self.is_closed = False
        self.session.close = self._close  # type: ignore[method-assign]

    def _close(self) -> None:
        self.session.over.set()
        self.is_closed = True
        self.town.log.append(f"{self.name} closed")

    def _take(self, step: str) -> None:
        self.town.log.append(f"{self.name} {step}")
        acts = self.town.script.get((self.name, step))
        act = acts.popleft() if acts else None
        if isinstance(act, BaseException):
            raise act
        if act is not None:
            act(self)

    def prepare(self, source: object, predecessor: object) -> None:
        del source, predecessor
        self._take("prepare")

    def clear(self) -> None:
        self._take("clear")

    def scans(self, snapshot: Snapshot) -> tuple[Scan, ...]:
        del snapshot
        return self.town.needs.get(self.name, (SCAN,))

    def empty(self) -> None:
        self._take("empty")

    def loaded(self, scan: Scan, *, rows: int, size: int) -> None:
        self.loads.append((scan, rows, size))

    def finish(self) -> None:
        self._take("finish")
        self.commit.is_sent = self.commit.is_done = True

    def inherit(self, lost: Attempt) -> None:
        self.commit.is_sent = lost.commit.is_sent

    def resolve(self) -> None:
        self._take("resolve")
        self.commit.is_sent = self.commit.is_done

    def tidy(self) -> None:
        self._take("tidy")


def lose_answer(attempt: ScriptedAttempt) -> None:
    """Send a COMMIT whose answer never comes."""
    attempt.commit.is_sent = True
    raise Lost("the answer was lost")


def find_committed(attempt: ScriptedAttempt) -> None:
    """Have the ledger say that the COMMIT took place."""
    attempt.commit.is_done = True


class ScriptedPass(Pass):
    """A pass that posts what the script says, else that all have completed."""

    def __init__(self, town: Scripted, fed: Sequence[Destination], scans: Sequence[Scan]) -> None:
        super().__init__(town.run, town.source, fed, scans, town.put)
        self.town = town
        self.fed = fed

    def start(self) -> None:
        self.town.log.append(f"pass of {' '.join(each.name for each in self.fed)}")
        acts = self.town.passes
        (acts.popleft() if acts else ScriptedPass.complete)(self)

    def post(self, message: Message) -> None:
        self.town.put(message)

    def complete(self) -> None:
        for each in self.fed:
            self.post(Completed(each))
        self.post(PassEnded(None))

    def close(self) -> None:
        self.channel.close()
        self.town.log.append("pass closed")


class ScriptedInbox(SimpleQueue["Message | None"]):
    """An inbox in which time passes while nothing is there."""

    def __init__(self, town: Scripted) -> None:
        self.town = town

    def get(self, block: bool = True, timeout: float | None = None) -> Message | None:
        town = self.town
        if self.empty():
            assert timeout is not None
            assert timeout < threading.TIMEOUT_MAX, "the runner waits for ever"
            due = min((moment for moment in town.at if moment <= town.now + timeout), default=None)
            if due is None:
                town.now += timeout
            else:
                town.now = max(town.now, due)
                town.at.pop(due)()
        if self.empty():
            raise Empty
        return super().get(block)


class ScriptedSource(Source):
    """A source with a snapshot, and nothing behind it."""

    def __init__(self) -> None:
        here = Position(1, 1, 1)
        self._taken = Snapshot(here, here, "s", "1:1:", 1, 1, "now", None, data_timestamp=5.0)

    @property
    def snapshot(self) -> Snapshot:
        return self._taken

    def cut(self) -> None:
        pass


@dataclass
class Scripted:
    """``script``: acts by destination and step, one for each time that it is taken.

    ``passes``: acts of the passes in their order. ``at``: calls by the clock. ``log``: all that was
    done; ``seen``: what the observer was told.
    """

    names: Sequence[str] = ("eu", "us")
    options: dict[str, object] = field(default_factory=dict)
    now: float = 0.0
    script: dict[tuple[str, str], deque[Act]] = field(default_factory=dict)
    passes: deque[PassAct] = field(default_factory=deque)
    needs: dict[str, tuple[Scan, ...]] = field(default_factory=dict)
    at: dict[float, Callable[[], None]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)
    observe: Callable[[Event], None] = events.ignore

    def __post_init__(self) -> None:
        nowhere = Server("source", "")
        replicas = tuple(Replica(Server(name, "")) for name in self.names)
        usual = {"deadline": 100.0, "reintroduce": Reintroduce(attempts=2, backoff=4.0)}
        self.transfer = Transfer(
            name="books",
            source=nowhere,
            replicas=replicas,
            what=Tables(("t",)),
            **{**usual, **self.options},  # type: ignore[arg-type]
        )
        self.stop = Stop()
        self.source = ScriptedSource()
        self.attempts: list[ScriptedAttempt] = []
        self.run = Run(
            self.transfer,
            "run",
            self._see,
            lambda: self.now,
            self.transfer.deadline,
            rng=lambda: 1.0,
            stop=self.stop,
        )
        self.inbox = ScriptedInbox(self)
        self.destinations = [Destination(replica) for replica in replicas]
        self.runner = Runner(
            self.run,
            self.destinations,
            attempts=self._attempt,
            steps=Steps(self.run.clock, inbox=self.inbox, start=self._start),
            passes=lambda _run, _source, fed, scans, _post: ScriptedPass(self, fed, scans),
        )

    def on(self, name: str, step: str, *acts: Act) -> None:
        self.script[name, step] = deque(acts)

    def feed(self) -> dict[str, str | None]:
        """Feed all; returns the verdicts."""
        self.runner.feed(self.source)
        return self.verdicts

    @property
    def verdicts(self) -> dict[str, str | None]:
        return {each.name: each.verdict and each.verdict.value for each in self.destinations}

    def cause(self, name: str) -> str | None:
        return next(each.outcome().cause for each in self.destinations if each.name == name)

    # -- threads that are none ------------------------------------------------------------------

    def put(self, message: Message | None) -> None:
        self.inbox.put(message)

    def _start(self, name: str, work: Callable[[], None]) -> None:
        del name
        with suppress(Hang):
            work()

    def _attempt(self, replica: Replica) -> Attempt:
        self.attempts.append(ScriptedAttempt(self, replica))
        return self.attempts[-1]

    def _see(self, event: Event) -> None:
        self.seen.append(event)
        self.observe(event)


def posting(*messages: Callable[[ScriptedPass], Message]) -> PassAct:
    """An act of a pass that posts these."""

    def act(pass_: ScriptedPass) -> None:
        for message in messages:
            pass_.post(message(pass_))

    return act


def completed(number: int) -> Callable[[ScriptedPass], Message]:
    return partial(_completed, number)


def _completed(number: int, pass_: ScriptedPass) -> Message:
    return Completed(pass_.fed[number])


def ended(error: BaseException | None = None) -> Callable[[ScriptedPass], Message]:
    def message(pass_: ScriptedPass) -> Message:
        del pass_
        return PassEnded(error)

    return message
