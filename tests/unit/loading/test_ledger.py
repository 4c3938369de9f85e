"""Positions, and what is said of a ledger that cannot be used."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.loading.ledger import Position, parse_lsn
from copyd.loading.ledger_table import COLUMNS, LedgerFacts, refusals

GOOD = LedgerFacts(
    role="loader",
    database="shop",
    may_create=False,
    schema_owner="loader",
    schema_writers=[],
    table_owner="loader",
    table_writers=[],
    is_plain=True,
    has_relatives=False,
    has_trigger=False,
    has_rule=False,
    has_policy=False,
    has_constraint=False,
    has_statistics=False,
    indexes=[True],
    columns=[f"{name} {kind}" for name, kind in COLUMNS.items()],
    comment=None,
)
ABSENT = replace(GOOD, schema_owner=None, table_owner=None, is_plain=None, indexes=[], columns=[])


def refusal(facts: LedgerFacts, schema: str) -> str | None:
    return next(refusals(facts, schema), None)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0/0", 0),
        ("16/B374D848", 0x16B374D848),
        ("FFFFFFFF/FFFFFFFF", 2**64 - 1),
        ("1/A", 2**32 + 10),
    ],
)
def test_an_lsn_is_a_number(text: str, number: int) -> None:
    assert parse_lsn(text) == number
    assert Position(1, 1, number).lsn_text == text


def test_an_lsn_may_have_leading_zeros() -> None:
    assert parse_lsn("0/0000000A") == 10


@pytest.mark.parametrize("text", ["", "0", "0/1/2", "x/y"])
def test_what_is_no_lsn_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_lsn(text)


@given(st.integers(0, 2**64 - 1))
def test_every_lsn_is_read_as_it_was_written(number: int) -> None:
    assert parse_lsn(Position(0, 0, number).lsn_text) == number


def test_a_ledger_as_it_was_made_is_used() -> None:
    assert refusal(GOOD, "copyd") is None


@pytest.mark.parametrize(
    "facts",
    [replace(ABSENT, may_create=True), replace(ABSENT, schema_owner="loader")],
    ids=["no schema", "no table"],
)
def test_a_ledger_that_may_be_made_is_made(facts: LedgerFacts) -> None:
    assert refusal(facts, "copyd") is None


def test_a_ledger_that_may_not_be_made_comes_with_the_sql_to_run() -> None:
    assert refusal(replace(ABSENT, role="Loader"), "select") == (
        'the ledger needs a schema "select" in database shop and role "Loader" may not create it; '
        'have an administrator run there: CREATE SCHEMA "select" AUTHORIZATION "Loader"'
    )


def test_the_first_reason_is_said() -> None:
    facts = replace(GOOD, schema_owner="mallory", table_owner="mallory", has_trigger=True)
    assert refusal(facts, "copyd") == (
        "schema copyd in database shop cannot hold the ledger: it belongs to role mallory; "
        "if it is meant for copyd, run there: ALTER SCHEMA copyd OWNER TO loader"
    )


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (GOOD.columns[:-1], "it lacks after_commit_done pg_catalog.bool; undo that"),
        (
            [each.replace("mark pg_catalog.text", "mark pg_catalog.int8") for each in GOOD.columns],
            "it lacks mark pg_catalog.text and has mark pg_catalog.int8 too; undo that",
        ),
        (GOOD.columns[::-1], "it has its columns in another order; undo that"),
    ],
)
def test_columns_that_it_lacks_are_told_from_those_that_it_has_too(
    columns: list[str], expected: str
) -> None:
    assert refusal(replace(GOOD, columns=columns), "copyd") == (
        f"copyd.ledger in database shop cannot be the ledger: {expected} or give the ledger "
        "another schema"
    )


def test_every_role_that_may_change_it_is_named_once() -> None:
    facts = replace(GOOD, table_writers=["mallory", None, "mallory", "Eve"])
    assert refusal(facts, "copyd") == (
        "copyd.ledger in database shop cannot be the ledger: others can change it; run there: "
        'REVOKE ALL ON TABLE copyd.ledger FROM "Eve", PUBLIC, mallory'
    )


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("ours (ledger version 2)", "it is of version 2 and this copyd knows version 1"),
        ("ours (ledger version 1)", "it has more pg_catalog.text too; undo that"),
        (None, "it has more pg_catalog.text too; undo that"),
    ],
)
def test_columns_of_another_version_are_told_from_others(
    comment: str | None, expected: str
) -> None:
    facts = replace(GOOD, columns=[*GOOD.columns, "more pg_catalog.text"], comment=comment)
    assert expected in str(refusal(facts, "copyd"))
