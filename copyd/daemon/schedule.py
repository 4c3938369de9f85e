"""When one transfer is due: pure; time and chance are arguments.

``every`` counts on the monotonic clock, in steps from the run before, so that no run drifts.
``cron`` is a time of day, with daylight saving as Debian's cron has it: what falls into an hour that
is left out comes right after it, and what falls into an hour that comes twice is run once.
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

Rng = Callable[[], float]
"""Returns a number from 0 up to 1, by chance."""

LATE = 60.0
"""Seconds after which a run that nobody began counts as missed."""
SET_BACK = 3 * 3600.0
"""A clock set back by no more than so many seconds repeats no run; one set back by more is obeyed."""


@dataclass(frozen=True, slots=True)
class Instant:
    """One instant on two clocks: ``ticks``, which never jump, and ``wall`` (Unix time), which may."""

    ticks: float
    wall: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a transfer's keys say of when it runs; neither ``every`` nor ``cron``: never by itself."""

    every: float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    jitter: float = 0.0
    catch_up: Literal["once", "skip"] = "once"

    @classmethod
    def of(cls, section: Transfer) -> Schedule:
        """Take them from a section of the configuration."""
        return cls(section.every, section.cron, section.timezone, section.jitter, section.catch_up)


@dataclass(frozen=True, slots=True)
class Due:
    """When a run is due: ``at``, which is ``nominal`` and some jitter.

    Both on the wall clock for cron, in ticks for every.
    """

    nominal: float
    at: float
    is_wall: bool

    def seconds_from(self, moment: Instant) -> float:
        """How long from `moment` on; below zero once it is past."""
        return self.at - (moment.wall if self.is_wall else moment.ticks)

    def unix(self, moment: Instant) -> float:
        """When that is in Unix time, as things stand at `moment`."""
        return moment.wall + self.seconds_from(moment)


def first(
    schedule: Schedule, moment: Instant, *, last_started: float | None, rng: Rng
) -> Due | None:
    """Return when the first run is due of a daemon that starts at `moment`.

    `last_started` (Unix time): when the last run of any earlier daemon began, None where nobody
    knows. What was missed since is made up for once, or not at all, as the schedule says.
    """
    if schedule.every is not None:
        wait = _first_wait(schedule.every, schedule, moment, last_started)
        return _jittered(schedule, moment.ticks + wait, is_wall=False, rng=rng)
    if schedule.cron is not None:
        is_known = last_started is not None and last_started - moment.wall <= SET_BACK
        base = last_started if is_known and schedule.catch_up == "once" else moment.wall
        nominal = _next(schedule.cron, schedule.timezone, base or moment.wall)
        if nominal is not None:
            return _jittered(schedule, max(nominal, moment.wall), is_wall=True, rng=rng)
    return None


def following(schedule: Schedule, due: Due, moment: Instant, rng: Rng) -> Due | None:
    """Return the one after `due` that lies beyond `moment`; those in between are missed."""
    if schedule.every is not None:
        steps = max(math.floor((moment.ticks - due.nominal) / schedule.every), 0) + 1
        nominal = due.nominal + steps * schedule.every
        return _jittered(schedule, nominal, is_wall=False, rng=rng)
    if schedule.cron is not None:
        is_set_back = moment.wall < due.nominal - SET_BACK
        base = moment.wall if is_set_back else max(due.nominal, moment.wall)
        found = _next(schedule.cron, schedule.timezone, base)
        if found is not None:
            return _jittered(schedule, found, is_wall=True, rng=rng)
    return None


def is_missed(schedule: Schedule, due: Due, moment: Instant) -> bool:
    """Whether a run that is due now is so late that it is left out."""
    return schedule.catch_up == "skip" and due.seconds_from(moment) < -LATE


def is_set_back(before: Instant, now: Instant) -> bool:
    """Whether the wall clock was set back so far between two moments that it is to be obeyed."""
    return (now.wall - before.wall) - (now.ticks - before.ticks) < -SET_BACK


def _first_wait(
    every: float, schedule: Schedule, moment: Instant, last_started: float | None
) -> float:
    """Seconds until the first run, without jitter."""
    if last_started is None:
        return 0.0
    age = max(moment.wall - last_started, 0.0)
    if age < every:
        return every - age
    return 0.0 if schedule.catch_up == "once" else every - age % every


def _jittered(schedule: Schedule, nominal: float, *, is_wall: bool, rng: Rng) -> Due:
    return Due(nominal, nominal + schedule.jitter * rng(), is_wall)


def _next(expression: str, timezone: str, after: float) -> float | None:
    """Return the next match in Unix time; None where there is none within fifty years."""
    start = datetime.fromtimestamp(after, _zone(timezone))
    try:
        return next(CronSim(expression, start)).timestamp()
    except StopIteration:
        return None


@cache
def _zone(name: str) -> tzinfo:
    return zone_of(name)
