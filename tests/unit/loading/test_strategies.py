"""The statements of each way of loading, and how many rows may vanish."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from copyd.catalog.keys import Key
from copyd.catalog.relations import Column, Relation
from copyd.errors import CopydError
from copyd.loading import staged_rows, strategies
from copyd.loading.strategies import shrink_refusal
from copyd.loading.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import sql


def text(statement: sql.Composed) -> str:
    return statement.as_string()


EQUAL = "OPERATOR(pg_catalog.=)"


def target(name: str = "orders", kind: str = "r", number: int = 0) -> Target:
    columns = (Column("id", "integer"), Column("total", "numeric"))
    key = Key(("id",), (EQUAL,), is_primary=True)
    relation = Relation(
        oid=16_400 + number,
        schema="shop",
        name=name,
        kind=kind,
        persistence="p",
        filenode=1,
        estimated_rows=None,
        columns=columns,
        keys=(key,),
    )
    return Target(relation=relation, columns=columns, key=key, number=number)


ORDERS, LINES = target(), target("lines", number=1)
PARTITIONED = target("events", kind="p")


@pytest.mark.parametrize(
    ("before", "after", "limit"),
    [(0, 0, 0.9), (0, 5, 0.0), (10, 10, 0.0), (10, 12, 0.0), (10, 1, 0.9), (100, 71, 0.29), (5, 0, 1)],
)  # fmt: skip
def test_a_table_may_lose_as_many_rows_as_the_limit_says(
    before: int, after: int, limit: float
) -> None:
    assert shrink_refusal(before, after, limit) is None


@pytest.mark.parametrize(
    ("before", "after", "limit"), [(10, 0, 0.9), (100, 70, 0.29), (1, 0, 0.0), (1, 0, 0.999_999)]
)
def test_a_table_may_not_lose_one_more(before: int, after: int, limit: float) -> None:
    assert shrink_refusal(before, after, limit) is not None


def test_a_refusal_to_shrink_says_how_many_rows_and_which_limit() -> None:
    assert shrink_refusal(1_000, 50, 0.9) == (
        "950 of 1,000 rows would vanish, a larger share than max_shrink = 0.9 allows: "
        "if that is right, raise it for one run"
    )


def test_replacing_names_each_table_alone_and_all_at_once() -> None:
    both = [ORDERS, LINES]
    assert text(strategies.lock(both)) == (
        'LOCK TABLE ONLY "shop"."orders", ONLY "shop"."lines" IN SHARE ROW EXCLUSIVE MODE'
    )
    assert text(strategies.truncate(both)) == (
        'TRUNCATE TABLE ONLY "shop"."orders", ONLY "shop"."lines" CONTINUE IDENTITY RESTRICT'
    )
    assert text(strategies.delete(LINES)) == 'DELETE FROM ONLY "shop"."lines"'


def test_rows_are_frozen_where_that_is_asked_for() -> None:
    assert text(strategies.copy_rows(ORDERS, format="binary")) == (
        'COPY "shop"."orders" ("id", "total") FROM STDIN (FORMAT "binary")'
    )
    assert text(strategies.copy_rows(ORDERS, format="text", freeze=True)) == (
        'COPY "shop"."orders" ("id", "total") FROM STDIN (FORMAT "text", FREEZE)'
    )


def test_partitions_are_part_of_their_table() -> None:
    assert text(strategies.lock([PARTITIONED])) == (
        'LOCK TABLE "shop"."events" IN SHARE ROW EXCLUSIVE MODE'
    )
    assert text(strategies.delete(PARTITIONED)) == 'DELETE FROM "shop"."events"'


def test_staging_tables_of_one_transaction_have_names_of_their_own() -> None:
    assert text(staged_rows.stage(LINES)) == (
        'CREATE TEMPORARY TABLE "pg_temp"."copyd_rows_1" ON COMMIT DROP AS SELECT "id", "total"'
        ' FROM ONLY "shop"."lines" WITH NO DATA'
    )
    assert '"pg_temp"."copyd_keys_0"' in text(staged_rows.stage_keys(ORDERS))


def test_the_keys_own_operators_tell_rows_apart() -> None:
    key = Key(("id", "total"), (EQUAL, 'OPERATOR("Odd".==)'))
    same = '"target"."id" OPERATOR(pg_catalog.=) "staged"."id" AND '
    same += '"target"."total" OPERATOR("Odd".==) "staged"."total"'
    assert text(staged_rows.upsert(replace(ORDERS, key=key))).count(same) == 2


def test_a_column_that_is_always_generated_is_not_set() -> None:
    columns = (Column("id", "integer", identity="a"), Column("total", "numeric", identity="d"))
    upsert = text(staged_rows.upsert(replace(ORDERS, columns=columns)))
    assert 'SET "total" = "staged"."total" FROM' in upsert


def test_text_within_names_stays_as_it_is() -> None:
    odd = target('say  "x"; {} %s -- ')
    assert text(strategies.delete(odd)) == 'DELETE FROM ONLY "shop"."say  ""x""; {} %s -- "'


@pytest.mark.parametrize("build", [staged_rows.stage_keys, staged_rows.upsert])
def test_what_needs_a_key_says_so(build: Callable[[Target], object]) -> None:
    with pytest.raises(CopydError, match=r"^table shop.orders has no key"):
        build(replace(ORDERS, key=None))
