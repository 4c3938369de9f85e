"""A watermark column and its lookback (`cursor`, `overlap`): which rows a scan reads."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from copyd import events
from copyd.errors import CopydError
from copyd.transfers import Loading, Tables
from copyd.transfers.transfer import TableOptions
from tests.support.loadings import APPEND, INCREMENTAL, MERGE, ids

if TYPE_CHECKING:
    from tests.support.fanout import Fanout

TIMED = "CREATE TABLE t (id int PRIMARY KEY, note text, at timestamptz)"
HOUR = timedelta(hours=1)


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
    assert fanout.succeed(**bounded())[0].counts.rows == 1
    fanout.assert_equal()


@pytest.mark.parametrize("value", ["Infinity", "NaN"])
def test_what_is_no_number_does_not_become_a_mark(fanout: Fanout, value: str) -> None:
    fanout.create("CREATE TABLE t (id int PRIMARY KEY, note text, at float8)")
    fanout.do("source", f"INSERT INTO t VALUES (1, 'now', 1), (2, 'wild', '{value}')")
    fanout.succeed(**bounded(overlap=5))
    fanout.do("source", "INSERT INTO t VALUES (3, 'later', 2)")
    assert fanout.succeed(**bounded(overlap=5))[0].counts.rows == 1
    fanout.assert_equal()


@pytest.mark.parametrize("kind", ["bigint", "int", "smallint", "numeric"])
def test_a_number_can_be_the_cursor(fanout: Fanout, kind: str) -> None:
    fanout.create(f"CREATE TABLE t (id {kind} PRIMARY KEY, note text)")
    fanout.do("source", "INSERT INTO t SELECT i, 'first' FROM generate_series(101, 200) i")
    options: dict[str, Any] = {"loading": MERGE, "cursor": "id", "overlap": 10}
    fanout.succeed(**options)
    fanout.do("source", "UPDATE t SET note = 'changed' WHERE id IN (150, 189, 190, 195)")
    fanout.do("source", "INSERT INTO t VALUES (201, 'new')")
    assert fanout.succeed(**options)[0].counts.rows == 3
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
    assert fanout.succeed(**bounded(what=own))[0].counts.rows == 2
    assert fanout.ask("eu", "SELECT id FROM u ORDER BY id") == [(1,), (3,)]


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
