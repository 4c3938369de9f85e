"""A transfer and its destinations across runs; belongs to the supervisor's loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd.daemon.breaker import CLOSED, Circuit
from copyd.daemon.schedule import Due, Schedule, first, following, is_missed
from copyd.status import DestinationStatus, Known, TransferStatus
from copyd.transfers import NOBODYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from copyd.config import Transfer as Section
    from copyd.daemon.schedule import Instant, Rng
    from copyd.transfers import Outcome, Report


@dataclass(frozen=True, slots=True)
class Remembered:
    """An earlier daemon's knowledge: last starts by transfer; destinations by transfer and name."""

    last_started: Mapping[str, float] = field(default_factory=dict)
    destinations: Mapping[tuple[str, str], Known] = field(default_factory=dict)


NOTHING = Remembered()


@dataclass(slots=True)
class TaskDestination:
    """A destination of a transfer; ``failures``: runs in a row without its success."""

    name: str
    circuit: Circuit = CLOSED
    failures: int = 0
    last_verdict: str | None = None
    last_success: float | None = None
    data_timestamp: float | None = None
    last_error: str | None = None

    def remember(self, known: Known) -> None:
        """Adopt an earlier daemon's knowledge; the breaker starts closed."""
        self.failures, self.last_verdict = known.failures, known.last_verdict
        self.last_success, self.data_timestamp = known.last_success, known.data_timestamp

    def succeeded(self, now: Instant, data_timestamp: float | None) -> bool:
        """Note a success; return whether it ends a failure."""
        was_failing = self.failures > 0
        self.circuit, self.failures = CLOSED, 0
        self.last_verdict, self.last_error = "succeeded", None
        self.last_success = now.wall
        if data_timestamp is not None:
            self.data_timestamp = data_timestamp
        return was_failing

    def failed(self, outcome: Outcome, section: Section, now: Instant, rng: Rng) -> None:
        """Note a failure; the breaker counts it unless its kind is nobody's fault."""
        self.failures += 1
        self.last_verdict, self.last_error = outcome.verdict.value, outcome.cause
        # Decision: A breaker counts a destination's own failures
        if outcome.kind not in NOBODYS:
            self.circuit = self.circuit.failed(section.breaker, now.ticks, rng)

    def next_attempt(self, now: Instant) -> float | None:
        """Return when runs try the destination again (Unix time); None: the next run does."""
        until = self.circuit.until
        return None if until is None or until <= now.ticks else now.wall + until - now.ticks

    def status(self, now: Instant) -> DestinationStatus:
        next_attempt = self.next_attempt(now)
        state = "out" if next_attempt else "failing" if self.failures else "ok"
        return DestinationStatus(
            name=self.name,
            state="unknown" if self.last_verdict is None and not self.failures else state,
            failures=self.failures,
            last_verdict=self.last_verdict,
            last_success=self.last_success,
            data_timestamp=self.data_timestamp,
            next_attempt=next_attempt,
            last_error=self.last_error,
        )


@dataclass(frozen=True, slots=True)
class PendingRun:
    """A run due ``since`` (ticks), to all destinations if none is named.

    ``is_triggered``: an operator asked for the run, so pauses and breakers do not apply.
    """

    since: float
    destinations: tuple[str, ...] = ()
    is_full: bool = False
    is_triggered: bool = False


