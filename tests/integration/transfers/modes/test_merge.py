"""Merge, run after run: changed, new and missing rows by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.loadings import APPEND, INCREMENTAL, KEYED, KEYLESS, MERGE, ROWS, TEN, ids

if TYPE_CHECKING:
    from copyd.transfers import Loading
    from tests.support.fanout import Fanout


def test_merge_changes_and_adds_rows_and_reads_no_others(fanout: Fanout) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=MERGE)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')", "DELETE FROM t WHERE id = 1")
    fanout.do("source", "UPDATE t SET note = NULL WHERE id = 2")
    (outcome,) = fanout.succeed(loading=MERGE)
    assert outcome.counts.rows == 2
    assert fanout.relayed == 2
    assert fanout.ask("eu", ROWS) == [
        (1, "first"), (2, None), *((i, "first") for i in range(3, 11)), (11, "new"),
    ]  # fmt: skip
    assert fanout.succeed(loading=MERGE)[0].counts.rows == 0


def test_a_change_that_is_committed_late_is_not_lost(fanout: Fanout) -> None:
    fanout.create(KEYED, fill=TEN)
    late = fanout.open("source", "SAVEPOINT s", "UPDATE t SET note = 'late' WHERE id = 3")
    fanout.succeed(loading=MERGE)
    fanout.do("source", "UPDATE t SET note = 'early' WHERE id = 4")
    fanout.succeed(loading=MERGE)
    late.commit()
    fanout.succeed(loading=MERGE)
    fanout.assert_equal()


def test_rows_that_the_source_no_longer_has_go_where_that_is_asked_for(fanout: Fanout) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=MERGE)
    fanout.do("source", "DELETE FROM t WHERE id > 8", "UPDATE t SET id = 100 WHERE id = 1")
    (outcome,) = fanout.succeed(loading=MERGE, delete_missing=True)
    assert outcome.counts.rows == 4  # one added, three removed
    fanout.assert_equal()


def test_a_merge_that_would_remove_too_much_changes_nothing(fanout: Fanout) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=MERGE, delete_missing=True)
    fanout.do("source", "DELETE FROM t WHERE id > 4", "INSERT INTO t VALUES (50, 'new')")
    options: dict[str, Any] = {"loading": MERGE, "delete_missing": True}
    assert "6 of 10 rows would vanish" in fanout.fail(**options, max_shrink=0.5)
    assert ids(fanout) == [*range(1, 11)]
    fanout.succeed(**options, max_shrink=0.6)
    fanout.assert_equal()


def test_rows_that_trade_a_unique_value_are_merged(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int PRIMARY KEY, note text UNIQUE)")
    fanout.do("source", "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    fanout.succeed(loading=MERGE)
    fanout.do("source", "DELETE FROM t", "INSERT INTO t VALUES (1, 'b'), (2, 'a'), (4, 'c')")
    (outcome,) = fanout.succeed(loading=MERGE, delete_missing=True)
    assert outcome.counts.rows == 4
    fanout.assert_equal()


def test_a_key_other_than_the_primary_one_can_be_named(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int, code text NOT NULL UNIQUE)")
    fanout.do("source", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    fanout.succeed(loading=MERGE, key=("code",))
    fanout.do("source", "UPDATE t SET id = 3 WHERE code = 'a'")
    assert fanout.succeed(loading=MERGE, key=("code",))[0].counts.rows == 1
    fanout.assert_equal()


def test_merge_without_any_key_is_refused(fanout: Fanout) -> None:
    fanout.create(KEYLESS, fill=TEN)
    assert "no primary key" in fanout.fail(loading=MERGE)


def test_partitions_are_read_and_written_through_their_root(fanout: Fanout) -> None:
    fanout.create(
        "CREATE TABLE t (id int PRIMARY KEY, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (5)",
        "CREATE TABLE t2 PARTITION OF t DEFAULT",
    )
    fanout.do("source", TEN)
    fanout.succeed("public.t*", loading=MERGE)
    fanout.do("source", "UPDATE t SET id = id + 20, note = 'moved' WHERE id < 3")
    (outcome,) = fanout.succeed("public.t*", loading=MERGE, delete_missing=True)
    assert outcome.counts.rows == 4
    fanout.assert_equal("t", "t1", "t2")


SECOND = "PARTITION t2 FOR VALUES FROM (100) TO (200)"


def part(fanout: Fanout, table: str) -> None:
    """A partitioned table; the source has another one, with a row, that is to be a partition."""
    first = "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100)"
    fanout.create(f"{table} PARTITION BY RANGE (id)", first)
    fanout.do("eu", f"CREATE TABLE {SECOND.replace('PARTITION t2', 't2 PARTITION OF t')}")
    fanout.do("source", TEN, "CREATE TABLE t2 (LIKE t INCLUDING ALL)")
    fanout.do("source", "INSERT INTO t2 VALUES (100, 'attached')")


@INCREMENTAL
def test_rows_of_a_partition_that_was_attached_are_not_lost(fanout: Fanout, way: Loading) -> None:
    """They were written before the horizon, and nobody has looked at them."""
    part(fanout, KEYED)
    fanout.succeed(loading=way)
    fanout.do("source", f"ALTER TABLE t ATTACH {SECOND}")
    assert fanout.succeed(loading=way)[0].counts.rows == 1
    fanout.assert_equal()


@pytest.mark.parametrize(
    "change",
    [f"ALTER TABLE t ATTACH {SECOND}", "ALTER TABLE t ALTER note TYPE varchar(9) USING note || ''"],
    ids=["attached", "rewritten"],
)
def test_without_a_key_a_change_of_partitions_takes_a_full_run(fanout: Fanout, change: str) -> None:
    part(fanout, KEYLESS)
    fanout.succeed(loading=APPEND)
    fanout.do("source", change)
    assert "run copyd once books --full" in fanout.fail(loading=APPEND)
    fanout.succeed(loading=APPEND, is_full=True)
    fanout.assert_equal()
