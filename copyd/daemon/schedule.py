"""The due times of a transfer: pure; time and randomness are arguments.

``every`` counts on the monotonic clock, in steps from the run before, without drift.
``cron`` is a time of day, with daylight saving as in Debian's cron: a run in the skipped hour is
due right after it, and a run in the repeated hour is due once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Literal

from cronsim import CronSim

from copyd.config import zone_of

if TYPE_CHECKING:
    from copyd.config import Transfer

Rng = Callable[[], float]  # returns a random number from 0 up to 1

LATE = 60.0  # seconds after which a run that has not started counts as missed
SET_BACK = 3 * 3600.0  # seconds up to which a clock that is set back repeats no run, as in cron(8)


@dataclass(frozen=True, slots=True)
class Instant:
    """An instant on two clocks: ``ticks`` never jumps, ``wall`` (Unix time) may."""

    ticks: float
    wall: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule of a transfer; without ``every`` and ``cron`` it runs on request only."""

    every: float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    jitter: float = 0.0
    catch_up: Literal["once", "skip"] = "once"

    @classmethod
    def of(cls, section: Transfer) -> Schedule:
        return cls(section.every, section.cron, section.timezone, section.jitter, section.catch_up)


@dataclass(frozen=True, slots=True)
class Due:
    """A due time: ``nominal``, and with jitter ``at``; Unix time if ``is_wall``, else ticks."""

    nominal: float
    at: float
    is_wall: bool

    def seconds_from(self, moment: Instant) -> float:
        """Seconds from `moment`; negative if past."""
        return self.at - (moment.wall if self.is_wall else moment.ticks)

    def unix(self, moment: Instant) -> float:
        return moment.wall + self.seconds_from(moment)


def first(
    schedule: Schedule, moment: Instant, *, last_started: float | None, rng: Rng
) -> Due | None:
    """Return the first due time after the daemon's start at `moment`.

    `last_started`: Unix time of the last run, None if unknown. Missed runs since then are made up
    for once or never, depending on ``catch_up``.
    """
    if schedule.every is not None:
        wait = _first_wait(schedule.every, schedule, moment, last_started)
        return _due(schedule, moment.ticks + wait, rng)
    is_known = last_started is not None and last_started - moment.wall <= SET_BACK
    base = last_started if is_known and schedule.catch_up == "once" else moment.wall
    nominal = _next(schedule, base or moment.wall)
    return None if nominal is None else _due(schedule, max(nominal, moment.wall), rng)


def following(schedule: Schedule, due: Due, moment: Instant, rng: Rng) -> Due | None:
    """Return the first due time after both `due` and `moment`; those in between are missed."""
    if schedule.every is not None:
        # On the grid of the first run, not from now: the schedule does not drift.
        # Decision: every follows a grid, cron a zone that is UTC
        steps = max(math.floor((moment.ticks - due.nominal) / schedule.every), 0) + 1
        return _due(schedule, due.nominal + steps * schedule.every, rng)
    is_set_back = moment.wall < due.nominal - SET_BACK
    nominal = _next(schedule, moment.wall if is_set_back else max(due.nominal, moment.wall))
    return None if nominal is None else _due(schedule, nominal, rng)


def is_missed(schedule: Schedule, due: Due, moment: Instant) -> bool:
    """Whether a due run is too late to start."""
    return schedule.catch_up == "skip" and due.seconds_from(moment) < -LATE


def is_set_back(before: Instant, now: Instant) -> bool:
    """Whether the wall clock was set back by more than `SET_BACK` between two instants."""
    return (now.wall - before.wall) - (now.ticks - before.ticks) < -SET_BACK


def _first_wait(
    every: float, schedule: Schedule, moment: Instant, last_started: float | None
) -> float:
    if last_started is None:
        return 0.0
    age = max(moment.wall - last_started, 0.0)
    if age < every:
        return every - age
    return 0.0 if schedule.catch_up == "once" else every - age % every


def _due(schedule: Schedule, nominal: float, rng: Rng) -> Due:
    return Due(nominal, nominal + schedule.jitter * rng(), is_wall=schedule.every is None)


def _next(schedule: Schedule, after: float) -> float | None:
    if schedule.cron is None:
        return None
    start = datetime.fromtimestamp(after, _zone(schedule.timezone))
    try:
        return next(CronSim(schedule.cron, start)).timestamp()
    except StopIteration:
        return None


@cache
def _zone(name: str) -> tzinfo:
    return zone_of(name)
