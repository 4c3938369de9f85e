"""Facts about runs and the daemon; one thread emits all events of a run, in order.

Standard library only. ``destination`` is the name of a destination, bytes are COPY payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """The result of a destination's committed transaction.

    The run wrote or removed ``rows``. The source sent ``read`` rows, ``size`` bytes. The destination
    refused ``rejected`` of these rows and ``loaded`` the others.
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
    """A fact; the class is its name, in the past tense."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A run began; ``estimated_rows`` is the source's own estimate, None if unknown."""

    transfer: str
    run: str
    destinations: tuple[str, ...]
    estimated_rows: int | None


@dataclass(frozen=True, slots=True)
class SnapshotTaken(Event):
    """The run's snapshot was taken at `moment` and shows the data as of ``data_timestamp``.

    Both are Unix time. ``moment``: by copyd's clock. ``data_timestamp``: by the source's clock; on a
    standby, the last replayed commit, None before any.
    """

    moment: float
    data_timestamp: float | None


@dataclass(frozen=True, slots=True)
class PassStarted(Event):
    """A scan of the source began, for these destinations; ``number`` counts from 1."""

    number: int
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataRelayed(Event):
    """Each of these destinations was sent `messages` more messages with `size` more bytes."""

    destinations: frozenset[str]
    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class DestinationDropped(Event):
    """A destination faulted and is out of the pass; ``will_return``: another pass follows.

    ``kind``: the metrics' label, such as "stall" or "connection"; see transfers/faults.py.
    """

    destination: str
    cause: str
    will_return: bool
    kind: str = "other"


@dataclass(frozen=True, slots=True)
class DestinationReconciled(Event):
    """A stalled destination was reconciled; it held the others back for so many seconds."""

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
    """A transaction, open for so many seconds, keeps rows from being appended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DestinationEnded(Event):
    """A destination has its verdict.

    ``data_timestamp``: the committed snapshot's; None if nothing was committed.
    """

    destination: str
    verdict: str
    counts: Counts
    cause: str | None
    data_timestamp: float | None = None


@dataclass(frozen=True, slots=True)
class RejectsPending(Event):
    """It is unknown yet whether the rejects of ``run``, this or an earlier one, were committed."""

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
    """A run could not begin: its source cannot be read, or a connection failed."""

    transfer: str
    cause: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RunMissed(Event):
    """A run was due but did not start, because the last one was still running."""

    transfer: str
    reason: str


@dataclass(frozen=True, slots=True)
class DestinationOut(Event):
    """The circuit breaker opened: runs skip the destination until ``next_attempt`` (Unix time)."""

    transfer: str
    destination: str
    failures: int
    next_attempt: float


@dataclass(frozen=True, slots=True)
class DestinationBack(Event):
    """A destination that had failed, or that runs had skipped, has succeeded again."""

    transfer: str
    destination: str


@dataclass(frozen=True, slots=True)
class ClusterUp(Event):
    """A managed cluster accepts connections; ``is_adopted``: copyd did not start it."""

    cluster: str
    is_adopted: bool


@dataclass(frozen=True, slots=True)
class ClusterDown(Event):
    """A managed cluster does not run; ``retry_in`` (seconds) is None if copyd will not start it."""

    cluster: str
    cause: str
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class ClusterRestarted(Event):
    """The daemon restarted a managed cluster, after a crash or for its settings."""

    cluster: str


@dataclass(frozen=True, slots=True)
class ClusterConfigured(Event):
    """The settings of a managed cluster were changed (by name; "hba" for pg_hba.conf) or refused.

    ``pending_restart``: the settings that need a restart; ``problems``: the refusals with reasons.
    """

    cluster: str
    changed: tuple[str, ...]
    pending_restart: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterReleased(Event):
    """The daemon no longer manages a cluster; its server was left as it was."""

    cluster: str


@dataclass(frozen=True, slots=True)
class ClusterStopped(Event):
    """The daemon, which is stopping, stopped a managed cluster."""

    cluster: str


@dataclass(frozen=True, slots=True)
class ConfigReloaded(Event):
    """A new configuration is in effect; ``changes`` has a sentence for each change."""

    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigRefused(Event):
    """A new configuration was refused for these problems; the old one stays in effect."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DaemonReady(Event):
    """The daemon runs its transfers from now on."""

    transfers: int
    clusters: int


@dataclass(frozen=True, slots=True)
class DaemonStopping(Event):
    """The daemon starts no more runs, and stops."""

    reason: str


@dataclass(frozen=True, slots=True)
class HistoryFailed(Event):
    """Runs cannot be recorded; reported once until `HistoryResumed`. Runs are not affected."""

    cause: str


@dataclass(frozen=True, slots=True)
class HistoryResumed(Event):
    """Runs are recorded again; ``lost`` records are missing."""

    lost: int


@dataclass(frozen=True, slots=True)
class ObserverFailed(Event):
    """An observer raised for the first time, and so missed an event. Runs are not affected."""

    observer: str
    cause: str


Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An observer that does nothing."""
    del event
