from __future__ import annotations

import threading

import pytest

from copyd.transfers.stop import RunStopped, Stop


def test_it_stays_asked_for_and_keeps_its_first_reason() -> None:
    stop = Stop()
    stop.require_none()
    stop.ask("the daemon stops")
    stop.ask("something else")
    assert stop.cause is not None
    with pytest.raises(RunStopped, match=r"^the daemon stops$"):
        stop.require_none()


def test_who_waits_for_something_else_is_called_once() -> None:
    stop, called = Stop(), []
    with stop.calling(lambda: called.append("inside")):
        stop.ask("now")
        stop.ask("again")
    assert called == ["inside"]


def test_who_comes_late_is_called_at_once() -> None:
    stop, called = Stop(), []
    stop.ask("now")
    with stop.calling(lambda: called.append("late")):
        assert called == ["late"]


def test_who_has_left_is_not_called() -> None:
    stop, called = Stop(), []
    with stop.calling(lambda: called.append("never")):
        pass
    stop.ask("now")
    assert called == []


def test_a_wait_ends_when_the_run_is_to_end() -> None:
    stop = Stop()
    asker = threading.Thread(target=stop.ask, args=["enough"])
    asker.start()
    with pytest.raises(RunStopped, match="enough"):
        stop.wait(60)
    asker.join()
