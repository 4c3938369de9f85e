"""Replace: exactly the source's rows, in one transaction, on real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from copyd import events
from copyd.transfers import Loading, Reintroduce
from tests.support.loadings import (
    APPEND,
    EXACT,
    INCREMENTAL,
    KEYED,
    MERGE,
    REPLACE,
    TEN,
    TRUNCATE,
    ids,
)

if TYPE_CHECKING:
    from copyd.events import Event
    from tests.support.fanout import Fanout


@REPLACE
def test_replace_leaves_exactly_the_sources_rows(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, replicas=2, fill=TEN)
    assert [outcome.counts.rows for outcome in fanout.succeed(loading=way)] == [10, 10]
    fanout.assert_equal()
    fanout.do("source", "DELETE FROM t WHERE id < 3", "UPDATE t SET note = 'second' WHERE id = 7")
    fanout.do("source", "INSERT INTO t VALUES (11, NULL)")
    fanout.do("eu", "INSERT INTO t VALUES (99, 'stray')")
    assert [outcome.counts.rows for outcome in fanout.succeed(loading=way)] == [9, 9]
    fanout.assert_equal()


@REPLACE
def test_a_table_that_would_shrink_too_much_keeps_its_old_rows(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "DELETE FROM t WHERE id > 4")
    assert "6 of 10 rows would vanish" in fanout.fail(loading=way, max_shrink=0.59)
    assert len(ids(fanout)) == 10
    fanout.succeed(loading=way, max_shrink=0.6)
    fanout.assert_equal()


@REPLACE
def test_a_source_table_that_was_emptied_empties_a_replica_only_where_that_is_allowed(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "TRUNCATE t")
    assert "10 of 10 rows would vanish" in fanout.fail(loading=way)
    assert len(ids(fanout)) == 10
    fanout.succeed(loading=way, max_shrink=1.0)
    assert ids(fanout) == []


@REPLACE
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


@EXACT
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


@INCREMENTAL
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


@EXACT
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
    fanout.create(KEYED, fill=TEN)
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
    fanout.create(KEYED, fill=TEN)
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
