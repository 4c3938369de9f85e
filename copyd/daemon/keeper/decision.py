"""A cluster's next step, from its configuration, an observation and its past: pure.

Nothing here touches a file, a process or a clock; ``now`` is the monotonic clock, in seconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from copyd.backoff import backoff
from copyd.cluster import State
from copyd.daemon.keeper.records import Made

if TYPE_CHECKING:
    from copyd.config import Cluster as Section


class Condition(enum.Enum):
    """A cluster's state in the status, the metrics and docs/clusters.md."""

    NEW = "new"  # not inspected yet
    INITIALIZING = "initializing"
    STARTING = "starting"
    UP = "up"
    SILENT = "silent"  # runs, but does not answer
    STOPPING = "stopping"
    DOWN = "down"  # starts again after a pause, or is not copyd's to start
    LOOPING = "looping"  # failed so often that the pauses are long
    REFUSED = "refused"  # waits for somebody to remove the cause
    RELEASED = "released"  # no longer managed


class Place(enum.Enum):
    """The content of a path without a data directory."""

    ABSENT = "absent"
    EMPTY = "empty"
    FILLED = "filled"  # with other files
    UNFINISHED = "unfinished"  # only with the remains of copyd's interrupted initdb
    BUSY = "busy"  # an initdb is running


@dataclass(frozen=True)
class Seen:
    """A cluster as observed. ``is_ours``: copyd started its current or last server.

    ``major``: the version of the data directory; ``place``: only for ``State.VOID``.
    """

    state: State
    is_ours: bool
    answers: bool = True
    place: Place = Place.FILLED
    made: Made = Made.NEVER
    major: int | None = None

    @property
    def runs(self) -> bool:
        """Whether a server process exists."""
        return self.state in {State.STARTING, State.READY, State.STOPPING}


@dataclass(frozen=True)
class Intervals:
    """The keeper's intervals, in seconds."""

    look: float = 1.0  # between two observations of a cluster at rest
    soon: float = 0.1  # between two observations of a cluster in transition
    probe: float = 10.0  # between two connection attempts to a server that answers
    again: float = 60.0  # before a refused configuration is applied again
    backoff: float = 1.0  # before the second start in a row; doubles up to max_backoff
    max_backoff: float = 30.0
    limit: int = 5  # failures in a row that make a cluster looping
    calm: float = 600.0  # of uptime, after which the next failure counts as the first
    pause: float = 300.0  # before the next start of a looping cluster

    def after(self, falls: int, jitter: float) -> float:
        """Return the wait after so many failures in a row; `jitter` is from 0 to 1."""
        if falls >= self.limit:
            return backoff(1, first=self.pause, longest=self.pause, jitter=jitter)
        return backoff(falls, first=self.backoff, longest=self.max_backoff, jitter=jitter)


@dataclass(frozen=True)
class Past:
    """A cluster's history since the daemon started.

    ``falls``: failures in a row to start or to stay up; ``cause``: of the last failure.
    ``has_run``: a server ran at the last observation, or was started since.
    """

    falls: int = 0
    retry_at: float = 0.0
    cause: str | None = None
    has_run: bool = False
    up_since: float | None = None

    def started(self) -> Past:
        return replace(self, has_run=True, up_since=None)

    def seen_running(self, *, is_up: bool, now: float) -> Past:
        # A server that was up and is silent now keeps its uptime: silence is not a fall.
        since = self.up_since if self.up_since is not None else now if is_up else None
        return replace(self, has_run=True, up_since=since)

    def stopped(self) -> Past:
        """Note a stop on purpose, which is not a failure."""
        return replace(self, has_run=False, up_since=None, retry_at=0.0)

    def fallen(self, cause: str, *, now: float, intervals: Intervals, jitter: float) -> Past:
        was_calm = self.up_since is not None and now - self.up_since >= intervals.calm
        falls = 1 if was_calm else self.falls + 1
        return Past(falls, now + intervals.after(falls, jitter), cause)


@dataclass(frozen=True)
class Initialize:
    """Create the data directory; ``clears``: remove an interrupted initdb's files before."""

    clears: bool = False


@dataclass(frozen=True)
class Start:
    """Start the server; ``is_again``: after a failure."""

    is_again: bool


@dataclass(frozen=True)
class Watch:
    """Leave the server running, with its configuration applied: it accepts connections."""

    is_adopted: bool


@dataclass(frozen=True)
class Await:
    """Observe again soon: the cluster is in transition."""

    condition: Condition
    is_adopted: bool = False


@dataclass(frozen=True)
class Rest:
    """Do nothing until ``until``; None: until an observation differs."""

    condition: Condition
    cause: str
    until: float | None = None
    is_adopted: bool = False


Decision = Initialize | Start | Watch | Await | Rest


def decide(
    section: Section, seen: Seen, past: Past, *, now: float, intervals: Intervals
) -> Decision:
    """Return the next step for a cluster."""
    if seen.runs:
        return _of_running(seen)
    if past.falls and now < past.retry_at:
        condition = Condition.LOOPING if past.falls >= intervals.limit else Condition.DOWN
        return Rest(condition, past.cause or "", past.retry_at)
    if seen.state is State.VOID:
        return _of_void(section, seen)
    # FOREIGN is started too: after a reboot another process may have the lock file's process id.
    # `Cluster.start` settles the case, and refuses if it cannot.
    return _refusal(section, seen) or Start(is_again=past.falls > 0)


def is_stopped_at_exit(section: Section, *, is_ours: bool) -> bool:
    """Whether the server stops with the daemon."""
    return section.is_stopped_at_exit if is_ours else section.takes_over


def may_restart(section: Section, *, is_ours: bool) -> bool:
    """Whether a restart for settings is allowed."""
    return section.allow_restart and (is_ours or section.takes_over)


def _of_running(seen: Seen) -> Decision:
    is_adopted = not seen.is_ours
    if seen.state is State.READY:
        return Watch(is_adopted) if seen.answers else Await(Condition.SILENT, is_adopted)
    is_starting = seen.state is State.STARTING
    return Await(Condition.STARTING if is_starting else Condition.STOPPING, is_adopted)


def _of_void(section: Section, seen: Seen) -> Decision:
    path, place = section.data_directory, seen.place
    if place is Place.BUSY:
        return Await(Condition.INITIALIZING)
    if place is Place.UNFINISHED:
        return Initialize(clears=True)
    if place is Place.FILLED:
        cause = "is not a data directory and not empty: configure another path, or empty this one"
    elif seen.made is Made.DONE:
        # An empty path may be the mount point of a volume that is missing.
        # Decision: Records are named after the data directory
        cause = (
            f"is {place.value}, but held a cluster before: mount its volume; if the volume is "
            "lost, configure another data directory"
        )
    elif not section.init:
        cause = f"is {place.value}: set init = true to create a cluster"
    else:
        return Initialize()
    return Rest(Condition.REFUSED, f"{path} {cause}")


def _refusal(section: Section, seen: Seen) -> Rest | None:
    path = section.data_directory
    if section.version not in (None, seen.major) and seen.major is not None:
        cause = (
            f"{path} is of PostgreSQL {seen.major}, but the configuration says {section.version}: "
            "correct version, or upgrade the data directory with pg_upgrade"
        )
        return Rest(Condition.REFUSED, cause)
    if not seen.is_ours and not section.takes_over:
        cause = (
            f"the server in {path} does not run, and copyd did not start it: start it, or let "
            'copyd start it with on_exit = "stop"'
        )
        return Rest(Condition.DOWN, cause, is_adopted=True)
    return None
