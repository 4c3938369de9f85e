from __future__ import annotations

from dataclasses import replace

import pytest

from copyd.catalog.columns import (
    binary_refusal,
    copied,
    match_refusal,
    require_key,
    selected,
)
from copyd.catalog.keys import Key
from copyd.catalog.relations import Column, Relation
from copyd.errors import CopydError

ID = Column("id", "integer", category="N", signature="int4")
NAME = Column("name", "text", category="S", signature="text")
PRIMARY = Key(("id",), ("OPERATOR(pg_catalog.=)",), is_primary=True)
UNIQUE = Key(("name", "id"), ("OPERATOR(pg_catalog.=)",) * 2)
CATEGORIES = {"text": "S", "varchar": "S", "bpchar": "S"}


def column(signature: str) -> Column:
    return Column("c", signature, category=CATEGORIES.get(signature, ""), signature=signature)


def table(*keys: Key) -> Relation:
    return Relation(1, "shop", "Order", "r", "p", 1, None, (ID, NAME), keys)


def test_generated_columns_do_not_travel() -> None:
    assert copied([ID, Column("twice", "integer", is_generated=True)]) == (ID,)


def test_selected_columns_come_in_the_order_of_the_selection() -> None:
    assert selected([ID, NAME], ["name", "id"]) == (NAME, ID)


def test_selected_columns_are_matched_exactly_and_all_unknown_ones_named() -> None:
    with pytest.raises(CopydError, match=r"^there is no column Id, x to copy$"):
        selected([ID, NAME], ["Id", "x", "id"])


def test_a_column_that_is_selected_twice_is_refused() -> None:
    with pytest.raises(CopydError, match=r"^column id is named twice"):
        selected([ID, NAME], ["id", "name", "id"])


def test_a_generated_column_travels_where_it_is_selected() -> None:
    twice = Column("twice", "integer", is_generated=True)
    assert selected([ID, twice], ["twice"]) == (twice,)


@pytest.mark.parametrize("is_binary", [False, True])
def test_columns_match_by_name_whatever_their_order(is_binary: bool) -> None:
    there = [NAME, ID, Column("more", "text")]
    assert match_refusal([ID, NAME], there, is_binary=is_binary) is None


def test_columns_of_which_only_the_names_are_known_match() -> None:
    assert match_refusal([Column("a", "int")], [Column("a", "date")]) is None


def test_a_table_without_columns_is_refused() -> None:
    assert match_refusal([], [ID]) == "the source has no column to copy"


def test_missing_columns_are_all_named() -> None:
    assert match_refusal([ID, NAME], []) == "it has no column id, name"


def test_columns_match_by_exact_name() -> None:
    assert match_refusal([replace(ID, name="Id")], [ID]) == "it has no column Id"


def test_a_generated_column_cannot_be_written() -> None:
    assert "is generated" in (match_refusal([ID], [replace(ID, is_generated=True)]) or "")


def test_an_ordinary_column_is_not_left_empty_where_the_source_generates_it() -> None:
    twice = Column("twice", "integer", is_generated=True)
    ordinary = Column("twice", "integer")
    reason = match_refusal([ID], [ID, ordinary], left_out=[twice]) or ""
    assert "twice is not generated, but the source's is" in reason
    assert "list the columns" in reason
    assert match_refusal([ID], [ID, twice], left_out=[twice]) is None
    assert match_refusal([ID], [ID], left_out=[twice]) is None
    assert match_refusal([ID], [ID, ordinary]) is None
    assert match_refusal([ID, twice], [ID, ordinary], left_out=[twice]) is None


def test_a_column_that_must_not_be_null_is_not_left_empty() -> None:
    reason = match_refusal([ID], [ID, replace(NAME, is_required=True)]) or ""
    assert "name is NOT NULL" in reason
    assert match_refusal([NAME], [replace(NAME, is_required=True)]) is None


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ("int4", "int8"), ("numeric", "int4"), ("float8", "numeric"), ("int8", "oid"),
        ("int4", "text"), ("timestamptz", "varchar"), ("jsonb", "text"), ("int4[]", "text"),
        ('("x" int4)', "text"), ('enum("a")', "text"), ("text", "bpchar"),
        ("text", "uuid"), ("varchar", "jsonb"), ("text", 'enum("a")'), ("text", "inet"),
        ("date", "timestamptz"), ("timestamptz", "timestamp"), ("time", "timetz"),
        ("json", "jsonb"), ("inet", "cidr"), ("bit", "varbit"), ("macaddr", "macaddr8"),
        ("int4[]", "int8[]"), ("varchar[]", "text[]"), ("range(int4)", "range(int8)"),
        ("multirange(date)", "multirange(timestamp)"), ('enum("a")', 'enum("a", "b")'),
        ('("x" int4)', '("x" int8)'), ('*."geometry"', '*."geometry"'), ('*."citext"', "text"),
        ('("a" text, "b, """ int4[])', '("a" varchar, "b, """ int8[])'), ("()", "()"),
        ("text", '*."citext"'), ("money", "money"), ("bytea", "bytea"), ("regclass", "text"),
    ],
)  # fmt: skip
def test_types_that_are_likely_to_understand_one_another_match(given: str, there: str) -> None:
    assert match_refusal([column(given)], [column(there)]) is None


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ("timestamp", "int4"), ("bytea", "jsonb"), ("int4", "date"), ("json", "int4"),
        ("text", "int4"), ("text", "timestamptz"), ("text", "bytea"), ("text", "bool"),
        ("text", "text[]"), ("int4", "bool"), ("bool", "int4"), ("date", "time"),
        ("timestamp", "time"), ("time", "date"), ("interval", "time"), ("money", "numeric"),
        ("numeric", "money"), ("int4", "regclass"), ("regclass", "int4"), ("uuid", "bytea"),
        ("int4", "int4[]"), ("int4[]", "int4"), ("int4[]", "date[]"), ("int2vector", "int2[]"),
        ("range(int4)", "range(date)"), ("range(int4)", "multirange(int4)"), ("point", "box"),
        ('enum("a")', "int4"), ("int4", 'enum("a")'), ('("x" int4)', "int4"), ("uuid", "json"),
        ('("a" text, "b" text)', '("b" text, "a" text)'), ('("a" int4)', '("a" int4, "b" int4)'),
        ('("a" ("x" int4, "y" int4))', '("a" ("y" int4, "x" int4))'), ('("a" int4)', '("a" date)'),
        ('("a" text)[]', '("b" text)[]'), ('("a" enum("b", "c"))', '("c" enum("a", "b"))'),
        ('*."geometry"', '*."hstore"'), ('*."uuid"', "uuid"), ("uuid", '*."uuid"'),
    ],
)  # fmt: skip
def test_types_that_never_understand_one_another_are_refused(given: str, there: str) -> None:
    reason = match_refusal([column(given)], [column(there)])
    assert reason is not None
    assert f"its column c is {there}, the source's is {given}: " in reason


