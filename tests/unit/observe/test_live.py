from __future__ import annotations

from copyd import events
from copyd.observe.document import document
from copyd.observe.live import Live
from copyd.observe.progress import DestinationProgress
from tests.support.status_samples import a_run, ended, started, status, transfer


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_destination_of_a_run_in_flight_says_how_far_it_is() -> None:
    clock = Clock()
    live = Live(clock)
    observe = live.watch("orders")
    observe(started())
    observe(events.PassStarted(1, ("eu", "us")))
    for second in range(1, 11):
        clock.now = float(second)
        observe(events.DataRelayed(frozenset({"eu", "us"}), 10, 1000))
    observe(events.DestinationDropped("us", "lost", will_return=True))
    found = live.progress()["orders"]
    assert (found.run, found.estimated_rows) == ("run-1", 1000)
    assert found.destinations == (
        DestinationProgress("eu", "copying", 1, 100, 10_000, 1000.0),
        DestinationProgress("us", "dropped", 1, 100, 10_000, 0.0),
    )


def test_the_speed_of_one_that_stalls_comes_down_to_nothing() -> None:
    clock = Clock()
    live = Live(clock)
    observe = live.watch("orders")
    observe(started())
    observe(events.PassStarted(1, ("eu",)))
    clock.now = 1.0
    observe(events.DataRelayed(frozenset({"eu"}), 10, 1000))
    speeds = []
    for clock.now in (1.0, 3.0, 60.0):
        speeds.append(live.progress()["orders"].destinations[0].speed)
    assert speeds[0] > speeds[1] > speeds[2] == 0


def test_a_pass_begins_at_nothing() -> None:
    live = Live(Clock())
    observe = live.watch("orders")
    for event in a_run()[:-4]:
        observe(event)
    eu, us = live.progress()["orders"].destinations
    assert (eu.state, eu.rows) == ("succeeded", 10)
    assert (us.state, us.pass_number, us.rows) == ("copying", 2, 0)


def test_a_run_that_is_over_is_not_in_flight() -> None:
    live = Live(Clock())
    observe = live.watch("orders")
    for event in a_run():
        observe(event)
    assert live.progress() == {}
    observe(ended("eu"))  # nothing that comes late brings it back
    assert live.progress() == {}


def test_the_document_says_all_of_the_status_and_how_far_each_run_is() -> None:
    live = Live(Clock())
    observe = live.watch("orders")
    for event in a_run()[:4]:
        observe(event)
    now = status(transfer("orders", state="running", run="run-1"), transfer("items"), beat=5.0)
    told = document(now, live.progress(), now=7.0)
    assert told["beat_age"] == 2.0
    assert [each["name"] for each in told["transfers"]] == ["orders", "items"]
    assert told["transfers"][1]["progress"] is None
    progress = told["transfers"][0]["progress"]
    assert progress["destinations"][0] == {
        "name": "eu", "state": "copying", "pass": 1, "rows": 6, "bytes": 60, "bytes_per_second": 600,
    }  # fmt: skip
    assert told["transfers"][0]["destinations"][0]["state"] == "unknown"
