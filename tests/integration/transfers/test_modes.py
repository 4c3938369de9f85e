"""replace, append and merge with a ledger, run after run, on real servers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from copyd import events
from copyd.cluster.poll import wait_for
from copyd.errors import CopydError
from copyd.transfers import Loading, Query, Reintroduce, Tables, run
from copyd.transfers.transfer import TableOptions
from tests.support.fanout import OTHERS

if TYPE_CHECKING:
    from copyd.events import Event
    from tests.support.fanout import Fanout

DELETE, TRUNCATE = Loading(), Loading(replace_with="truncate")
APPEND, MERGE = Loading(mode="append"), Loading(mode="merge")
BOTH_WAYS = pytest.mark.parametrize("way", [DELETE, TRUNCATE], ids=["delete", "truncate"])
WAYS = ["delete", "truncate", "append", "merge"]
INCREMENTAL = pytest.mark.parametrize("way", [APPEND, MERGE], ids=["append", "merge"])

KEYED = "CREATE TABLE t (id int PRIMARY KEY, note text)"
KEYLESS = "CREATE TABLE t (id int, note text)"
TIMED = "CREATE TABLE t (id int PRIMARY KEY, note text, at timestamptz)"
TEN = "INSERT INTO t SELECT i, 'first' FROM generate_series(1, 10) i"
HOUR = timedelta(hours=1)
ROWS = "SELECT id, note FROM t ORDER BY id"
IDS = "SELECT id FROM t ORDER BY id"


def ids(fanout: Fanout, where: str = "eu") -> list[int]:
    return [row[0] for row in fanout.ask(where, IDS)]


# -- replace ------------------------------------------------------------------------------------


@BOTH_WAYS
def test_replace_leaves_exactly_the_sources_rows(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, replicas=2)
    fanout.do("source", TEN)
    assert [outcome.rows for outcome in fanout.succeed(loading=way)] == [10, 10]
    fanout.assert_equal()
    fanout.do("source", "DELETE FROM t WHERE id < 3", "UPDATE t SET note = 'second' WHERE id = 7")
    fanout.do("source", "INSERT INTO t VALUES (11, NULL)")
    fanout.do("eu", "INSERT INTO t VALUES (99, 'stray')")
    assert [outcome.rows for outcome in fanout.succeed(loading=way)] == [9, 9]
    fanout.assert_equal()


@BOTH_WAYS
def test_a_table_that_would_shrink_too_much_keeps_its_old_rows(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "DELETE FROM t WHERE id > 4")
    assert "6 of 10 rows would vanish" in fanout.fail(loading=way, max_shrink=0.59)
    assert len(ids(fanout)) == 10
    fanout.succeed(loading=way, max_shrink=0.6)
    fanout.assert_equal()


@BOTH_WAYS
def test_a_source_table_that_was_emptied_empties_a_replica_only_where_that_is_allowed(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "TRUNCATE t")
    assert "10 of 10 rows would vanish" in fanout.fail(loading=way)
    assert len(ids(fanout)) == 10
    fanout.succeed(loading=way, max_shrink=1.0)
    assert ids(fanout) == []


@BOTH_WAYS
def test_rows_of_an_adopted_table_count_when_they_vanish(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED)
    fanout.do("eu", TEN)
    fanout.do("source", "INSERT INTO t VALUES (1, 'one')")
    adopting = Loading(replace_with=way.replace_with, adopt=True)
    assert "9 of 10 rows would vanish" in fanout.fail(loading=adopting, max_shrink=0.5)
    assert len(ids(fanout)) == 10


FAMILY = (
    # A child's name comes before its parent's, so that no order by name is right.
    "CREATE TABLE parents (id int PRIMARY KEY, boss int REFERENCES parents)",
    "CREATE TABLE children (id int PRIMARY KEY, parent int NOT NULL REFERENCES parents)",
    "CREATE TABLE a_pets (id int PRIMARY KEY, child int NOT NULL REFERENCES children)",
)
TABLES = ("public.a_pets", "public.children", "public.parents")


def fill_family(fanout: Fanout, first: int, last: int) -> None:
    numbers = f"generate_series({first}, {last}) i"
    fanout.do(
        "source",
        f"INSERT INTO parents SELECT i, CASE WHEN i < {last} THEN i + 1 END FROM {numbers}",
        f"INSERT INTO children SELECT i, i FROM {numbers}",
        f"INSERT INTO a_pets SELECT i, i FROM {numbers}",
    )


@pytest.mark.parametrize("way", [DELETE, TRUNCATE, MERGE], ids=["delete", "truncate", "merge"])
def test_tables_that_reference_one_another_are_loaded_and_emptied_in_order(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(*FAMILY)
    fill_family(fanout, 1, 20)
    options: dict[str, Any] = {"loading": way, "delete_missing": way is MERGE}
    fanout.succeed(*TABLES, **options)
    fanout.assert_equal(*TABLES)
    for table in ("a_pets WHERE child", "children WHERE parent", "parents WHERE id"):
        fanout.do("source", f"DELETE FROM {table} < 10")
    fill_family(fanout, 31, 40)
    fanout.succeed(*TABLES, **options)
    fanout.assert_equal(*TABLES)


@pytest.mark.parametrize("way", [MERGE, APPEND], ids=["merge", "append"])
def test_children_that_are_there_for_the_first_time_find_their_new_parents(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(*FAMILY)
    fanout.do("source", "INSERT INTO parents VALUES (1, NULL), (2, 1)")
    fanout.succeed(*TABLES, loading=way)
    fill_family(fanout, 11, 20)
    fanout.succeed(*TABLES, loading=way)
    fanout.assert_equal(*TABLES)


def test_children_without_a_key_find_their_new_parents(fanout: Fanout) -> None:
    fanout.create(
        "CREATE TABLE parents (id int PRIMARY KEY)",
        "CREATE TABLE children (parent int REFERENCES parents)",
    )
    for number in range(3):
        fanout.do(
            "source",
            f"INSERT INTO parents VALUES ({number})",
            f"INSERT INTO children VALUES ({number}), ({number})",
        )
        fanout.succeed("public.children", "public.parents", loading=APPEND)
        fanout.assert_equal("parents", "children")


@pytest.mark.parametrize("way", [DELETE, TRUNCATE, MERGE], ids=["delete", "truncate", "merge"])
def test_a_circle_of_deferrable_foreign_keys_is_loaded(fanout: Fanout, way: Loading) -> None:
    fanout.create(
        "CREATE TABLE hens (id int PRIMARY KEY, egg int)",
        "CREATE TABLE eggs (id int PRIMARY KEY, hen int REFERENCES hens DEFERRABLE)",
        "ALTER TABLE hens ADD FOREIGN KEY (egg) REFERENCES eggs DEFERRABLE",
    )
    fanout.do(
        "source",
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO hens VALUES (1, 1), (2, 2);"
        " INSERT INTO eggs VALUES (1, 1), (2, 2); COMMIT",
    )
    for _ in range(2):
        fanout.succeed("public.hens", "public.eggs", loading=way)
        fanout.assert_equal("hens", "eggs")
        fanout.do("source", "UPDATE hens SET egg = 3 - egg")


def test_who_writes_to_a_table_that_is_being_replaced_waits(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    refused: list[Exception] = []

    def write(event: Event) -> None:
        if isinstance(event, events.PassStarted):
            try:
                fanout.do("eu", "SET lock_timeout = '10ms'", "INSERT INTO t VALUES (99, 'stray')")
            except psycopg.errors.LockNotAvailable as error:
                refused.append(error)

    fanout.succeed(observe=write)
    assert len(refused) == 1
    fanout.assert_equal()


def test_a_truncate_that_finds_a_reader_comes_back_when_it_has_gone(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    reader = fanout.open("eu", "SELECT count(*) FROM t")

    def leave(event: Event) -> None:
        if isinstance(event, events.DestinationDropped):
            reader.rollback()

    fanout.succeed(
        loading=TRUNCATE,
        lock_timeout=0.1,
        reintroduce=Reintroduce(attempts=9, backoff=0.1, max_backoff=0.2),
        observe=leave,
    )
    (dropped, *_) = fanout.of(events.DestinationDropped)
    assert isinstance(dropped, events.DestinationDropped)
    assert (dropped.will_return, "lock timeout" in dropped.cause) == (True, True)
    fanout.assert_equal()


# -- append -------------------------------------------------------------------------------------


def test_append_adds_new_rows_and_touches_no_other(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    assert fanout.succeed(loading=APPEND)[0].rows == 10
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')", "DELETE FROM t WHERE id = 1")
    fanout.do("source", "UPDATE t SET note = 'changed' WHERE id = 2")
    (outcome,) = fanout.succeed(loading=APPEND)
    assert outcome.rows == 1
    assert fanout.relayed == 2  # the other eight were written before the horizon
    assert fanout.ask("eu", ROWS) == [*((i, "first") for i in range(1, 11)), (11, "new")]


@INCREMENTAL
def test_rows_that_are_committed_late_are_not_lost(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
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
    fanout.create(KEYED)
    fanout.do("source", TEN)
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
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
    slow = fanout.open("source", "INSERT INTO t VALUES (20, 'slow')", "SAVEPOINT s")
    slow.execute("INSERT INTO t VALUES (21, 'slow')")
    fanout.do("source", "INSERT INTO t VALUES (30, 'quick')")
    fanout.succeed(loading=APPEND)
    assert ids(fanout) == [*range(1, 11)]  # 30 waits for the older transaction
    fanout.do("source", "INSERT INTO t VALUES (30, 'again')")
    fanout.succeed(loading=APPEND)
    assert ids(fanout) == [*range(1, 11)]
    slow.commit()
    assert fanout.succeed(loading=APPEND)[0].rows == 4
    fanout.assert_equal()
    assert fanout.succeed(loading=APPEND)[0].rows == 0
    fanout.assert_equal()


def test_a_writer_that_holds_rows_back_for_longer_than_the_deadline_is_told_of(
    fanout: Fanout,
) -> None:
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
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
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("source", rewrite, "INSERT INTO t VALUES (11, 'new')")
    assert "run copyd once books --full" in fanout.fail(loading=APPEND)
    assert len(ids(fanout)) == 10
    fanout.succeed(loading=APPEND, is_full=True)
    fanout.assert_equal()
    fanout.do("source", "INSERT INTO t VALUES (12, 'newer')")
    assert fanout.succeed(loading=APPEND)[0].rows == 1
    fanout.assert_equal()


@INCREMENTAL
def test_with_a_key_a_rewritten_source_table_loses_nothing(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "ALTER TABLE t ALTER note TYPE varchar(99) USING note || ''")
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    assert fanout.succeed(loading=way)[0].rows == 1
    fanout.assert_equal()


@INCREMENTAL
def test_a_source_table_that_another_one_took_the_place_of_is_compared_as_a_whole(
    fanout: Fanout, way: Loading
) -> None:
    """The rows of the other one are older than the horizon, and were never looked at."""
    fanout.create(KEYED)
    fanout.do("source", TEN, "CREATE TABLE u (LIKE t INCLUDING ALL)")
    fanout.do("source", "INSERT INTO u SELECT * FROM t", "INSERT INTO u VALUES (11, 'swapped in')")
    fanout.succeed(loading=way)
    fanout.do("source", "DROP TABLE t", "ALTER TABLE u RENAME TO t")
    assert fanout.succeed(loading=way)[0].rows == 1
    fanout.assert_equal()


def test_a_full_run_without_a_key_ends_at_the_horizon_as_well(fanout: Fanout) -> None:
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
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


# -- merge --------------------------------------------------------------------------------------


def test_merge_changes_and_adds_rows_and_reads_no_others(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=MERGE)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')", "DELETE FROM t WHERE id = 1")
    fanout.do("source", "UPDATE t SET note = NULL WHERE id = 2")
    (outcome,) = fanout.succeed(loading=MERGE)
    assert outcome.rows == 2
    assert fanout.relayed == 2
    assert fanout.ask("eu", ROWS) == [
        (1, "first"), (2, None), *((i, "first") for i in range(3, 11)), (11, "new"),
    ]  # fmt: skip
    assert fanout.succeed(loading=MERGE)[0].rows == 0


def test_a_change_that_is_committed_late_is_not_lost(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    late = fanout.open("source", "SAVEPOINT s", "UPDATE t SET note = 'late' WHERE id = 3")
    fanout.succeed(loading=MERGE)
    fanout.do("source", "UPDATE t SET note = 'early' WHERE id = 4")
    fanout.succeed(loading=MERGE)
    late.commit()
    fanout.succeed(loading=MERGE)
    fanout.assert_equal()


def test_rows_that_the_source_no_longer_has_go_where_that_is_asked_for(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=MERGE)
    fanout.do("source", "DELETE FROM t WHERE id > 8", "UPDATE t SET id = 100 WHERE id = 1")
    (outcome,) = fanout.succeed(loading=MERGE, delete_missing=True)
    assert outcome.rows == 4  # one added, three removed
    fanout.assert_equal()


def test_a_merge_that_would_remove_too_much_changes_nothing(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
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
    assert outcome.rows == 4
    fanout.assert_equal()


def test_a_key_other_than_the_primary_one_can_be_named(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int, code text NOT NULL UNIQUE)")
    fanout.do("source", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    fanout.succeed(loading=MERGE, key=("code",))
    fanout.do("source", "UPDATE t SET id = 3 WHERE code = 'a'")
    assert fanout.succeed(loading=MERGE, key=("code",))[0].rows == 1
    fanout.assert_equal()


def test_merge_without_any_key_is_refused(fanout: Fanout) -> None:
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
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
    assert outcome.rows == 4
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
    assert fanout.succeed(loading=way)[0].rows == 1
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


# -- a cursor and its overlap -------------------------------------------------------------------


def bounded(way: Loading = MERGE, **more: Any) -> dict[str, Any]:
    return {"loading": way, "cursor": "at", "overlap": HOUR, **more}


def fill_times(fanout: Fanout) -> None:
    fanout.do(
        "source",
        "INSERT INTO t SELECT i, 'first', now() - i * interval '1 day' FROM generate_series(1, 10) i",
        "INSERT INTO t VALUES (11, 'latest', now())",
    )


@INCREMENTAL
def test_a_full_look_finds_and_reports_what_a_bounded_overlap_has_left_out(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(TIMED)
    fill_times(fanout)
    fanout.succeed(**bounded(way))
    fanout.do(
        "source",
        "INSERT INTO t VALUES (20, 'within', now() - interval '30 min'),"
        " (21, 'behind', now() - interval '2 h'), (22, 'without', NULL), (23, 'now', now())",
    )
    fanout.succeed(**bounded(way))
    assert ids(fanout) == [*range(1, 12), 20, 23]
    assert fanout.relayed == 2
    assert fanout.of(events.RowsMissed) == []
    fanout.succeed(**bounded(way, full_every=0.0))
    assert fanout.of(events.RowsMissed) == [events.RowsMissed("eu", "public.t", 2)]
    fanout.assert_equal()
    fanout.succeed(**bounded(way, full_every=0.0))
    assert fanout.of(events.RowsMissed) == []


def test_a_full_look_finds_what_several_bounded_ones_have_left_out(fanout: Fanout) -> None:
    fanout.create(TIMED)
    fill_times(fanout)
    fanout.succeed(**bounded())
    for number in (20, 21):
        fanout.do("source", f"INSERT INTO t VALUES ({number}, 'old', now() - interval '1 day')")
        fanout.succeed(**bounded())
        assert number not in ids(fanout)
    fanout.succeed(**bounded(full_every=0.0))
    assert fanout.of(events.RowsMissed) == [events.RowsMissed("eu", "public.t", 2)]
    fanout.assert_equal()


def test_with_all_as_overlap_no_cursor_leaves_anything_out(fanout: Fanout) -> None:
    fanout.create(TIMED)
    fill_times(fanout)
    fanout.succeed(loading=MERGE, cursor="at")
    fanout.do("source", "INSERT INTO t VALUES (21, 'behind', '-infinity'), (22, 'without', NULL)")
    fanout.succeed(loading=MERGE, cursor="at")
    fanout.assert_equal()


@pytest.mark.parametrize("value", ["infinity", "2200-01-01"])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_neither_infinity_nor_the_future_becomes_a_mark(
    fanout: Fanout, kind: str, value: str
) -> None:
    fanout.create(f"CREATE TABLE t (id int PRIMARY KEY, note text, at {kind})")
    fanout.do("source", f"INSERT INTO t VALUES (1, 'now', now()), (2, 'wild', '{value}')")
    fanout.succeed(**bounded())
    fanout.do("source", "INSERT INTO t VALUES (3, 'later', now())")
    assert fanout.succeed(**bounded())[0].rows == 1
    fanout.assert_equal()


@pytest.mark.parametrize("value", ["Infinity", "NaN"])
def test_what_is_no_number_does_not_become_a_mark(fanout: Fanout, value: str) -> None:
    fanout.create("CREATE TABLE t (id int PRIMARY KEY, note text, at float8)")
    fanout.do("source", f"INSERT INTO t VALUES (1, 'now', 1), (2, 'wild', '{value}')")
    fanout.succeed(**bounded(overlap=5))
    fanout.do("source", "INSERT INTO t VALUES (3, 'later', 2)")
    assert fanout.succeed(**bounded(overlap=5))[0].rows == 1
    fanout.assert_equal()


@pytest.mark.parametrize("kind", ["bigint", "int", "smallint", "numeric"])
def test_a_number_can_be_the_cursor(fanout: Fanout, kind: str) -> None:
    fanout.create(f"CREATE TABLE t (id {kind} PRIMARY KEY, note text)")
    fanout.do("source", "INSERT INTO t SELECT i, 'first' FROM generate_series(101, 200) i")
    options: dict[str, Any] = {"loading": MERGE, "cursor": "id", "overlap": 10}
    fanout.succeed(**options)
    fanout.do("source", "UPDATE t SET note = 'changed' WHERE id IN (150, 189, 190, 195)")
    fanout.do("source", "INSERT INTO t VALUES (201, 'new')")
    assert fanout.succeed(**options)[0].rows == 3
    changed = "SELECT id::int FROM t WHERE note = 'changed' ORDER BY id"
    assert fanout.ask("eu", changed) == [(190,), (195,)]
    fanout.succeed(**options, full_every=0.0)
    assert fanout.of(events.RowsMissed) == [events.RowsMissed("eu", "public.t", 2)]
    fanout.assert_equal()


def test_a_table_may_have_a_cursor_of_its_own(fanout: Fanout) -> None:
    fanout.create(TIMED, "CREATE TABLE u (id int PRIMARY KEY, seen timestamptz)")
    fill_times(fanout)
    fanout.do("source", "INSERT INTO u VALUES (1, now())")
    own = Tables(("public.t", "public.u"), {"public.u": TableOptions(cursor="seen")})
    fanout.succeed(**bounded(what=own))
    fanout.do("source", "INSERT INTO u VALUES (2, now() - interval '2 h'), (3, now())")
    fanout.do("source", "INSERT INTO t VALUES (30, 'now', now())")
    assert fanout.succeed(**bounded(what=own))[0].rows == 2
    assert fanout.ask("eu", "SELECT id FROM u ORDER BY id") == [(1,), (3,)]


# -- several destinations -----------------------------------------------------------------------


def seq_scans(fanout: Fanout, table: str) -> int:
    query = f"SELECT seq_scan FROM pg_stat_user_tables WHERE relname = '{table}'"
    return int(fanout.ask("source", query)[0][0])


@pytest.mark.parametrize("way", [DELETE, TRUNCATE, APPEND, MERGE], ids=WAYS)
def test_the_source_is_scanned_once_for_three_destinations(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, "CREATE TABLE sentinel ()", replicas=3)
    fanout.do("source", TEN)
    for runs in (1, 2):
        fanout.succeed(loading=way)
        assert list(fanout.passes()) == [{"eu", "us", "ap"}]
        fanout.do("source", "SELECT FROM sentinel", f"INSERT INTO t VALUES ({runs + 10}, 'new')")
        # What is counted can be seen a little later; what came before it then as well.
        seen = partial(lambda runs: seq_scans(fanout, "sentinel") >= runs, runs)
        assert wait_for(seen, timeout=20)
        assert seq_scans(fanout, "t") == 1 + runs  # the first made the index


def test_destinations_with_other_modes_share_what_they_can(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=3)
    fanout.do("source", TEN)
    ways = {"eu": TRUNCATE, "us": MERGE, "ap": APPEND}
    fanout.succeed(at=ways)
    assert list(fanout.passes()) == [{"eu", "us", "ap"}]
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    outcomes = fanout.succeed(at=ways)
    assert list(fanout.passes()) == [{"us", "ap"}, {"eu"}]
    assert [outcome.rows for outcome in outcomes] == [11, 1, 1]
    fanout.assert_equal()


@INCREMENTAL
def test_a_laggard_catches_up_in_a_scan_of_its_own(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, replicas=3)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "INSERT INTO t SELECT i, 'second' FROM generate_series(11, 30) i")
    fanout.succeed(loading=way, to=("eu", "us"))
    fanout.do("source", "INSERT INTO t VALUES (31, 'third')")
    outcomes = fanout.succeed(loading=way)
    assert set(fanout.passes()) == {frozenset({"eu", "us"}), frozenset({"ap"})}
    assert [outcome.rows for outcome in outcomes] == [1, 1, 21]
    fanout.assert_equal()
    fanout.succeed(loading=way)
    assert list(fanout.passes()) == [{"eu", "us", "ap"}]


def test_one_that_is_refused_does_not_keep_the_others_from_their_rows(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=3)
    fanout.do("source", TEN)
    fanout.do("us", "DROP TABLE t")
    report = fanout.run(loading=MERGE)
    assert [outcome.verdict.value for outcome in report.outcomes] == [
        "succeeded", "failed", "succeeded",
    ]  # fmt: skip
    assert report.verdict.value == "partial"
    fanout.assert_equal(to=("eu", "ap"))
    fanout.do("us", KEYED)
    fanout.succeed(loading=MERGE)
    fanout.assert_equal()


# -- what became of a destination meanwhile -----------------------------------------------------


@pytest.mark.parametrize(("way", "table"), [(APPEND, KEYLESS), (APPEND, KEYED), (MERGE, KEYED)])
def test_a_table_that_was_emptied_by_hand_is_filled_again(
    fanout: Fanout, way: Loading, table: str
) -> None:
    fanout.create(table)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "DELETE FROM t")
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    assert fanout.succeed(loading=way)[0].rows == 11
    fanout.assert_equal()


@pytest.mark.parametrize("way", [DELETE, TRUNCATE, APPEND, MERGE], ids=WAYS)
def test_a_table_that_was_dropped_and_made_again_is_filled_again(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "DROP TABLE t", KEYED)
    fanout.succeed(loading=way)
    fanout.assert_equal()


@INCREMENTAL
def test_rows_of_a_table_that_was_made_again_are_compared_by_key(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "DROP TABLE t", KEYED, "INSERT INTO t VALUES (1, 'first'), (2, 'of old')")
    assert fanout.succeed(loading=way)[0].rows == 9
    fanout.assert_equal()


def test_rows_of_a_table_that_was_made_again_cannot_be_compared_without_a_key(
    fanout: Fanout,
) -> None:
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("eu", "DROP TABLE t", KEYLESS, "INSERT INTO t VALUES (1, 'first')")
    assert "--full" in fanout.fail(loading=APPEND)
    assert ids(fanout) == [1]
    fanout.succeed(loading=APPEND, is_full=True)
    fanout.assert_equal()


@INCREMENTAL
def test_a_full_run_loads_every_row_anew(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "UPDATE t SET note = 'by hand' WHERE id = 5", "DELETE FROM t WHERE id = 6")
    fanout.do("eu", "INSERT INTO t VALUES (99, 'stray')")
    assert fanout.succeed(loading=way)[0].rows == 0  # what was there is not looked at
    assert fanout.succeed(loading=way, is_full=True)[0].rows == 10
    fanout.assert_equal()
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    assert fanout.succeed(loading=way)[0].rows == 1
    fanout.assert_equal()


# -- SQL of the operator's own ------------------------------------------------------------------

CALLS = "CREATE TABLE calls (what text)"


def test_before_and_after_run_in_the_transaction_of_the_data(fanout: Fanout) -> None:
    fanout.create(KEYED, CALLS)
    fanout.do("source", TEN)
    own = Loading(
        before=("INSERT INTO calls SELECT 'before ' || count(*) FROM t",),
        after=("INSERT INTO calls SELECT 'after ' || count(*) FROM t",),
    )
    fanout.succeed(loading=own)
    assert fanout.ask("eu", "SELECT what FROM calls") == [("before 0",), ("after 10",)]
    transactions = fanout.ask("eu", "SELECT xmin::text FROM calls UNION SELECT xmin::text FROM t")
    assert len(transactions) == 1


@pytest.mark.parametrize("way", ["before", "after"])
def test_what_before_or_after_raises_leaves_the_old_rows(fanout: Fanout, way: str) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed()
    fanout.do("source", "DELETE FROM t WHERE id = 1")
    own: dict[str, Any] = {way: ("SELECT no_such_function()",)}
    failing = replace(DELETE, **own)
    assert "no_such_function" in fanout.fail(loading=failing)
    assert len(ids(fanout)) == 10


@pytest.mark.parametrize("key", ["before", "after"])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "ROLLBACK AND CHAIN"])
def test_before_and_after_must_not_end_the_transaction(fanout: Fanout, key: str, end: str) -> None:
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    own: dict[str, Any] = {key: (end,)}
    ending = replace(APPEND, **own)
    assert f"{key} ends the transaction" in fanout.fail(loading=ending)
    fanout.succeed(loading=APPEND)  # what was committed all the same is not added again
    fanout.assert_equal()


def test_after_commit_runs_outside_the_transaction(fanout: Fanout) -> None:
    fanout.create(KEYED, CALLS)
    fanout.do("source", TEN)
    own = Loading(after_commit=("VACUUM t", "INSERT INTO calls SELECT 'rows: ' || count(*) FROM t"))
    for number in (1, 2):
        (outcome,) = fanout.succeed(loading=own)
        assert outcome.notes == ()
        assert fanout.ask("eu", "SELECT what FROM calls") == [("rows: 10",)] * number
        assert fanout.ask("eu", "SELECT after_commit_done FROM copyd.ledger") == [(True,)]


def test_what_fails_after_the_commit_is_noted_and_done_by_the_next_run(fanout: Fanout) -> None:
    fanout.create(KEYED, CALLS)
    fanout.do("source", TEN)
    own = Loading(
        after_commit=("INSERT INTO calls VALUES ('begun')", "INSERT INTO done VALUES ('done')")
    )
    (outcome,) = fanout.succeed(loading=own)
    assert "after its COMMIT" in outcome.notes[0]
    assert "done" in outcome.notes[0]
    assert outcome.rows == 10
    assert fanout.ask("eu", "SELECT after_commit_done FROM copyd.ledger") == [(False,)]
    fanout.do("eu", "CREATE TABLE done (what text)")
    assert fanout.succeed(loading=own)[0].notes == ()
    assert fanout.ask("eu", "SELECT what FROM done") == [("done",)]
    assert fanout.ask("eu", "SELECT after_commit_done FROM copyd.ledger") == [(True,)]


def test_names_in_the_operators_sql_are_looked_up_as_the_role_does(fanout: Fanout) -> None:
    fanout.create(KEYED, "CREATE SCHEMA own", "CREATE TABLE own.calls (what text)")
    fanout.do("source", TEN)
    own = Loading(
        before=("INSERT INTO calls VALUES ('before')",),
        after=("INSERT INTO calls VALUES ('after')",),
        after_commit=("INSERT INTO calls VALUES ('after commit')",),
    )
    path = {"eu": f"{fanout.conninfos['eu']} options='-c search_path=own'"}
    (outcome,) = fanout.succeed(loading=own, conninfos=path)
    assert outcome.notes == ()
    assert len(fanout.ask("eu", "SELECT FROM own.calls")) == 3


@pytest.mark.parametrize("is_wanted", [True, False])
def test_tables_are_analyzed_where_that_is_wanted(fanout: Fanout, is_wanted: bool) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    (outcome,) = fanout.succeed(loading=Loading(analyze=is_wanted))
    statistics = fanout.ask("eu", "SELECT FROM pg_stats WHERE tablename = 't'")
    assert (len(statistics) > 0, outcome.analyze_seconds > 0) == (is_wanted, is_wanted)


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
@pytest.mark.parametrize("triggers", ["fire", "skip"])
def test_triggers_fire_or_are_skipped(fanout: Fanout, mode: Any, triggers: Any) -> None:
    fanout.create(
        KEYED,
        more="CREATE TABLE calls (what text);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.calls VALUES (NEW.note); RETURN NULL; END';"
        "CREATE TRIGGER note AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()",
    )
    fanout.do("source", TEN)
    loading = Loading(mode=mode, triggers=triggers)
    fanout.succeed(loading=loading)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    fanout.succeed(loading=loading)
    calls = len(fanout.ask("eu", "SELECT FROM calls"))
    assert calls == (0 if triggers == "skip" else 21 if mode == "replace" else 11)
    fanout.assert_equal()


# -- what is read, and where it goes ------------------------------------------------------------


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_a_table_may_have_another_name_at_a_destination(fanout: Fanout, mode: Any) -> None:
    fanout.create(KEYED, more='CREATE SCHEMA "Far"; ALTER TABLE t SET SCHEMA "Far"')
    fanout.do("eu", 'ALTER TABLE "Far".t RENAME TO "T"')
    fanout.do("source", TEN)
    loading = Loading(mode=mode, tables={"public.t": '"Far"."T"'})
    fanout.succeed(loading=loading)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    fanout.succeed(loading=loading)
    there = fanout.ask("eu", 'SELECT id, note FROM "Far"."T" ORDER BY id')
    assert there == fanout.ask("source", ROWS)
    assert fanout.ask("eu", "SELECT schema, name FROM copyd.ledger") == [("Far", "T")]


@pytest.mark.parametrize("way", [DELETE, TRUNCATE, MERGE], ids=["delete", "truncate", "merge"])
def test_the_rows_of_a_query_go_into_a_table(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, more="CREATE TABLE sums (note text PRIMARY KEY, n bigint)")
    fanout.do("source", TEN)
    query = Query("SELECT note, count(*) AS n FROM t GROUP BY note", "public.sums")
    options: dict[str, Any] = {"query": query, "loading": way, "key": ("note",)}
    fanout.succeed(**options)
    fanout.do("source", "UPDATE t SET note = 'second' WHERE id < 4")
    fanout.succeed(**options)
    sums = fanout.ask("eu", "SELECT note, n FROM sums ORDER BY note")
    assert sums == [("first", 7), ("second", 3)]


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_is_merged_by_its_key(fanout: Fanout, kind: str) -> None:
    fanout.create(more="CREATE TABLE v (id int PRIMARY KEY, note text)")
    fanout.do("source", KEYED, TEN, f"CREATE {kind} v AS SELECT id, note FROM t")
    fanout.succeed("public.v", loading=MERGE)
    fanout.do("source", "UPDATE t SET note = 'second' WHERE id < 4", "DELETE FROM t WHERE id = 9")
    if kind != "VIEW":
        fanout.do("source", "REFRESH MATERIALIZED VIEW v")
    (outcome,) = fanout.succeed("public.v", loading=MERGE, delete_missing=True)
    assert outcome.rows == 4
    fanout.assert_equal("v")


def test_a_condition_and_columns_choose_what_is_kept(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int PRIMARY KEY, note text DEFAULT 'own')")
    fanout.do("source", TEN)
    some = Tables(("public.t",), {"public.t": TableOptions(columns=("id",), where="id % 2 = 0")})
    for way in (MERGE, DELETE):
        fanout.succeed(what=some, loading=way)
        assert fanout.ask("eu", ROWS) == [(i, "own") for i in (2, 4, 6, 8, 10)]


def test_a_table_that_is_not_there_fails_the_run_before_any_destination_is_touched(
    fanout: Fanout,
) -> None:
    fanout.create(KEYED)
    with pytest.raises(CopydError, match=r"there is no table public\.gone"):
        fanout.run("public.gone")
    assert fanout.ask("eu", "SELECT FROM pg_namespace WHERE nspname = 'copyd'") == []


# -- what looks the same and is not ---------------------------------------------------------------


@pytest.mark.parametrize("way", [APPEND, MERGE], ids=["append", "merge"])
def test_a_column_that_was_dropped_and_added_again_takes_a_full_run(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "ALTER TABLE t DROP COLUMN note, ADD COLUMN note text DEFAULT 'new'")
    assert "--full" in fanout.fail(loading=way)
    assert fanout.run(loading=way, is_full=True).verdict.value == "succeeded"
    fanout.assert_equal()


def test_another_cursor_begins_with_a_full_look(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int PRIMARY KEY, seq int)")
    fanout.do("source", "INSERT INTO t SELECT i, 1000000 + i FROM generate_series(1, 100) i")
    fanout.succeed(loading=APPEND, cursor="seq", overlap=10)
    fanout.do("source", "INSERT INTO t SELECT i, 1000000 + i FROM generate_series(101, 200) i")
    fanout.succeed(loading=APPEND, cursor="id", overlap=10)
    fanout.assert_equal()


@pytest.mark.parametrize(
    ("cursor", "overlap", "said"),
    [
        ("at", 10, "a duration"),
        ("id", timedelta(hours=1), "a number"),
        ("x", 10, '"all"'),
    ],
)
def test_an_overlap_that_does_not_go_with_its_cursor_is_refused(
    fanout: Fanout, cursor: str, overlap: object, said: str
) -> None:
    fanout.create("CREATE TABLE t (id int PRIMARY KEY, x text, at timestamptz)")
    with pytest.raises(CopydError, match=f"cursor {cursor} is .* must be {said}"):
        fanout.run(loading=MERGE, cursor=cursor, overlap=overlap)


def test_rows_that_a_trigger_keeps_out_fail_the_destination(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do(
        "eu",
        "CREATE FUNCTION half() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.id % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END'",
        "CREATE TRIGGER half BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION half()",
    )
    fanout.do("source", TEN)
    assert "5 of 10 rows were stored" in fanout.fail()
    assert fanout.ask("eu", "SELECT count(*) FROM t") == [(0,)]


def test_a_source_whose_locks_are_lost_is_read_again(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE a (i int)", "CREATE TABLE b (i int)")
    fanout.do("source", "INSERT INTO a VALUES (1)", "INSERT INTO b SELECT generate_series(1, 10)")
    ended: list[object] = []

    def rewrite(event: Event) -> None:
        if isinstance(event, events.DataRelayed) and not ended:
            ended.extend(
                fanout.ask(
                    "source",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND state = 'idle in transaction'"
                    " AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1",
                )
            )
            fanout.do("source", "SET lock_timeout = '5s'", "ALTER TABLE b ALTER i TYPE bigint")

    two = Reintroduce(attempts=2, backoff=0.05, max_backoff=0.1)
    fanout.succeed("public.a", "public.b", observe=rewrite, reintroduce=two)
    assert ended
    assert any(isinstance(event, events.SourceDropped) for event in fanout.seen)
    assert fanout.ask("eu", "SELECT count(*) FROM b") == [(10,)]


def test_a_source_whose_snapshot_is_lost_between_two_passes_is_read_again(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2)
    fanout.do("source", TEN)
    ended: list[object] = []

    def end(event: Event) -> None:
        if isinstance(event, events.DataRelayed) and not ended:
            ended.extend(fanout.ask("us", OTHERS))
        if isinstance(event, events.PassStarted) and event.number == 2:
            ended.extend(fanout.ask("source", OTHERS))

    two = Reintroduce(attempts=2, backoff=0.05, max_backoff=0.1)
    fanout.succeed(observe=end, reintroduce=two)
    assert len(ended) == 2
    lost = [event for event in fanout.seen if isinstance(event, events.SourceDropped)]
    assert [event.will_return for event in lost] == [True]
    fanout.assert_equal()


def test_one_that_cannot_start_its_next_table_is_dropped_and_the_rest_go_on(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE a (i int)", "CREATE TABLE b (i int)", replicas=2)
    fanout.do("source", "INSERT INTO a VALUES (1)", "INSERT INTO b VALUES (2)")
    ended: list[object] = []

    def end(event: Event) -> None:
        if isinstance(event, events.DataRelayed) and not ended:
            ended.extend(fanout.ask("us", OTHERS))

    report = fanout.run("public.a", "public.b", observe=end)
    eu, us = report.outcomes
    assert (eu.verdict.value, eu.passes, eu.faults) == ("succeeded", 1, 0)
    assert us.verdict.value == "failed"


def test_a_source_that_takes_no_more_connections_for_a_while_is_asked_again(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    database = fanout.databases["source"]

    def refuse(event: Event) -> None:
        may_connect = isinstance(event, events.SourceDropped)
        if may_connect or (isinstance(event, events.PassStarted) and event.number == 1):
            fanout.do("eu", f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS {may_connect}")

    two = Reintroduce(attempts=2, backoff=0.05, max_backoff=0.1)
    fanout.succeed(observe=refuse, reintroduce=two)
    assert [type(event) for event in fanout.seen].count(events.SourceDropped) == 1
    fanout.assert_equal()


def test_what_ends_a_copy_is_told_though_a_destination_faults_while_it_ends(
    fanout: Fanout,
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)

    def fail(event: Event) -> None:
        if isinstance(event, events.DataRelayed):
            fanout.ask("eu", OTHERS)
            raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="a defect"):
        run(fanout.transfer(), observe=fail)
    assert fanout.ask("eu", "SELECT count(*) FROM t") == [(0,)]
