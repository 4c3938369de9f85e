"""A transfer across its runs: what is known of it and of its destinations. The loop alone uses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd.daemon.breaker import CLOSED, Circuit
from copyd.daemon.schedule import Due, Schedule
from copyd.status import DestinationStatus, TransferStatus
from copyd.transfers import NOBODYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from copyd.config import Transfer as Section
    from copyd.daemon.schedule import Dice, Moment
    from copyd.transfers import Outcome, Report


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier daemon knew of a destination; points in time are Unix time."""

    last_success: float | None = None
    data_timestamp: float | None = None
    last_verdict: str | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier daemon left behind: when each transfer last began, and its destinations."""

    last_started: Mapping[str, float] = field(default_factory=dict)
    destinations: Mapping[tuple[str, str], Known] = field(default_factory=dict)


NOTHING = Remembered()


@dataclass(slots=True)
class End:
    """A destination of a transfer. ``failures`` counts runs in a row without its success."""

    name: str
    circuit: Circuit = CLOSED
    failures: int = 0
    last_verdict: str | None = None
    last_success: float | None = None
    data_timestamp: float | None = None
    last_error: str | None = None

    def remember(self, known: Known) -> None:
        """Take over what was known; whom earlier runs left alone is tried again at once."""
        self.failures, self.last_verdict = known.failures, known.last_verdict
        self.last_success, self.data_timestamp = known.last_success, known.data_timestamp

    def succeed(self, moment: Moment, data_timestamp: float | None) -> bool:
        """Note a success; True where it ends a failure."""
        was_failing = self.failures > 0
        self.circuit, self.failures = CLOSED, 0
        self.last_verdict, self.last_error = "succeeded", None
        self.last_success = moment.wall
        if data_timestamp is not None:
            self.data_timestamp = data_timestamp
        return was_failing

    def fail(self, outcome: Outcome, section: Section, moment: Moment, dice: Dice) -> None:
        """Note that it did not succeed; the breaker counts what can be its own doing."""
        self.failures += 1
        self.last_verdict, self.last_error = outcome.verdict.value, outcome.cause
        if outcome.kind not in NOBODYS:
            self.circuit = self.circuit.failed(section.breaker, moment.ticks, dice)

    def status(self, moment: Moment) -> DestinationStatus:
        """Say how it is."""
        until = self.circuit.until
        is_out = until is not None and until > moment.ticks
        state = "out" if is_out else "failing" if self.failures else "ok"
        return DestinationStatus(
            name=self.name,
            state="unknown" if self.last_verdict is None and not self.failures else state,
            failures=self.failures,
            last_verdict=self.last_verdict,
            last_success=self.last_success,
            data_timestamp=self.data_timestamp,
            next_attempt=moment.wall + (until - moment.ticks) if is_out and until else None,
            last_error=self.last_error,
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """A run that is due: ``since`` when (ticks); to all destinations where none are named.

    ``is_asked``: somebody triggered it, so that nobody is left alone and no pause holds it.
    """

    since: float
    destinations: tuple[str, ...] = ()
    is_full: bool = False
    is_asked: bool = False


@dataclass(slots=True)
class Task:
    """``due``: when it is due next; ``wish``: that it is due, and has not begun.

    ``obstacle``: what keeps it from its turn; ``queue``: what it waits for when it has its turn.
    """

    name: str
    section: Section
    schedule: Schedule
    ends: dict[str, End]
    due: Due | None = None
    wish: Wish | None = None
    obstacle: str | None = None
    queue: str | None = None
    is_paused: bool = False
    run: str | None = None
    last_started: float | None = None
    last_ended: float | None = None
    last_verdict: str | None = None
    last_error: str | None = None

    @classmethod
    def of(cls, name: str, section: Section) -> Task:
        """Make the task of a transfer that is new."""
        ends = {each: End(each) for each in section.destinations}
        return cls(name, section, Schedule.of(section), ends)

    def change(self, section: Section) -> bool:
        """Go on with another section; True where its schedule is another one."""
        before, self.section = self.schedule, section
        self.schedule = Schedule.of(section)
        self.ends = {each: self.ends.get(each) or End(each) for each in section.destinations}
        return before != self.schedule

    def chosen(self, ticks: float) -> tuple[str, ...]:
        """Return the destinations that a run at `ticks` would try."""
        if self.wish is not None and self.wish.destinations:
            return tuple(each for each in self.wish.destinations if each in self.ends)
        if self.wish is not None and self.wish.is_asked:
            return tuple(self.ends)
        return tuple(name for name, end in self.ends.items() if end.circuit.admits(ticks))

    def next_attempt(self, ticks: float) -> float | None:
        """Return when the first destination that is left alone may be tried again."""
        left_alone = [
            end.circuit.until
            for end in self.ends.values()
            if end.circuit.until is not None and end.circuit.until > ticks
        ]
        return min(left_alone, default=None)

    def begin(self, moment: Moment) -> None:
        """Note that a run has begun."""
        self.wish = self.obstacle = self.queue = self.run = None
        self.last_started = moment.wall

    @property
    def is_ready(self) -> bool:
        """Whether it is due, and no pause holds it."""
        return self.wish is not None and (self.wish.is_asked or not self.is_paused)

    def end(
        self, report: Report | None, cause: str | None, fed: Iterable[str], moment: Moment
    ) -> None:
        """Note how the run to the destinations `fed` ended; without a report it did not begin."""
        self.run, self.last_ended = None, moment.wall
        self.last_verdict = "failed" if report is None else report.verdict.value
        if report is None:
            self.last_error = cause
            for end in [self.ends[name] for name in fed if name in self.ends]:
                end.failures += 1
                end.last_error = cause
        else:
            self.last_error = _first_cause(report.outcomes)

    def status(self, moment: Moment, *, is_running: bool) -> TransferStatus:
        """Say how it is."""
        state = "idle"
        if is_running:
            state = "running"
        elif self.is_ready:
            state = "waiting" if self.obstacle is not None else "queued"
        elif self.is_paused:
            state = "paused"
        return TransferStatus(
            name=self.name,
            state=state,
            destinations=tuple(end.status(moment) for end in self.ends.values()),
            run=self.run,
            reason=(self.obstacle or self.queue) if self.is_ready and not is_running else None,
            next_run=None if self.due is None or self.is_paused else self.due.unix(moment),
            last_started=self.last_started,
            last_ended=self.last_ended,
            last_verdict=self.last_verdict,
            last_error=self.last_error,
        )


def _first_cause(outcomes: Sequence[Outcome]) -> str | None:
    return next((f"{each.destination}: {each.cause}" for each in outcomes if each.cause), None)
