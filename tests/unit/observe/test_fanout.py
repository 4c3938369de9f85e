from __future__ import annotations

from typing import TYPE_CHECKING

from copyd import events
from copyd.observe.fanout import Failures, Fanout
from copyd.status import ObserverStatus

if TYPE_CHECKING:
    from copyd.events import Event


def test_an_observer_that_raises_hurts_neither_the_run_nor_another() -> None:
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise OSError(f"cannot write {event}")

    fanout = Fanout({"broken": broken, "seen": seen.append})
    event = events.DestinationReintroduced("eu")
    fanout(event)
    fanout(event)
    assert seen == [event, event]
    assert len(fanout.failures) == 1


def test_the_failures_of_an_observer_are_counted_and_the_first_is_logged() -> None:
    logged: list[Event] = []

    def broken(event: Event) -> None:
        raise OSError(f"disk full: {type(event).__name__}")

    failures = Failures(("history", "log"), logged.append)
    for _ in range(3):  # three runs
        fanout = Fanout({"history": broken, "log": logged.append}, failures)
        fanout(events.RunEnded("succeeded", 1.0))
    cause = "OSError: disk full: RunEnded"
    assert [each for each in logged if isinstance(each, events.ObserverFailed)] == [
        events.ObserverFailed("history", cause)
    ]
    assert failures.status() == (ObserverStatus("history", 3, cause), ObserverStatus("log"))


def test_a_log_that_fails_is_counted_and_hurts_nobody() -> None:
    def broken(event: Event) -> None:
        raise ValueError(event)

    failures = Failures(("log",), broken)
    Fanout({"log": broken}, failures)(events.RunEnded("succeeded", 1.0))
    assert [each.failures for each in failures.status()] == [1]
