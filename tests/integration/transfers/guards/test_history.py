"""Older data, another timeline, another meaning of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd.transfers import Loading, Tables, Verdict
from copyd.transfers.transfer import TableOptions
from tests.support import servers
from tests.support.loadings import (
    APPEND,
    BY_HAND,
    DELETE,
    EXACT,
    INCREMENTAL,
    KEYED,
    KEYLESS,
    MERGE,
    ROWS,
    TEN,
    note_of_five,
)
from tests.support.sql import execute
from tests.support.standby import standby_of, wait_until_caught_up

if TYPE_CHECKING:
    from copyd.cluster import Installation
    from tests.support.fanout import Fanout

ON_A_LATER_TIMELINE = "UPDATE copyd.ledger SET timeline = timeline + 1, lsn = '0/0'"
NEWER = "UPDATE copyd.ledger SET lsn = 'FFFFFFF/0'"


@pytest.mark.parametrize("newer", [NEWER, ON_A_LATER_TIMELINE], ids=["lsn", "timeline"])
@EXACT
def test_newer_data_is_replaced_by_an_older_snapshot_in_a_full_run_only(
    fanout: Fanout, way: Loading, newer: str
) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", newer, BY_HAND)
    assert "holds newer data than this source shows" in fanout.fail(loading=way)
    assert note_of_five(fanout) == "by hand"
    fanout.succeed(loading=way, is_full=True)
    fanout.assert_equal()
    fanout.succeed(loading=way)


def test_rows_of_an_older_snapshot_are_appended_without_touching_those_there(
    fanout: Fanout,
) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("eu", NEWER, BY_HAND)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    assert fanout.succeed(loading=APPEND)[0].counts.rows == 1
    assert note_of_five(fanout) == "by hand"


def test_rows_of_an_older_snapshot_cannot_be_appended_without_a_key(fanout: Fanout) -> None:
    fanout.create(KEYLESS, fill=TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("eu", NEWER)
    assert "--full" in fanout.fail(loading=APPEND)
    assert len(fanout.ask("eu", ROWS)) == 10


@pytest.mark.slow
def test_a_standby_that_lags_does_not_set_a_replica_back(
    fanout: Fanout, installation: Installation
) -> None:
    fanout.create(KEYED)
    durable = servers.running_server(installation, synchronous_commit="on")
    with durable as primary, standby_of(primary) as standby:
        execute(primary.conninfo(), KEYED, TEN)
        wait_until_caught_up(primary, standby)
        execute(standby.conninfo(), "SELECT pg_wal_replay_pause()")
        execute(primary.conninfo(), "UPDATE t SET note = 'second'")
        fanout.succeed(loading=MERGE, conninfos={"source": primary.conninfo()})
        there = {"source": standby.conninfo()}
        for way in (DELETE, MERGE):
            said = fanout.run(loading=way, conninfos=there).outcomes[0].cause
            assert "newer data" in (said or ""), said
    assert fanout.ask("eu", "SELECT DISTINCT note FROM t") == [("second",)]


@INCREMENTAL
def test_a_new_timeline_makes_everything_be_compared_by_key(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    # On the old timeline it was at an LSN that the new one has not reached.
    fanout.do("eu", "UPDATE copyd.ledger SET timeline = timeline - 1", NEWER, BY_HAND)
    assert fanout.succeed(loading=way)[0].counts.rows == 1
    assert fanout.relayed == 10
    fanout.assert_equal()
    fanout.succeed(loading=way)
    assert fanout.relayed == 0


def test_on_a_new_timeline_rows_without_a_key_cannot_be_compared(fanout: Fanout) -> None:
    fanout.create(KEYLESS, fill=TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("eu", "UPDATE copyd.ledger SET timeline = timeline - 1")
    assert "--full" in fanout.fail(loading=APPEND)
    assert len(fanout.ask("eu", ROWS)) == 10
    fanout.succeed(loading=APPEND, is_full=True)
    fanout.assert_equal()


MEANINGS = {
    "where": TableOptions(where="id > 0"),
    "columns": TableOptions(columns=("id",)),
    "key": TableOptions(key=("code",)),
}


@INCREMENTAL
@pytest.mark.parametrize("what", MEANINGS)
def test_another_meaning_of_the_rows_takes_a_full_run(
    fanout: Fanout, way: Loading, what: str
) -> None:
    fanout.create(
        "CREATE TABLE t (id int PRIMARY KEY, note text, code int UNIQUE NOT NULL DEFAULT 0)"
    )
    fanout.do("source", "INSERT INTO t SELECT i, 'first', i FROM generate_series(1, 10) i")
    fanout.do("eu", "ALTER TABLE t ALTER code SET DEFAULT (random() * 1e9)::int")
    fanout.succeed(loading=way)
    fanout.do("eu", BY_HAND)
    other = Tables(("public.t",), {"public.t": MEANINGS[what]})
    assert "run copyd once books --full" in fanout.fail(loading=way, what=other)
    assert note_of_five(fanout) == "by hand"
    fanout.succeed(loading=way, what=other, is_full=True)
    assert fanout.succeed(loading=way, what=other)[0].counts.rows == 0
    assert fanout.ask("eu", "SELECT id FROM t") == fanout.ask("source", "SELECT id FROM t")


def test_a_column_that_is_added_takes_a_full_run_but_for_replace(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2, fill=TEN)
    ways = {"eu": MERGE, "us": DELETE}
    fanout.succeed(at=ways)
    for name in ("eu", "us", "source"):
        fanout.do(name, "ALTER TABLE t ADD more int DEFAULT 1")
    eu, us = fanout.run(at=ways).outcomes
    assert (eu.verdict, us.verdict) == (Verdict.FAILED, Verdict.SUCCEEDED)
    assert "--full" in (eu.cause or "")
    fanout.succeed(at=ways, is_full=True)
    fanout.assert_equal()