def test_a_composite_whose_fields_are_called_otherwise_there_is_not_filled_by_their_place() -> None:
    given, there = (
        Column("c", "pair", signature='("a" text, "b" text)'),
        column('("b" text, "a" text)'),
    )
    reason = match_refusal([given], [replace(there, type="pair")]) or ""
    assert "its column c is pair, whose fields, types or labels differ at the source: " in reason


def test_users_types_that_hold_any_string_take_everything() -> None:
    there = Column("c", "mine.string", category="S", signature='*."string"')
    assert match_refusal([column("int4")], [there]) is None


def test_other_types_are_refused_in_binary() -> None:
    there = Column("id", "bigint", category="N", signature="int8")
    reason = "its column id is bigint, the source's is integer"
    assert binary_refusal([ID], [there]) == reason
    assert match_refusal([ID], [there], is_binary=True) == f"{reason}: use the text format"


def test_a_type_whose_parts_differ_is_refused_in_binary() -> None:
    given = Column("c", "public.shade", signature='enum("a")')
    there = Column("c", "public.shade", signature='enum("a", "b")')
    assert "fields, types or labels differ" in (binary_refusal([given], [there]) or "")


def test_types_called_otherwise_travel_in_binary_where_their_form_is_the_same() -> None:
    given, there = Column("c", "public.amount", signature="int4"), Column("c", "integer")
    assert binary_refusal([given], [replace(there, signature="int4")]) is None


def test_what_never_travels_in_binary_is_refused_with_its_reason() -> None:
    given = Column("c", "regclass", signature="regclass", binary_refusal="holds regclass")
    assert binary_refusal([given], [given]) == "column c holds regclass"
    assert match_refusal([given], [given]) is None


@pytest.mark.parametrize(("majors", "is_fit"), [((13, 15), False), ((15, 13), False), ((14, 18), True)])  # fmt: skip
def test_compounds_of_users_types_are_refused_in_binary_by_13(
    majors: tuple[int, int], is_fit: bool
) -> None:
    given = Column("c", "public.shade[]", signature='enum("a")[]', is_user_compound=True)
    reason = binary_refusal([given], [given], majors=majors)
    assert (reason is None) == is_fit
    assert is_fit or "PostgreSQL 13" in (reason or "")


@pytest.mark.parametrize("signature", ["interval", "interval[]", '("x" interval)'])
@pytest.mark.parametrize(
    ("majors", "is_fit"), [((16, 17), False), ((18, 13), False), ((13, 16), True), ((17, 18), True)]
)
def test_intervals_are_refused_in_binary_where_one_side_knows_no_infinity(
    signature: str, majors: tuple[int, int], is_fit: bool
) -> None:
    given = Column("c", signature, signature=signature)
    reason = binary_refusal([given], [given], majors=majors)
    assert (reason is None) == is_fit
    assert is_fit or "infinity" in (reason or "")


def test_the_primary_key_is_the_key() -> None:
    assert require_key(table(PRIMARY, UNIQUE), None, given=[ID]) == PRIMARY


def test_a_key_is_found_by_its_columns_in_any_order() -> None:
    assert require_key(table(PRIMARY, UNIQUE), ["id", "name"], given=[ID, NAME]) == UNIQUE


def test_without_a_primary_key_a_key_must_be_named() -> None:
    with pytest.raises(CopydError, match=r'^table shop\."Order" has no primary key: .*replace'):
        require_key(table(UNIQUE), None, given=[ID, NAME])


def test_a_key_that_the_table_does_not_have_is_refused() -> None:
    with pytest.raises(
        CopydError, match=r"no unique index of NOT NULL columns \(name\): .*replace"
    ):
        require_key(table(PRIMARY, UNIQUE), ["name"], given=[ID, NAME])


def test_a_key_whose_columns_are_not_copied_is_refused() -> None:
    with pytest.raises(CopydError, match=r"^column name of the key .* is not copied"):
        require_key(table(PRIMARY, UNIQUE), ["id", "name"], given=[ID])
