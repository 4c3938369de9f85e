"""What the daemon says of itself: frozen, published whole by its loop, read by anybody.

Standard library only. Points in time are seconds since 1970 (Unix time), None where not known.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A managed cluster. ``state`` is a word for people; ``restarts`` count what the daemon did.

    ``pending_restart``: settings that only hold after a restart, which is not allowed.
    """

    name: str
    state: str
    is_up: bool
    is_adopted: bool
    restarts: int = 0
    pending_restart: tuple[str, ...] = ()
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """A destination of a transfer, across its runs.

    ``state``: "unknown" before the first verdict, "ok", "failing" (it is tried in each run) or
    "out" (the circuit breaker leaves it alone until ``next_attempt``). ``failures``: runs in a row
    that it did not succeed in. ``data_timestamp``: the source's clock at the snapshot it holds.
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

    ``run``: the identifier of the run in flight; ``reason``: what it waits for.
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
    """How the last reading of the configuration went; ``succeeded_at``: the last that did."""

    is_successful: bool
    succeeded_at: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObserverStatus:
    """An observer of the daemon's events, such as its log; ``failures``: how often it raised."""

    name: str
    failures: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything at one moment. ``state``: "starting", "ready" or "stopping".

    ``beat``: when the loop last went round, on the monotonic clock.
    """

    state: str
    started_at: float
    beat: float
    workers: int
    running: int
    clusters: tuple[ClusterStatus, ...]
    transfers: tuple[TransferStatus, ...]
    reload: ReloadStatus
