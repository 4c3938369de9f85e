"""Tables that a run refuses, because rows could be lost or kept there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from copyd import events
from copyd.transfers import Loading, Verdict
from tests.support.loadings import ALL_WAYS, DELETE, KEYED, MERGE, TEN, TRUNCATE, adopting

if TYPE_CHECKING:
    from tests.support.fanout import Fanout


@ALL_WAYS
def test_unlogged_tables_are_replaced_but_not_appended_to(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, more="ALTER TABLE t SET UNLOGGED", fill=TEN)
    if way.mode == "replace":
        fanout.succeed(loading=way)
        fanout.assert_equal()
    else:
        assert "UNLOGGED" in fanout.fail(loading=way)


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
@pytest.mark.parametrize("way", [DELETE, TRUNCATE], ids=["delete", "truncate"])
def test_a_replace_reaches_no_table_outside_the_transfer(
    fanout: Fanout, way: Loading, action: str
) -> None:
    fanout.create(
        KEYED, f"CREATE TABLE u (t int DEFAULT 1 REFERENCES t ON DELETE {action})", fill=TEN
    )
    fanout.do("eu", TEN, "INSERT INTO u VALUES (5)")
    assert f"public.u (ON DELETE {action})" in fanout.fail(loading=adopting(way))
    assert fanout.ask("eu", "SELECT t FROM u") == [(5,)]


BROKEN = {
    "no such table": ("DROP TABLE t", "there is no table"),
    "no such column": ("ALTER TABLE t DROP note", "it has no column note"),
    "another type": ("ALTER TABLE t ALTER note TYPE date USING NULL", "its column note is date"),
    "a generated column": (
        "ALTER TABLE t DROP note, ADD note text GENERATED ALWAYS AS ('x') STORED",
        "note is generated",
    ),
    "a column that must be given": ("ALTER TABLE t ADD more int NOT NULL", "more is NOT NULL"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_refused_before_any_data_moves(fanout: Fanout, what: str) -> None:
    fanout.create(KEYED, replicas=2, fill=TEN)
    statement, said = BROKEN[what]
    fanout.do("us", statement)
    for way in (DELETE, MERGE):
        eu, us = fanout.run(loading=way).outcomes
        assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
        assert said in (us.cause or "")
        assert list(fanout.passes()) == [{"eu"}]


@pytest.mark.parametrize(("minimum", "verdict"), [(1, "partial"), (2, "partial"), (3, "failed")])
def test_a_run_with_too_few_successes_has_failed(
    fanout: Fanout, minimum: int, verdict: str
) -> None:
    fanout.create(KEYED, replicas=3, fill=TEN)
    fanout.do("us", "DROP TABLE t")
    report = fanout.run(minimum_destinations=minimum)
    assert report.verdict.value == verdict
    assert isinstance(fanout.seen[-1], events.RunEnded)
    assert fanout.seen[-1].verdict == verdict
    fanout.assert_equal(to=("eu", "ap"))  # what succeeded stays


SOFT = (
    "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN UPDATE public.t SET note = ''gone'' WHERE id = OLD.id; RETURN NULL; END';"
    "CREATE TRIGGER soft BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION keep()"
)


def test_rows_that_a_trigger_keeps_are_not_mixed_with_the_sources(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int, note text)", fill=TEN)
    fanout.succeed(loading=DELETE)
    fanout.do("eu", SOFT)
    said = fanout.fail(loading=DELETE)
    assert "because its triggers (soft) kept them" in said
    fanout.assert_equal()
    fanout.succeed(loading=TRUNCATE)
    fanout.succeed(loading=replace(DELETE, triggers="skip"))
    fanout.assert_equal()


def test_a_trigger_that_lets_rows_go_does_no_harm(fanout: Fanout) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=DELETE)
    fanout.do("eu", SOFT.replace("RETURN NULL", "RETURN OLD").replace("= OLD.id", "IS NULL"))
    fanout.succeed(loading=DELETE)
    fanout.assert_equal()


def test_a_rule_that_keeps_rows_is_refused_where_rows_are_deleted(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int, note text)", fill=TEN)
    fanout.succeed(loading=DELETE)
    fanout.do("eu", "CREATE RULE keep AS ON DELETE TO t DO INSTEAD NOTHING")
    assert "DISABLE RULE keep" in fanout.fail(loading=DELETE)
    fanout.assert_equal()
    fanout.succeed(loading=TRUNCATE)
    fanout.assert_equal()


def test_a_view_at_a_destination_is_no_table(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2)
    fanout.do("us", "ALTER TABLE t RENAME TO u", "CREATE VIEW t AS SELECT * FROM u")
    eu, us = fanout.run().outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
    assert "public.t is a view" in (us.cause or "")
