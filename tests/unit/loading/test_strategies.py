"""The statements of each way of loading, and how many rows may vanish."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from copyd.errors import CopydError
from copyd.loading import strategies
from copyd.loading.relations import Column, Key, Relation
from copyd.loading.strategies import Target, describe, shrink_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

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
        has_children=False,
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


def test_replace_by_delete_empties_children_before_parents_and_fills_them_after() -> None:
    assert describe([ORDERS, LINES], mode="replace") == (
        'LOCK TABLE ONLY "shop"."orders", ONLY "shop"."lines" IN SHARE ROW EXCLUSIVE MODE',
        'DELETE FROM ONLY "shop"."lines"',
        'DELETE FROM ONLY "shop"."orders"',
        'COPY "shop"."orders" ("id", "total") FROM STDIN (FORMAT "text")',
        'COPY "shop"."lines" ("id", "total") FROM STDIN (FORMAT "text")',
    )


def test_replace_by_truncate_is_one_statement_and_frozen_rows() -> None:
    assert describe([ORDERS, LINES], mode="replace", replace_with="truncate") == (
        'TRUNCATE TABLE ONLY "shop"."orders", ONLY "shop"."lines" CONTINUE IDENTITY RESTRICT',
        'COPY "shop"."orders" ("id", "total") FROM STDIN (FORMAT "text", FREEZE)',
        'COPY "shop"."lines" ("id", "total") FROM STDIN (FORMAT "text", FREEZE)',
    )


def test_partitions_are_part_of_their_table() -> None:
    lock, delete, _ = describe([PARTITIONED], mode="replace")
    assert lock == 'LOCK TABLE "shop"."events" IN SHARE ROW EXCLUSIVE MODE'
    assert delete == 'DELETE FROM "shop"."events"'


def test_what_has_no_key_is_appended_at_once() -> None:
    plain = replace(ORDERS, key=None)
    words = [text.split(" (")[0] for text in describe([plain, LINES], mode="append")]
    assert words == [
        'LOCK TABLE ONLY "shop"."orders", ONLY "shop"."lines" IN SHARE ROW EXCLUSIVE MODE',
        (
            'CREATE TEMPORARY TABLE "pg_temp"."copyd_rows_1" ON COMMIT DROP AS SELECT "id", "total"'
            ' FROM ONLY "shop"."lines" WITH NO DATA'
        ),
        'COPY "shop"."orders"',
        'COPY "pg_temp"."copyd_rows_1"',
        'ANALYZE "pg_temp"."copyd_rows_1"',
        'INSERT INTO "shop"."lines"',
    ]
    assert describe([plain], mode="insert", format="binary") == (
        'COPY "shop"."orders" ("id", "total") FROM STDIN (FORMAT "binary")',
    )


def test_a_merge_deletes_last_and_children_first() -> None:
    told = describe([ORDERS, LINES], mode="merge", delete_missing=True)
    first = [text.replace("(", " ").split()[0] for text in told]
    assert first == [
        "LOCK",
        *["CREATE"] * 4,
        *["COPY"] * 4,
        *["ANALYZE", "SELECT", "WITH"] * 2,
        *["ANALYZE", "DELETE"] * 2,
    ]
    assert '"shop"."lines"' in told[-3]
    assert '"shop"."orders"' in told[-1]
    assert not any("DELETE" in text for text in describe([ORDERS], mode="merge"))
    assert not any(
        "DELETE" in text for text in describe([ORDERS], mode="append", delete_missing=True)
    )


def test_the_keys_own_operators_tell_rows_apart() -> None:
    key = Key(("id", "total"), (EQUAL, 'OPERATOR("Odd".==)'))
    upsert = describe([replace(ORDERS, key=key)], mode="merge")[-1]
    same = '"target"."id" OPERATOR(pg_catalog.=) "staged"."id" AND '
    same += '"target"."total" OPERATOR("Odd".==) "staged"."total"'
    assert upsert.count(same) == 2


def test_a_column_that_is_always_generated_is_not_set() -> None:
    columns = (Column("id", "integer", identity="a"), Column("total", "numeric", identity="d"))
    upsert = describe([replace(ORDERS, columns=columns)], mode="merge")[-1]
    assert 'SET "total" = "staged"."total" FROM' in upsert
    alone = describe([replace(ORDERS, columns=columns[:1])], mode="merge")[-1]
    assert "UPDATE" not in alone
    assert "INSERT" in alone


def test_text_within_names_stays_as_it_is() -> None:
    odd = target('say  "x"; {} %s -- ')
    assert describe([odd], mode="replace")[1] == 'DELETE FROM ONLY "shop"."say  ""x""; {} %s -- "'


@pytest.mark.parametrize(
    "build", [strategies.stage_keys, lambda each: describe([each], mode="merge")]
)
def test_what_needs_a_key_says_so(build: Callable[[Target], object]) -> None:
    with pytest.raises(CopydError, match=r"^table shop.orders has no key"):
        build(replace(ORDERS, key=None))
