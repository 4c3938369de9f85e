"""Which tables, columns, rows and queries are read, and the tables that they go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from copyd.errors import CopydError
from copyd.transfers import Loading, Query, Tables
from copyd.transfers.transfer import TableOptions
from tests.support.loadings import DELETE, EXACT, KEYED, MERGE, ROWS, TEN

if TYPE_CHECKING:
    from tests.support.fanout import Fanout


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


@EXACT
def test_the_rows_of_a_query_go_into_a_table(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, more="CREATE TABLE sums (note text PRIMARY KEY, n bigint)", fill=TEN)
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
    assert outcome.counts.rows == 4
    fanout.assert_equal("v")


def test_a_condition_and_columns_choose_what_is_kept(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int PRIMARY KEY, note text DEFAULT 'own')", fill=TEN)
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
