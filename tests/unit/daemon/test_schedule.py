"""When runs are due, on clocks that a test sets."""

from __future__ import annotations

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.daemon.schedule import (
    LATE,
    Due,
    Instant,
    Schedule,
    first,
    following,
    is_missed,
    is_set_back,
)

BERLIN = ZoneInfo("Europe/Berlin")
HOUR, DAY = 3600.0, 86_400.0
NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc).timestamp()
START = Instant(ticks=1000.0, wall=NOON)
NIGHTLY = Schedule(cron="0 3 * * *")


def no_jitter() -> float:
    return 0.0


def later(seconds: float, moment: Instant = START) -> Instant:
    return Instant(moment.ticks + seconds, moment.wall + seconds)


def begin(schedule: Schedule, moment: Instant = START, last: float | None = None) -> Due:
    due = first(schedule, moment, last_started=last, rng=no_jitter)
    assert due is not None
    return due


def go_on(schedule: Schedule, due: Due, moment: Instant) -> Due:
    found = following(schedule, due, moment, no_jitter)
    assert found is not None
    return found


def local(year: int, month: int, day: int, hour: int, minute: int = 0) -> float:
    return datetime(year, month, day, hour, minute, tzinfo=BERLIN).timestamp()


def runs(schedule: Schedule, start: float, number: int) -> list[str]:
    """When the next runs are, in local time with its distance from UTC."""
    moment = Instant(0.0, start)
    due = first(schedule, moment, last_started=None, rng=no_jitter)
    found = []
    for _ in range(number):
        assert due is not None
        found.append(datetime.fromtimestamp(due.at, BERLIN).strftime("%d %H:%M %z"))
        due = following(schedule, due, Instant(0.0, due.at), no_jitter)
    return found


# -- every ----------------------------------------------------------------------------------------


def test_without_a_schedule_nothing_is_due() -> None:
    assert first(Schedule(), START, last_started=None, rng=no_jitter) is None
    assert following(Schedule(), Due(0, 0, is_wall=False), START, no_jitter) is None


def test_the_very_first_run_is_due_at_once() -> None:
    assert begin(Schedule(every=300)).seconds_from(START) == 0


@pytest.mark.parametrize(
    ("age", "catch_up", "wait"),
    [
        (100.0, "once", 200.0),
        (100.0, "skip", 200.0),
        (1000.0, "once", 0.0),  # three were missed, one is made up for
        (1000.0, "skip", 200.0),
        (-50.0, "once", 300.0),  # the clock was set back
    ],
)
def test_after_a_restart_the_pace_goes_on(age: float, catch_up: str, wait: float) -> None:
    schedule = Schedule(every=300, catch_up="once" if catch_up == "once" else "skip")
    due = begin(schedule, last=START.wall - age)
    assert due.seconds_from(START) == pytest.approx(wait)


def test_a_run_that_begins_late_does_not_delay_those_after_it() -> None:
    schedule = Schedule(every=300)
    due = begin(schedule)
    second = go_on(schedule, due, later(7))
    assert second.at == due.at + 300
    assert go_on(schedule, second, later(300 + 299)).at == due.at + 600


def test_what_passed_meanwhile_is_left_out() -> None:
    schedule = Schedule(every=300)
    due = begin(schedule)
    assert go_on(schedule, due, later(3000)).at == due.at + 3300


def test_every_does_not_look_at_the_wall_clock() -> None:
    due = go_on(Schedule(every=300), begin(Schedule(every=300)), START)
    jumped = Instant(START.ticks + 100, START.wall + 1_000_000)
    assert due.seconds_from(jumped) == 200
    assert due.unix(jumped) == jumped.wall + 200


@given(
    every=st.floats(0.001, 1e6),
    jitter=st.floats(0, 1e6),
    rolls=st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=30),
)
def test_jitter_delays_by_no_more_than_it_may_and_never_adds_up(
    every: float, jitter: float, rolls: list[float]
) -> None:
    schedule = Schedule(every=every, jitter=jitter)
    due = first(schedule, START, last_started=None, rng=lambda: rolls[0])
    for number, roll in enumerate(rolls[1:], 1):
        assert due is not None
        assert due.nominal <= due.at <= due.nominal + jitter
        moment = Instant(due.nominal, START.wall)
        due = following(schedule, due, moment, lambda roll=roll: roll)  # type: ignore[misc] # a default binds it
        assert due is not None
        assert due.nominal == pytest.approx(START.ticks + number * every, rel=1e-6)


