"""Facts about runs and the daemon, in the past tense; a run's come in order, from one thread.

Standard library only. ``destination`` is the name of a destination, bytes are COPY payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """What a destination committed.

    The run wrote or removed ``rows``. The source sent ``read`` rows, ``size`` bytes; ``rejected``
    of these rows were refused and the others ``loaded``.
    """

    rows: int = 0
    read: int = 0
    rejected: int = 0
    size: int = 0

    @property
    def loaded(self) -> int:
        return self.read - self.rejected

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.read + other.read,
            self.rejected + other.rejected,
            self.size + other.size,
        )


NO_ROWS = Counts()


@dataclass(frozen=True, slots=True)
class Event:
    """A fact; its class says what happened."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A run began; ``estimated_rows`` is the source's own estimate, None where it has none."""

    transfer: str
    run: str
    destinations: tuple[str, ...]
    estimated_rows: int | None


@dataclass(frozen=True, slots=True)
class SnapshotTaken(Event):
    """The run's snapshot was taken at `moment`; what it shows is as of ``data_timestamp``.

    Both are Unix time: the daemon's own clock, and the source's, on a standby the last commit that
    it has replayed, None before any.
    """

    moment: float
    data_timestamp: float | None


@dataclass(frozen=True, slots=True)
class PassStarted(Event):
    """One scan of the source began, for these destinations; ``number`` counts from 1."""

    number: int
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataRelayed(Event):
    """Every one of these destinations was given `messages` more messages, `size` more bytes."""

    destinations: frozenset[str]
    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class DestinationDropped(Event):
    """A destination faulted and is out of the pass; ``will_return`` says if it gets another.

    ``kind``: a word for counting, such as "stall" or "connection"; transfers/faults.py has them all.
    """

    destination: str
    cause: str
    will_return: bool
    kind: str = "other"


@dataclass(frozen=True, slots=True)
class DestinationReconciled(Event):
    """A stalled destination was waited for; it has held the others back for so many seconds."""

    destination: str
    held_back: float


@dataclass(frozen=True, slots=True)
class DestinationReintroduced(Event):
    """A dropped destination is back, for a new pass under the same snapshot."""

    destination: str


@dataclass(frozen=True, slots=True)
class RowsMissed(Event):
    """A full scan found rows of `table` that the bounded lookback had missed."""

    destination: str
    table: str
    rows: int


@dataclass(frozen=True, slots=True)
class SourceDropped(Event):
    """The source failed in a pass; ``will_return``: the run goes on under a new snapshot."""

    cause: str
    will_return: bool


@dataclass(frozen=True, slots=True)
class HorizonHeldBack(Event):
    """A transaction that has been open for so many seconds keeps rows from being appended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DestinationEnded(Event):
    """A destination has its verdict.

    ``data_timestamp``: that of the committed snapshot, None where nothing was committed.
    """

    destination: str
    verdict: str
    counts: Counts
    cause: str | None
    data_timestamp: float | None = None


@dataclass(frozen=True, slots=True)
class RejectsPending(Event):
    """Nobody can say yet whether the rejects of a ``run``, this or an earlier one, were committed."""

    destination: str
    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """The run is over."""

    verdict: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RunRefused(Event):
    """A run could not begin: its source cannot be read, or a server cannot be connected to."""

    transfer: str
    cause: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RunMissed(Event):
    """A run that was due did not take place, because the one before it was still under way."""

    transfer: str
    reason: str


@dataclass(frozen=True, slots=True)
class DestinationOut(Event):
    """A destination failed so often that runs leave it alone until then (Unix time)."""

    transfer: str
    destination: str
    failures: int
    next_attempt: float


@dataclass(frozen=True, slots=True)
class DestinationBack(Event):
    """A destination that had been left alone, or had failed, has succeeded again."""

    transfer: str
    destination: str


@dataclass(frozen=True, slots=True)
class ClusterUp(Event):
    """A managed cluster accepts connections; ``is_adopted``: somebody else had started it."""

    cluster: str
    is_adopted: bool


@dataclass(frozen=True, slots=True)
class ClusterDown(Event):
    """A managed cluster does not run; ``retry_in`` seconds, None where nobody starts it again."""

    cluster: str
    cause: str
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class ClusterRestarted(Event):
    """The daemon started a managed cluster again, after a crash or for its settings."""

    cluster: str


@dataclass(frozen=True, slots=True)
class ClusterConfigured(Event):
    """The settings (by name) or the hba ("hba") of a managed cluster were changed, or not.

    ``pending_restart``: what only holds after a restart; ``problems``: what was refused, and why.
    """

    cluster: str
    changed: tuple[str, ...]
    pending_restart: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterReleased(Event):
    """A managed cluster is not the daemon's any more; it was left as it was."""

    cluster: str


@dataclass(frozen=True, slots=True)
class ClusterStopped(Event):
    """The daemon stopped a managed cluster, because it ends itself."""

    cluster: str


@dataclass(frozen=True, slots=True)
class ConfigReloaded(Event):
    """A new configuration holds; ``changes`` are sentences, one for each."""

    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigRefused(Event):
    """A new configuration is not taken, for all these reasons; the old one holds."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DaemonReady(Event):
    """The daemon carries out its transfers from now on."""

    transfers: int
    clusters: int


@dataclass(frozen=True, slots=True)
class DaemonStopping(Event):
    """The daemon begins no more runs, and ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class HistoryFailed(Event):
    """Runs are not recorded any more; told once until it works again. Runs go on as before."""

    cause: str


@dataclass(frozen=True, slots=True)
class HistoryResumed(Event):
    """Runs are recorded again; so many records were lost."""

    lost: int


@dataclass(frozen=True, slots=True)
class ObserverFailed(Event):
    """An observer raised for the first time: it misses events. Runs go on as before."""

    observer: str
    cause: str


Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Observe nothing."""
    del event
