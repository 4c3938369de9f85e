"""The daemon's status: frozen, replaced whole by its loop, safe to read from any thread.

Standard library only. Times are Unix time, None if unknown.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A managed cluster. ``state``: see docs/clusters.md. ``restarts``: those by the daemon.

    ``pending_restart``: settings that need a restart, without ``allow_restart``.
    """

    name: str
    state: str
    is_up: bool
    is_adopted: bool
    restarts: int = 0
    pending_restart: tuple[str, ...] = ()
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A destination as the history remembers it. ``failures``: runs in a row without success."""

    last_success: float | None = None
    data_timestamp: float | None = None
    last_verdict: str | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """A destination of a transfer, across its runs.

    ``state``: "unknown" before the first verdict, "ok", "failing" (each run tries it) or
    "out" (runs skip it until ``next_attempt``: the circuit breaker). ``failures``: runs in a row
    without success. ``data_timestamp``: of its last committed snapshot, by the source's clock.
    """

    name: str
    state: str
    failures: int = 0
    last_verdict: str | None = None
    last_success: float | None = None
    data_timestamp: float | None = None
    next_attempt: float | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class TransferStatus:
    """A transfer. ``state``: "idle", "queued", "waiting" (for a cluster), "running" or "paused".

    ``run``: the identifier of the current run; ``reason``: why the transfer waits.
    """

    name: str
    state: str
    destinations: tuple[DestinationStatus, ...]
    run: str | None = None
    reason: str | None = None
    next_run: float | None = None
    last_started: float | None = None
    last_ended: float | None = None
    last_verdict: str | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """The last reload of the configuration; ``succeeded_at``: the last successful one."""

    is_successful: bool
    succeeded_at: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObserverStatus:
    """An observer of the daemon's events, such as its log; ``failures``: how many times it raised."""

    name: str
    failures: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The whole daemon at one moment. ``state``: "starting", "ready" or "stopping".

    ``beat``: the loop's last iteration, on the monotonic clock.
    """

    state: str
    started_at: float
    beat: float
    workers: int
    running: int
    clusters: tuple[ClusterStatus, ...]
    transfers: tuple[TransferStatus, ...]
    reload: ReloadStatus
