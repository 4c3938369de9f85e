"""Append, run after run: new rows come once, whoever is still writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd import events
from copyd.cluster.poll import wait_for
from tests.support.loadings import APPEND, INCREMENTAL, KEYED, KEYLESS, ROWS, TEN, ids

if TYPE_CHECKING:
    from copyd.transfers import Loading
    from tests.support.fanout import Fanout


def test_append_adds_new_rows_and_touches_no_other(fanout: Fanout) -> None:
    fanout.create(KEYED, fill=TEN)
    assert fanout.succeed(loading=APPEND)[0].counts.rows == 10
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')", "DELETE FROM t WHERE id = 1")
    fanout.do("source", "UPDATE t SET note = 'changed' WHERE id = 2")
    (outcome,) = fanout.succeed(loading=APPEND)
    assert outcome.counts.rows == 1
    assert fanout.relayed == 2  # the other eight were written before the horizon
    assert fanout.ask("eu", ROWS) == [*((i, "first") for i in range(1, 11)), (11, "new")]


@INCREMENTAL
def test_rows_that_are_committed_late_are_not_lost(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    late = fanout.open("source", "INSERT INTO t VALUES (20, 'late')")
    fanout.do("source", "INSERT INTO t VALUES (21, 'early')")
    fanout.succeed(loading=way)
    assert ids(fanout) == [*range(1, 11), 21]
    late.commit()
    fanout.succeed(loading=way)
    fanout.assert_equal()


@INCREMENTAL
def test_rows_of_subtransactions_that_began_before_the_snapshot_are_not_lost(
    fanout: Fanout, way: Loading
) -> None:
    """A snapshot lists no subtransactions: more of them than a backend can advertise."""
    fanout.create(KEYED, fill=TEN)
    writer = fanout.open("source")
    for number in range(20, 100):
        writer.execute("SAVEPOINT s")
        writer.execute("INSERT INTO t VALUES (%s, 'sub')", [number])
        writer.execute("RELEASE s")
    fanout.do("source", "INSERT INTO t VALUES (200, 'after')")
    fanout.succeed(loading=way)
    fanout.do("source", "INSERT INTO t VALUES (201, 'after')")
    fanout.succeed(loading=way)
    writer.commit()
    fanout.succeed(loading=way)
    fanout.assert_equal()


def test_without_a_key_every_row_comes_once_whoever_is_still_writing(fanout: Fanout) -> None:
    fanout.create(KEYLESS, fill=TEN)
    slow = fanout.open("source", "INSERT INTO t VALUES (20, 'slow')", "SAVEPOINT s")
    slow.execute("INSERT INTO t VALUES (21, 'slow')")
    fanout.do("source", "INSERT INTO t VALUES (30, 'quick')")
    fanout.succeed(loading=APPEND)
    assert ids(fanout) == [*range(1, 11)]  # 30 waits for the older transaction
    fanout.do("source", "INSERT INTO t VALUES (30, 'again')")
    fanout.succeed(loading=APPEND)
    assert ids(fanout) == [*range(1, 11)]
    slow.commit()
    assert fanout.succeed(loading=APPEND)[0].counts.rows == 4
    fanout.assert_equal()
    assert fanout.succeed(loading=APPEND)[0].counts.rows == 0
    fanout.assert_equal()


def test_a_writer_that_holds_rows_back_for_longer_than_the_deadline_is_told_of(
    fanout: Fanout,
) -> None:
    fanout.create(KEYLESS, fill=TEN)
    writer = fanout.open("source", "INSERT INTO t VALUES (20, 'slow')")
    fanout.succeed(loading=APPEND)
    assert fanout.of(events.HorizonHeldBack) == []
    age = (
        "SELECT max(now() - xact_start) > '2s' FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
    )
    assert wait_for(lambda: fanout.ask("source", age) == [(True,)], timeout=20)
    fanout.succeed(loading=APPEND, deadline=2.0)
    (told,) = fanout.of(events.HorizonHeldBack)
    assert isinstance(told, events.HorizonHeldBack)
    assert told.seconds > 2
    writer.rollback()


@pytest.mark.parametrize(
    "rewrite",
    ["ALTER TABLE t ALTER note TYPE varchar(99) USING note || ''", "TRUNCATE t"],
    ids=["rewritten", "truncated"],
)
def test_without_a_key_a_rewritten_source_table_takes_a_full_run(
    fanout: Fanout, rewrite: str
) -> None:
    fanout.create(KEYLESS, fill=TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("source", rewrite, "INSERT INTO t VALUES (11, 'new')")
    assert "run copyd once books --full" in fanout.fail(loading=APPEND)
    assert len(ids(fanout)) == 10
    fanout.succeed(loading=APPEND, is_full=True)
    fanout.assert_equal()
    fanout.do("source", "INSERT INTO t VALUES (12, 'newer')")
    assert fanout.succeed(loading=APPEND)[0].counts.rows == 1
    fanout.assert_equal()


@INCREMENTAL
def test_with_a_key_a_rewritten_source_table_loses_nothing(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "ALTER TABLE t ALTER note TYPE varchar(99) USING note || ''")
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    assert fanout.succeed(loading=way)[0].counts.rows == 1
    fanout.assert_equal()


@INCREMENTAL
def test_a_source_table_that_another_one_took_the_place_of_is_compared_as_a_whole(
    fanout: Fanout, way: Loading
) -> None:
    """The rows of the other one are older than the horizon, and were never looked at."""
    fanout.create(KEYED, fill=TEN)
    fanout.do("source", "CREATE TABLE u (LIKE t INCLUDING ALL)")
    fanout.do("source", "INSERT INTO u SELECT * FROM t", "INSERT INTO u VALUES (11, 'swapped in')")
    fanout.succeed(loading=way)
    fanout.do("source", "DROP TABLE t", "ALTER TABLE u RENAME TO t")
    assert fanout.succeed(loading=way)[0].counts.rows == 1
    fanout.assert_equal()


def test_a_full_run_without_a_key_ends_at_the_horizon_as_well(fanout: Fanout) -> None:
    fanout.create(KEYLESS, fill=TEN)
    fanout.succeed(loading=APPEND)
    slow = fanout.open("source", "INSERT INTO t VALUES (20, 'slow')")
    fanout.do("source", "INSERT INTO t VALUES (30, 'quick')")
    fanout.succeed(loading=APPEND, is_full=True)
    slow.commit()
    fanout.succeed(loading=APPEND)
    fanout.assert_equal()


def test_an_append_without_a_key_cannot_read_a_view(fanout: Fanout) -> None:
    """Its rows do not say when they were written: each run would add all of them again."""
    fanout.create(more="CREATE TABLE v (id int, note text)")
    fanout.do("source", KEYED, TEN, "CREATE VIEW v AS SELECT * FROM t")
    for _ in range(2):
        assert "key" in fanout.fail("public.v", loading=APPEND)
    assert fanout.ask("eu", "SELECT count(*) FROM v") == [(0,)]
