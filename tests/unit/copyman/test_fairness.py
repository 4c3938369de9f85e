"""Who is behind whom, with times that the test makes up."""

from __future__ import annotations

from math import inf

import pytest

from copyd.copyman.fairness import Budget, Lags


def sheet(**needed: float) -> Lags[str]:
    made: Lags[str] = Lags()
    for party, seconds in needed.items():
        made.charge(party, seconds)
    return made


def test_the_lag_is_the_distance_to_the_fastest_of_the_others() -> None:
    assert sheet(slow=7.0, fast=1.0, middling=3.0).lag("slow", ["fast", "middling"]) == 6.0


def test_two_that_are_slow_are_both_behind_the_one_that_is_not() -> None:
    times = sheet(slow=7.0, slower=9.0, fast=1.0)
    assert times.lag("slow", ["slower", "fast"]) == 6.0
    assert times.lag("slower", ["slow", "fast"]) == 8.0


def test_nobody_is_behind_where_all_are_equally_slow() -> None:
    times = sheet(one=60.0, other=60.0)
    assert times.lag("one", ["other"]) == times.lag("other", ["one"]) == 0.0


def test_taking_turns_at_being_late_cancels_out() -> None:
    times = sheet()
    lags = []
    for step in range(100):
        times.charge("one", 5.0 if step % 2 else 0.0)
        times.charge("other", 0.0 if step % 2 else 5.0)
        lags += [times.lag("one", ["other"]), times.lag("other", ["one"])]
    assert max(lags) == 5.0
    assert lags[-2:] == [0.0, 0.0]


def test_the_fastest_is_ahead_of_all_others() -> None:
    assert sheet(slow=7.0, fast=1.0).lag("fast", ["slow"]) == -6.0


def test_one_that_is_alone_is_behind_nobody() -> None:
    assert sheet(alone=7.0).lag("alone", []) == -inf


@pytest.mark.parametrize(("others", "lag"), [(["fast"], 7.0), (["slow"], 0.0)])
def test_those_that_have_left_are_not_compared_with(others: list[str], lag: float) -> None:
    assert sheet(late=7.0, slow=7.0).lag("late", others) == lag


def test_what_is_forgiven_is_never_more_than_what_was_charged() -> None:
    times = sheet(slow=7.0, fast=1.0)
    times.credit(["slow", "fast"], 2.0)
    assert times.lag("slow", ["fast"]) == 5.0
    times.credit(["slow", "fast"], 100.0)
    times.charge("slow", 3.0)
    assert times.lag("slow", ["fast"]) == 3.0


def test_a_copy_at_a_quarter_of_its_best_speed_is_at_a_good_pace() -> None:
    pace = Budget()
    for tick in range(30):  # 100 MB/s for three seconds
        pace.seconds_for(10_000_000, moment=tick / 10)
    assert pace.seconds_for(25_000_000, moment=3.1) == pytest.approx(1.0)
    for tick in range(30):  # slower later does not count
        pace.seconds_for(1_000, moment=4.0 + tick)
    assert pace.seconds_for(25_000_000, moment=40.0) == pytest.approx(1.0)


def test_a_copy_that_drips_from_the_start_is_never_at_a_good_pace() -> None:
    pace = Budget()
    assert all(pace.seconds_for(100_000, moment=10.0 * step) == 0.1 for step in range(10))


def test_three_equals_behind_deep_buffers_hold_nobody_back_however_long_it_takes() -> None:
    times, pace = sheet(), Budget()
    for step in range(10_000):  # 100 MB/s; one is waited for two thirds of the time
        times.credit("abc", pace.seconds_for(500_000, moment=step * 0.005))
        times.charge("a", 0.0035)
        times.charge("b", 0.0001)
        times.charge("c", 0.0002)
    assert times.lag("a", "bc") < 1.0