@given(every=st.floats(0.1, 1e5), waits=st.lists(st.floats(0, 1e6), max_size=20))
def test_the_next_run_always_lies_ahead_and_on_the_grid(every: float, waits: list[float]) -> None:
    schedule = Schedule(every=every)
    due, moment = begin(schedule), START
    for wait in waits:
        moment = later(max(due.seconds_from(moment), 0.0) + wait, moment)
        due = go_on(schedule, due, moment)
        assert -1e-3 < due.seconds_from(moment) <= every + 1e-3
        steps = (due.nominal - START.ticks) / every
        assert steps == pytest.approx(round(steps), abs=1e-3)


# -- cron -----------------------------------------------------------------------------------------


def test_cron_is_due_at_its_time_of_day() -> None:
    assert begin(NIGHTLY).at == NOON + 15 * HOUR
    assert go_on(NIGHTLY, begin(NIGHTLY), later(15 * HOUR)).at == NOON + 39 * HOUR


def test_cron_knows_its_time_zone() -> None:
    berlin = Schedule(cron="0 3 * * *", timezone="Europe/Berlin")
    assert begin(berlin).at == NOON + 13 * HOUR


def test_a_run_in_the_hour_that_spring_leaves_out_comes_right_after_it_and_once() -> None:
    schedule = Schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    assert runs(schedule, local(2026, 3, 28, 12), 3) == [
        "29 03:00 +0200",
        "30 02:30 +0200",
        "31 02:30 +0200",
    ]


def test_a_run_in_the_hour_that_autumn_repeats_comes_once() -> None:
    schedule = Schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    assert runs(schedule, local(2026, 10, 24, 12), 2) == ["25 02:30 +0200", "26 02:30 +0100"]


def test_what_runs_every_half_hour_does_so_through_both_changes() -> None:
    schedule = Schedule(cron="*/30 * * * *", timezone="Europe/Berlin")
    spring = runs(schedule, local(2026, 3, 29, 1), 4)
    assert spring == ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200", "29 04:00 +0200"]
    autumn = runs(schedule, local(2026, 10, 25, 1, 45), 6)
    assert autumn == [
        "25 02:00 +0200",
        "25 02:30 +0200",
        "25 02:00 +0100",
        "25 02:30 +0100",
        "25 03:00 +0100",
        "25 03:30 +0100",
    ]


def test_what_was_missed_before_the_start_is_made_up_for_once() -> None:
    last = NOON - 3 * DAY
    assert begin(NIGHTLY, last=last).at == START.wall
    assert go_on(NIGHTLY, begin(NIGHTLY, last=last), START).at == NOON + 15 * HOUR


def test_what_was_missed_before_the_start_is_left_out_where_that_is_asked_for() -> None:
    skipping = Schedule(cron="0 3 * * *", catch_up="skip")
    assert begin(skipping, last=NOON - 3 * DAY).at == NOON + 15 * HOUR


def test_nothing_is_made_up_for_where_nothing_was_missed() -> None:
    assert begin(NIGHTLY, last=NOON - 9 * HOUR + 1).at == NOON + 15 * HOUR


def test_a_last_run_in_a_far_future_is_not_believed() -> None:
    assert begin(NIGHTLY, last=NOON + 400 * DAY).at == NOON + 15 * HOUR


def test_a_clock_set_forward_makes_the_run_due_once() -> None:
    due = begin(NIGHTLY)
    jumped = Instant(START.ticks + 1, NOON + 3 * DAY)
    assert due.seconds_from(jumped) < 0
    assert go_on(NIGHTLY, due, jumped).at == NOON + 3 * DAY + 15 * HOUR


def test_a_clock_set_back_a_little_repeats_nothing() -> None:
    due = begin(NIGHTLY)
    back = Instant(START.ticks + 15 * HOUR, due.at - 2 * HOUR)
    assert not is_set_back(later(15 * HOUR), back)
    assert go_on(NIGHTLY, due, back).at == due.at + DAY


def test_a_clock_set_back_far_is_obeyed() -> None:
    due = begin(NIGHTLY)
    back = Instant(START.ticks + 15 * HOUR, due.at - 30 * DAY - HOUR)
    assert is_set_back(later(15 * HOUR), back)
    assert go_on(NIGHTLY, due, back).at == due.at - 30 * DAY


@pytest.mark.parametrize(
    ("catch_up", "late", "expected"),
    [("skip", LATE + 1, True), ("skip", LATE - 1, False), ("once", 10 * DAY, False)],
)
def test_a_run_that_is_very_late_is_left_out_where_that_is_asked_for(
    catch_up: str, late: float, expected: bool
) -> None:
    schedule = Schedule(cron="0 3 * * *", catch_up="skip" if catch_up == "skip" else "once")
    due = begin(schedule)
    assert is_missed(schedule, due, Instant(0.0, due.at + late)) is expected
