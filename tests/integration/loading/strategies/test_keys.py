"""Rows are told apart by their key, whatever its type and name."""

from __future__ import annotations

import pytest
from psycopg.errors import UniqueViolation

from copyd.errors import CopydError
from copyd.loading import strategies
from copyd.loading.strategies import Applied
from copyd.names import TableName
from tests.support.loaded_tables import FAMILIES, LoadedTables, result_of

NAMES = ["plain", "Mixed Case", 'say ""x""', "100%s {} {0}", "select", "d\N{LATIN SMALL LETTER E WITH ACUTE}j\N{LATIN SMALL LETTER A WITH GRAVE}"]  # fmt: skip

KEYS = {
    "int, int": ["1, 2", "2, 1", "2, 2"],
    "mood": ["'ok'", "'sad'", "'happy'"],
    "uuid": [f"'{number:032x}'" for number in range(3)],
    "text": ["''", "' '", "'a'"],
    'text COLLATE "folded"': ["'a'", "'b'", "'c'"],
    "numeric, text": ["1.0, 'a'", "1.1, 'a'", "'NaN', 'a'"],
    "double precision": ["'NaN'", "0", "1"],
    "timestamptz, mood": ["'infinity', 'ok'", "'infinity', 'sad'", "'-infinity', 'ok'"],
    "integer[]": ["'{}'", "'{1}'", "'{NULL}'"],
    "pair": ["'(1,a)'", "'(1,)'", "'(,)'"],
    "int4range": ["'empty'", "'[1,2)'", "'[1,)'"],
    'bytea, "char", name': [r"'\x', 'a', 'b'", r"'\x00', 'a', 'b'", r"'\x', 'b', 'b'"],
}


@pytest.mark.parametrize("kind", KEYS)
def test_rows_are_told_apart_by_every_kind_of_key(tables: LoadedTables, kind: str) -> None:
    tables.make(FAMILIES)
    types = kind.split(", ")
    key = [f"k{number}" for number in range(len(types))]
    columns = ", ".join(f"{name} {each}" for name, each in zip(key, types, strict=True))
    for table in ("here", "there"):
        tables.make(f"CREATE TABLE {table} (v text, {columns}, PRIMARY KEY ({', '.join(key)}))")
    kept, changed, added = KEYS[kind]
    tables.make(f"INSERT INTO here VALUES ('a', {kept}), ('b', {changed}), ('c', {added})")
    tables.make(f"INSERT INTO there VALUES ('a', {kept}), ('x', {changed})")
    target = tables.target()
    tables.stage(target)
    assert strategies.apply(tables.here, strategies.append(target)) == Applied(1, 0)
    tables.here.rollback()
    assert tables.merge_all(target) == (Applied(1, 1), 0)
    assert tables.rows("there") == tables.rows("here")
    tables.make("DELETE FROM here WHERE v <> 'b'")
    assert tables.merge_all(target) == (Applied(0, 0), 2)
    assert tables.rows("there") == tables.rows("here")


@pytest.mark.parametrize(
    ("kind", "here", "there"),
    [
        ('text COLLATE "folded"', "BOB", "bob"),
        ("numeric", "1.00", "1.0"),
        ("double precision", "0", "-0"),
        ("interval", "1 mon", "30 days"),
    ],
)
def test_a_key_that_is_equal_to_the_old_one_is_written_as_the_source_has_it(
    tables: LoadedTables, kind: str, here: str, there: str
) -> None:
    tables.make(FAMILIES)
    for table, value in (("here", here), ("there", there)):
        tables.make(f"CREATE TABLE {table} (k {kind} PRIMARY KEY, v int)")
        tables.make(f"INSERT INTO {table} VALUES ('{value}', 1)")
    assert tables.merge_all(tables.target()) == (Applied(0, 1), 0)
    assert tables.rows("there") == tables.rows("here")


@pytest.mark.parametrize("name", NAMES)
def test_names_may_hold_anything(tables: LoadedTables, name: str) -> None:
    tables.make(f'CREATE SCHEMA "{name}"; CREATE TYPE "{name}"."{name}0" AS ENUM (\'x\', \'y\')')
    columns = f'"{name}" "{name}"."{name}0" PRIMARY KEY, "{name}2" text'
    tables.make(f'CREATE TABLE "{name}"."{name}" ({columns}); CREATE TABLE here ({columns})')
    tables.make("INSERT INTO here VALUES ('x', 'a'), ('y', 'b')")
    tables.make(f"INSERT INTO \"{name}\".\"{name}\" VALUES ('x', '')")
    table = str(TableName(name.replace('""', '"'), name.replace('""', '"')))
    target = tables.target(table)
    tables.stage(target)
    missing = result_of(tables.here, strategies.missed(target, target.names[1]), bound="b")
    assert missing == 1
    tables.here.rollback()
    assert tables.append(target) == Applied(1, 0)
    assert tables.merge_all(target) == (Applied(0, 1), 0)
    assert tables.rows(table) == tables.rows("here")


def test_two_rows_with_one_key_are_refused_without_their_values(tables: LoadedTables) -> None:
    tables.make(
        "CREATE TABLE there (id int PRIMARY KEY, v text); INSERT INTO there VALUES (7, 'x')"
    )
    rows = "FROM (VALUES (7, 'secret'), (7, 'other')) AS t(id, v)"
    tables.stage(tables.target(), rows)
    with pytest.raises(CopydError) as refused:
        strategies.apply(tables.here, strategies.merge(tables.target()))
    assert str(refused.value) == (
        "two rows for table public.there have the same key (id): name a key that is unique at the "
        "source"
    )
    tables.here.rollback()
    tables.make("DELETE FROM there")
    with pytest.raises(UniqueViolation):
        tables.append(tables.target(), rows)
