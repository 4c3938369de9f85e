"""What to do next with a cluster: pure decisions from what is wanted, seen and remembered.

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


class Word(enum.Enum):
    """How a cluster is, in a word for people."""

    NEW = "new"
    """Not looked at yet."""
    INITIALIZING = "initializing"
    STARTING = "starting"
    UP = "up"
    SILENT = "silent"
    """It runs, and does not answer."""
    STOPPING = "stopping"
    DOWN = "down"
    """It will be started after a pause, or nobody starts it: the reason says which."""
    LOOPING = "looping"
    """It fell so often that the pauses are long."""
    REFUSED = "refused"
    """Nothing is done with it until what the reason says is set right."""
    RELEASED = "released"
    """Not the daemon's any more."""


class Place(enum.Enum):
    """What is at the path of a data directory that is none."""

    ABSENT = "absent"
    EMPTY = "empty"
    FILLED = "filled"
    """With something else."""
    UNFINISHED = "unfinished"
    """With what an initdb of copyd's left that did not come to its end, and nothing else."""
    BUSY = "busy"
    """With an initdb that still runs."""


@dataclass(frozen=True)
class Seen:
    """A cluster as it was found just now."""

    state: State
    is_ours: bool
    """Whether copyd started its server, or the last one that ran."""
    answers: bool = True
    place: Place = Place.FILLED
    made: Made = Made.NEVER
    major: int | None = None
    """The data directory's version."""

    @property
    def runs(self) -> bool:
        """Whether there is a server process."""
        return self.state in {State.STARTING, State.READY, State.STOPPING}


@dataclass(frozen=True)
class Intervals:
    """How long to wait for what, in seconds."""

    look: float = 1.0
    """Between two looks at what is as it should be, or at what only somebody else can change."""
    soon: float = 0.1
    """Between two looks at what changes by itself."""
    probe: float = 10.0
    """Between two questions whether a server answers."""
    again: float = 60.0
    """Before a configuration that had problems is tried again."""
    backoff: float = 1.0
    """Before the second start in a row; twice as long before each next one."""
    max_backoff: float = 30.0
    limit: int = 5
    """How many times in a row a server may fall before it is called looping."""
    calm: float = 600.0
    """How long a server must have been up for its next fall to count as the first."""
    pause: float = 300.0
    """Before the next start of one that loops."""

    def after(self, falls: int, jitter: float) -> float:
        """Return how long to wait after so many falls in a row; `jitter` is from 0 to 1.

        One that loops waits for ``pause``, as jittered.
        """
        if falls >= self.limit:
            return backoff(1, first=self.pause, longest=self.pause, jitter=jitter)
        return backoff(falls, first=self.backoff, longest=self.max_backoff, jitter=jitter)


@dataclass(frozen=True)
class Past:
    """What is remembered of a cluster since the daemon, or its configuration, is there."""

    falls: int = 0
    """How many times in a row it failed to start or went down."""
    retry_at: float = 0.0
    cause: str | None = None
    """Of the last fall."""
    has_run: bool = False
    """Whether a server ran when it was last looked at, or was started since."""
    up_since: float | None = None

    def started(self) -> Past:
        """Note that a server was started."""
        return replace(self, has_run=True, up_since=None)

    def seen_running(self, *, is_up: bool, now: float) -> Past:
        """Note that a server runs; one that has been up when last seen may have gone silent."""
        since = self.up_since if self.up_since is not None else now if is_up else None
        return replace(self, has_run=True, up_since=since)

    def stopped(self) -> Past:
        """Note that it was stopped on purpose: no fall."""
        return replace(self, has_run=False, up_since=None, retry_at=0.0)

    def fallen(self, cause: str, *, now: float, intervals: Intervals, jitter: float) -> Past:
        """Note a fall, and when the next start is due."""
        was_calm = self.up_since is not None and now - self.up_since >= intervals.calm
        falls = 1 if was_calm else self.falls + 1
        return Past(falls, now + intervals.after(falls, jitter), cause)


@dataclass(frozen=True)
class Initialize:
    """Make the data directory; ``clears``: after removing what an initdb left half-made."""

    clears: bool = False


@dataclass(frozen=True)
class Start:
    """Start the server; ``is_again`` is false for the first time since the daemon is there."""

    is_again: bool


@dataclass(frozen=True)
class Watch:
    """Leave it as it is: it accepts connections."""

    is_adopted: bool


@dataclass(frozen=True)
class Await:
    """Look again soon: it changes by itself."""

    word: Word
    is_adopted: bool = False


@dataclass(frozen=True)
class Rest:
    """Do nothing before ``until``; None: nothing at all, until what is seen has changed."""

    word: Word
    cause: str
    until: float | None = None
    is_adopted: bool = False


Decision = Initialize | Start | Watch | Await | Rest


def decide(
    section: Section, seen: Seen, past: Past, *, now: float, intervals: Intervals
) -> Decision:
    """Say what is next."""
    if seen.runs:
        return _of_running(seen)
    if past.falls and now < past.retry_at:
        word = Word.LOOPING if past.falls >= intervals.limit else Word.DOWN
        return Rest(word, past.cause or "", past.retry_at)
    if seen.state is State.VOID:
        return _of_void(section, seen)
    refusal = _refusal(section, seen)
    if refusal is not None:
        return refusal
    # One that is called foreign may have a lock file whose process is another one by now, as
    # after a restart of the machine: starting tells, and refuses where it cannot be told.
    return Start(is_again=past.falls > 0)


def is_stopped_at_exit(section: Section, *, is_ours: bool) -> bool:
    """Whether the daemon's end is the server's."""
    return section.is_stopped_at_exit if is_ours else section.takes_over


def may_restart(section: Section, *, is_ours: bool) -> bool:
    """Whether the server may be restarted for its settings."""
    return section.allow_restart and (is_ours or section.takes_over)


def _of_running(seen: Seen) -> Decision:
    is_adopted = not seen.is_ours
    if seen.state is State.READY:
        return Watch(is_adopted) if seen.answers else Await(Word.SILENT, is_adopted)
    word = Word.STARTING if seen.state is State.STARTING else Word.STOPPING
    return Await(word, is_adopted)


def _of_void(section: Section, seen: Seen) -> Decision:
    path = section.data_directory
    if seen.place is Place.BUSY:
        return Await(Word.INITIALIZING)
    if seen.place is Place.UNFINISHED:
        return Initialize(clears=True)
    if seen.place is Place.FILLED:
        return _refused(
            f"{path} is no data directory, and not empty: name another one, or empty it"
        )
    if seen.made is Made.DONE:
        return _refused(
            f"{path} is {seen.place.value}, but there was a cluster: mount its volume; if it is "
            "gone for good, name another data directory"
        )
    if not section.init:
        return _refused(f"{path} is {seen.place.value}: set init = true to have a cluster made")
    return Initialize()


def _refusal(section: Section, seen: Seen) -> Rest | None:
    if section.version not in (None, seen.major) and seen.major is not None:
        return _refused(
            f"{section.data_directory} is of PostgreSQL {seen.major}, and the configuration says "
            f"{section.version}: set that right, or bring the data on with pg_upgrade"
        )
    if not seen.is_ours and not section.takes_over:
        return Rest(
            Word.DOWN,
            f"the server in {section.data_directory}, which copyd had not started, does not run: "
            'start it, or let copyd do that with on_exit = "stop"',
            is_adopted=True,
        )
    return None


def _refused(cause: str) -> Rest:
    return Rest(Word.REFUSED, cause)
