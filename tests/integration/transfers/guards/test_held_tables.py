"""Rows and tables that somebody else holds are waited for only so long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from copyd import events
from copyd.transfers import Loading, Reintroduce, run
from tests.support.loadings import APPEND, DELETE, KEYED, MERGE, TEN

if TYPE_CHECKING:
    from copyd.events import Event
    from tests.support.fanout import Fanout


def test_nobody_waits_for_a_destination_whose_ledger_row_is_held(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2, fill=TEN)
    fanout.succeed(loading=MERGE)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    other = fanout.open("eu", "SELECT FROM copyd.ledger FOR UPDATE")

    def leave(event: Event) -> None:
        """The other run goes only when the neighbour has committed."""
        if isinstance(event, events.DestinationEnded) and event.destination == "us":
            other.rollback()

    eu, us = fanout.succeed(
        loading=MERGE,
        lock_timeout=0.2,
        reintroduce=Reintroduce(attempts=20, backoff=0.1, max_backoff=0.2),
        observe=leave,
    )
    assert (us.faults, us.passes) == (0, 1)
    assert eu.faults > 0
    dropped = fanout.of(events.DestinationDropped)
    assert {getattr(event, "destination", None) for event in dropped} == {"eu"}
    fanout.assert_equal()


HOLDING = {
    "the ledger's row": "SELECT FROM copyd.ledger FOR UPDATE",
    "the table": "LOCK TABLE t IN ROW EXCLUSIVE MODE",
}


@pytest.mark.parametrize("what", HOLDING)
@pytest.mark.parametrize("way", [DELETE, MERGE, APPEND], ids=["delete", "merge", "append"])
def test_a_lock_is_waited_for_no_longer_than_lock_timeout(
    fanout: Fanout, way: Loading, what: str
) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    other = fanout.open("eu", HOLDING[what])
    began = time.monotonic()
    said = fanout.fail(loading=way, lock_timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 5.0
    assert "waited 0.3 s" in said
    other.rollback()
    fanout.succeed(loading=way)
    fanout.assert_equal()


def test_a_run_that_holds_its_tables_makes_another_of_the_same_transfer_give_up(
    fanout: Fanout,
) -> None:
    fanout.create(KEYED, fill=TEN)
    seen: list[str] = []

    def run_another(event: Event) -> None:
        if isinstance(event, events.PassStarted):
            report = run(fanout.transfer(loading=MERGE, lock_timeout=0.2))
            seen.extend(outcome.cause or "" for outcome in report.outcomes)

    fanout.succeed(loading=MERGE, observe=run_another)
    (said,) = seen
    assert said.startswith("another run has the ledger's row of table public.t: waited 0.2 s")
    fanout.assert_equal()
