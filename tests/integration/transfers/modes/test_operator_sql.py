"""`before`, `after`, `after_commit`, `analyze` and `triggers`: SQL beside the data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from copyd.transfers import Loading
from tests.support.loadings import APPEND, DELETE, KEYED, KEYLESS, TEN, ids

if TYPE_CHECKING:
    from tests.support.fanout import Fanout

CALLS = "CREATE TABLE calls (what text)"


def test_before_and_after_run_in_the_transaction_of_the_data(fanout: Fanout) -> None:
    fanout.create(KEYED, CALLS, fill=TEN)
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
    fanout.create(KEYED, fill=TEN)
    fanout.succeed()
    fanout.do("source", "DELETE FROM t WHERE id = 1")
    own: dict[str, Any] = {way: ("SELECT no_such_function()",)}
    failing = replace(DELETE, **own)
    assert "no_such_function" in fanout.fail(loading=failing)
    assert len(ids(fanout)) == 10


@pytest.mark.parametrize("key", ["before", "after"])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "ROLLBACK AND CHAIN"])
def test_before_and_after_must_not_end_the_transaction(fanout: Fanout, key: str, end: str) -> None:
    fanout.create(KEYLESS, fill=TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    own: dict[str, Any] = {key: (end,)}
    ending = replace(APPEND, **own)
    assert f"{key} ends the transaction" in fanout.fail(loading=ending)
    fanout.succeed(loading=APPEND)  # what was committed all the same is not added again
    fanout.assert_equal()


def test_after_commit_runs_outside_the_transaction(fanout: Fanout) -> None:
    fanout.create(KEYED, CALLS, fill=TEN)
    own = Loading(after_commit=("VACUUM t", "INSERT INTO calls SELECT 'rows: ' || count(*) FROM t"))
    for number in (1, 2):
        (outcome,) = fanout.succeed(loading=own)
        assert outcome.notes == ()
        assert fanout.ask("eu", "SELECT what FROM calls") == [("rows: 10",)] * number
        assert fanout.ask("eu", "SELECT after_commit_done FROM copyd.ledger") == [(True,)]


def test_what_fails_after_the_commit_is_noted_and_done_by_the_next_run(fanout: Fanout) -> None:
    fanout.create(KEYED, CALLS, fill=TEN)
    own = Loading(
        after_commit=("INSERT INTO calls VALUES ('begun')", "INSERT INTO done VALUES ('done')")
    )
    (outcome,) = fanout.succeed(loading=own)
    assert "after its COMMIT" in outcome.notes[0]
    assert "done" in outcome.notes[0]
    assert outcome.counts.rows == 10
    assert fanout.ask("eu", "SELECT after_commit_done FROM copyd.ledger") == [(False,)]
    fanout.do("eu", "CREATE TABLE done (what text)")
    assert fanout.succeed(loading=own)[0].notes == ()
    assert fanout.ask("eu", "SELECT what FROM done") == [("done",)]
    assert fanout.ask("eu", "SELECT after_commit_done FROM copyd.ledger") == [(True,)]


def test_names_in_the_operators_sql_are_looked_up_as_the_role_does(fanout: Fanout) -> None:
    fanout.create(KEYED, "CREATE SCHEMA own", "CREATE TABLE own.calls (what text)", fill=TEN)
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
    fanout.create(KEYED, fill=TEN)
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