@dataclass(slots=True)
class Task:
    """A transfer. ``due``: its next due time; ``pending``: the due run, not started yet.

    ``obstacle``: why the pending run may not start; ``queue``: the capacity that it waits for.
    """

    name: str
    section: Section
    schedule: Schedule
    destinations: dict[str, TaskDestination]
    due: Due | None = None
    pending: PendingRun | None = None
    obstacle: str | None = None
    queue: str | None = None
    is_paused: bool = False
    run: str | None = None
    last_started: float | None = None
    last_ended: float | None = None
    last_verdict: str | None = None
    last_error: str | None = None

    @classmethod
    def of(cls, name: str, section: Section, remembered: Remembered = NOTHING) -> Task:
        destinations = {each: TaskDestination(each) for each in section.destinations}
        task = cls(name, section, Schedule.of(section), destinations)
        task.last_started = remembered.last_started.get(name)
        for each in destinations.values():
            known = remembered.destinations.get((name, each.name))
            if known is not None:
                each.remember(known)
        return task

    def change(self, section: Section) -> bool:
        """Change to another section; return whether the schedule differs."""
        before, self.section = self.schedule, section
        self.schedule = Schedule.of(section)
        self.destinations = {
            each: self.destinations.get(each) or TaskDestination(each)
            for each in section.destinations
        }
        return before != self.schedule

    # -- when it is due ---------------------------------------------------------------------------

    def plan(self, now: Instant, rng: Rng) -> None:
        """Compute the first due time of a new schedule."""
        self.due = first(self.schedule, now, last_started=self.last_started, rng=rng)

    def set_back(self, now: Instant, rng: Rng) -> None:
        """Plan cron runs anew after the wall clock was set back; the monotonic clock never is."""
        if self.schedule.cron is not None:
            self.due = first(self.schedule, now, last_started=None, rng=rng)

    def fall_due(self, now: Instant, rng: Rng, *, is_running: bool) -> str | None:
        """Make a due run pending, and plan the next; return why the run is missed, if so."""
        due = self.due
        if due is None or due.seconds_from(now) > 0:
            return None
        missed = self._why_missed(due, now, is_running=is_running)
        if missed is None and self.pending is None:
            is_skipped = self.is_paused and self.schedule.catch_up == "skip"
            self.pending = None if is_skipped else PendingRun(since=now.ticks)
        self.due = following(self.schedule, due, now, rng)
        return missed

    def _why_missed(self, due: Due, now: Instant, *, is_running: bool) -> str | None:
        if self.is_paused:
            return None  # skipped on purpose
        if is_missed(self.schedule, due, now):
            return f"it was noticed {-due.seconds_from(now):.0f} s too late"
        if self.pending is not None:
            reason = self.obstacle or self.queue or "the one before that is still running"
            return f"the previous run has not started yet: {reason}"
        if is_running and self.schedule.catch_up == "skip":
            return "the previous run is still running"
        return None

    # -- its runs ---------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether a run is pending and not paused."""
        return self.pending is not None and (self.pending.is_triggered or not self.is_paused)

    def chosen(self, ticks: float) -> tuple[str, ...]:
        """Return the destinations of a run at `ticks`."""
        if self.pending is not None and self.pending.destinations:
            return tuple(each for each in self.pending.destinations if each in self.destinations)
        if self.pending is not None and self.pending.is_triggered:
            return tuple(self.destinations)
        return tuple(name for name, each in self.destinations.items() if each.circuit.admits(ticks))

    def next_attempt(self, ticks: float) -> float | None:
        """Return when the first open breaker admits its destination (ticks)."""
        waits = [each.circuit.until for each in self.destinations.values()]
        return min((until for until in waits if until is not None and until > ticks), default=None)

    def started(self, now: Instant) -> None:
        self.pending = self.obstacle = self.queue = self.run = None
        self.last_started = now.wall

    def ended(
        self, report: Report | None, cause: str | None, fed: Iterable[str], now: Instant
    ) -> None:
        """Note the end of the run to the destinations `fed`; without a report it did not start."""
        self.run, self.last_ended = None, now.wall
        self.last_verdict = "failed" if report is None else report.verdict.value
        if report is None:
            self.last_error = cause
            for each in [self.destinations[name] for name in fed if name in self.destinations]:
                each.failures += 1
                each.last_error = cause
        else:
            causes = (f"{each.destination}: {each.cause}" for each in report.outcomes if each.cause)
            self.last_error = next(causes, None)

    def status(self, now: Instant, *, is_running: bool) -> TransferStatus:
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
            destinations=tuple(each.status(now) for each in self.destinations.values()),
            run=self.run,
            reason=(self.obstacle or self.queue) if self.is_ready and not is_running else None,
            next_run=None if self.due is None or self.is_paused else self.due.unix(now),
            last_started=self.last_started,
            last_ended=self.last_ended,
            last_verdict=self.last_verdict,
            last_error=self.last_error,
        )
