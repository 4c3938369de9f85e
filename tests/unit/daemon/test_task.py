"""What is known of a transfer across its runs."""

from __future__ import annotations

import pytest

from copyd.config import Transfer
from copyd.daemon.schedule import Instant
from copyd.daemon.task import PendingRun, Task
from copyd.status import Known
from copyd.transfers import Outcome, Report, Verdict

NOW = Instant(ticks=100.0, wall=1_000_000.0)
LATER = Instant(ticks=200.0, wall=1_000_100.0)


def made(**keys: object) -> Task:
    given = {"source": "a", "destinations": ["b", "c"], "tables": ["s.x"], "every": "5m", **keys}
    return Task.of("t", Transfer.model_validate(given))


def no_jitter() -> float:
    return 0.0


def failed(kind: str = "connection") -> Outcome:
    return Outcome("b", Verdict.FAILED, cause="it went away", kind=kind)


def fail(task: Task, times: int, kind: str = "connection") -> None:
    for _ in range(times):
        task.destinations["b"].failed(failed(kind), task.section, NOW, no_jitter)


def state_of(task: Task, moment: Instant = NOW) -> str:
    return task.status(moment, is_running=False).destinations[0].state


def test_a_failure_stays_visible_until_a_success() -> None:
    task = made()
    assert state_of(task) == "unknown"
    fail(task, 2)
    shown = task.status(LATER, is_running=False).destinations[0]
    assert (shown.state, shown.failures, shown.last_error) == ("failing", 2, "it went away")
    assert task.destinations["b"].succeeded(LATER, 999_999.0)
    shown = task.status(LATER, is_running=False).destinations[0]
    assert (shown.state, shown.failures, shown.last_error) == ("ok", 0, None)
    assert (shown.last_success, shown.data_timestamp) == (LATER.wall, 999_999.0)
    assert not task.destinations["b"].succeeded(LATER, None)


def test_who_fails_too_often_is_left_out_of_runs_until_its_time_has_come() -> None:
    task = made()
    fail(task, 3)
    shown = task.status(NOW, is_running=False).destinations[0]
    assert (shown.state, shown.next_attempt) == ("out", NOW.wall + 15)
    assert task.chosen(NOW.ticks) == ("c",)
    assert task.chosen(NOW.ticks + 15) == ("b", "c")
    assert state_of(task, LATER) == "failing"


@pytest.mark.parametrize("kind", ["source", "stopped"])
def test_a_failure_that_is_not_its_own_is_shown_but_opens_no_breaker(kind: str) -> None:
    task = made()
    fail(task, 10, kind)
    assert state_of(task) == "failing"
    assert task.chosen(NOW.ticks) == ("b", "c")


def test_who_triggers_a_run_gets_the_destinations_that_are_left_alone_too() -> None:
    task = made()
    fail(task, 3)
    task.pending = PendingRun(NOW.ticks, is_triggered=True)
    assert task.chosen(NOW.ticks) == ("b", "c")
    task.pending = PendingRun(NOW.ticks, ("c", "gone"), is_triggered=True)
    assert task.chosen(NOW.ticks) == ("c",)


def test_a_run_that_could_not_begin_is_a_failure_of_the_transfer() -> None:
    task = made()
    task.started(NOW)
    task.ended(None, "cannot connect to a", ("b",), LATER)
    shown = task.status(LATER, is_running=False)
    assert (shown.last_verdict, shown.last_error) == ("failed", "cannot connect to a")
    assert [each.failures for each in shown.destinations] == [1, 0]
    task.ended(Report("t", "r", Verdict.SUCCEEDED, 1.0, ()), None, ("b",), LATER)
    assert task.status(LATER, is_running=False).last_error is None


def test_what_was_known_is_taken_over_and_everybody_gets_a_chance() -> None:
    task = made()
    task.destinations["b"].remember(Known(5.0, 4.0, "failed", 9))
    shown = task.status(NOW, is_running=False).destinations[0]
    assert (shown.state, shown.failures, shown.last_success) == ("failing", 9, 5.0)
    assert task.chosen(NOW.ticks) == ("b", "c")


def test_a_pause_holds_what_is_due_but_not_what_is_triggered_for() -> None:
    task = made()
    task.pending, task.is_paused = PendingRun(NOW.ticks), True
    assert task.status(NOW, is_running=False).state == "paused"
    task.pending = PendingRun(NOW.ticks, is_triggered=True)
    assert task.status(NOW, is_running=False).state == "queued"
    task.obstacle = "cluster k is not up"
    shown = task.status(NOW, is_running=False)
    assert (shown.state, shown.reason) == ("waiting", "cluster k is not up")
    assert task.status(NOW, is_running=True).state == "running"


def test_a_change_keeps_what_is_known_of_those_that_stay() -> None:
    task = made()
    task.destinations["b"].succeeded(NOW, None)
    is_new_schedule = task.change(made(destinations=["b", "d"]).section)
    assert not is_new_schedule
    assert list(task.destinations) == ["b", "d"]
    assert task.destinations["b"].last_success == NOW.wall
    assert task.change(made(every="6m").section)
