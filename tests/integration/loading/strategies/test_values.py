"""Values end as they are at the source, whatever = takes for equal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from copyd.loading.strategies import Applied
from tests.support.loaded_tables import FAMILIES, LoadedTables

FORMATS = ("text", "binary")

# Type, then values of which = takes some for equal, or NULL and what might be taken for it.
VALUES: dict[str, list[str | None]] = {
    "boolean": ["true", "false", None],
    "bigint": ["1", "-1", "0", None],
    "numeric": ["1.0", "1.00", "1", "NaN", "-1e-30", None],
    "numeric(8, 2)": ["1.00", "999999.99", None],
    "double precision": ["0", "-0", "NaN", "Infinity", "1e-320", "0.1", "0.10000000000000002"],
    "real": ["0", "-0", "NaN", "1.1754944e-38", "0.1"],
    "text": ["", " ", None, "NULL", r"\N", "a,b", '"a"', "(", "a\nb", "a\\b", "\N{SNOWMAN}"],
    'text COLLATE "folded"': ["word", "WORD", "Word", None],
    "character(4)": ["a", "ab", "", None],
    "varchar(9)": ["a", "a ", "", None],
    "bytea": [r"\x", r"\x00", r"\xdeadbeef", None],
    "json": ['{"a": 1}', '{"a":1}', '{"a": 1, "a": 2}', "null", None],
    "jsonb": ['{"a": 1.0}', '{"a": 1.00}', "null", None],
    "xml": ["<a/>", "<a></a>", "text", None],
    "point": ["(0,0)", "(-0,0)", "(1e-9,0)", None],
    "circle": ["<(0,0),1>", "<(1,1),1>", None],
    "polygon": ["((0,0),(1,1),(2,0))", "((1,1),(2,0),(0,0))", None],
    "interval": ["1 mon", "30 days", "720:00:00", None],
    "date": ["infinity", "-infinity", "0044-03-15 BC", None],
    "timestamptz": ["infinity", "2024-02-29 12:00:00.000001+00", None],
    "timetz": ["12:00:00+01", "11:00:00+00", None],
    "uuid": ["00000000-0000-0000-0000-000000000000", None],
    "inet": ["10.0.0.1", "10.0.0.1/24", "::1", None],
    "bit varying": ["", "0", "00", None],
    "tsvector": ["", "a:1", "a:1A", None],
    "tsquery": ["a & b", "b & a", None],
    "money": ["1", "-1", None],
    "oid": ["1", "4294967295", None],
    "regclass": ["pg_class", "pg_type", None],
    "integer[]": ["{}", "{1}", "[0:0]={1}", "{NULL}", "{{1}}", None],
    "text[]": ["{}", '{""}', "{NULL}", '{"NULL"}', None],
    "numeric[]": ["{1.0}", "{1.00}", None],
    "numrange": ["empty", "[1,2)", "[1.0,2)", "(,)", None],
    "int4range": ["[1,3)", "empty", None],
    "mood": ["sad", "happy", None],
    "mood[]": ["{sad}", "{}", None],
    "pair": ["(1.0,)", '(1.0,"")', "(1.00,)", "(,)", None],
    "pair[]": ['{"(1.0,a)"}', '{"(1.00,a)"}', None],
    "positive": ["1.0", "1.00", None],
    '"char"': ["a", "", None],
    "name": ["a", "", None],
    "pg_lsn": ["0/0", "16/B374D848", None],
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", VALUES)
def test_values_end_as_they_are_at_the_source(
    tables: LoadedTables, kind: str, format_: str
) -> None:
    if kind == "regclass" and format_ == "binary":
        format_ = "text"  # never in binary: there it is a number of this server
    tables.make(FAMILIES)
    for table in ("here", "there"):
        tables.make(f"CREATE TABLE {table} (id int PRIMARY KEY, v {kind})")
    values = VALUES[kind]
    pairs = [(left, right) for left in values for right in values]
    with tables.admin.cursor() as cursor:
        for number, (left, right) in enumerate(pairs):
            cursor.execute("INSERT INTO here VALUES (%s, %s)", [number, left])
            cursor.execute("INSERT INTO there VALUES (%s, %s)", [number, right])
        cursor.execute("INSERT INTO here SELECT -1 - id, v FROM here")
    target = tables.target()
    different = sum(left != right for left, right in pairs)
    applied = tables.merge(target, format_=format_)
    assert tables.rows("there") == tables.rows("here")
    if kind != "tsquery":  # it is stored in another way when it came in binary
        assert applied == Applied(len(pairs), different)
        assert tables.merge(target, format_="text") == Applied(0, 0)
    assert tables.merge(target, format_=format_) == Applied(0, 0)
    tables.make("DELETE FROM there WHERE id < 0; UPDATE there SET v = NULL")
    assert tables.append(target, format_=format_) == Applied(len(pairs), 0)
    added = [row for row in tables.rows("here") if row.startswith("(-")]
    others = [f"({number},)" for number in range(len(pairs))]
    assert tables.rows("there") == sorted(added + others)


def test_columns_that_only_the_destination_has_are_left_alone(tables: LoadedTables) -> None:
    tables.make(
        "CREATE TABLE here (id int PRIMARY KEY, v text);"
        "CREATE TABLE there (note text DEFAULT 'new', v text, id int PRIMARY KEY,"
        "                    twice text GENERATED ALWAYS AS (v || v) STORED);"
        "INSERT INTO here VALUES (1, 'a'), (2, 'b'), (3, NULL);"
        "INSERT INTO there VALUES ('kept', 'x', 1), ('as well', 'b', 2)"
    )
    target = tables.target()
    target = replace(target, columns=tuple(c for c in target.columns if c.name != "note"))
    assert tables.merge(target) == Applied(1, 1)
    assert tables.rows("there", "id") == ["(kept,a,1,aa)", '("as well",b,2,bb)', "(new,,3,)"]


@pytest.mark.parametrize("identity", ["ALWAYS", "BY DEFAULT"])
def test_identity_columns_hold_what_the_source_holds(tables: LoadedTables, identity: str) -> None:
    for table in ("here", "there"):
        column = f"int GENERATED {identity} AS IDENTITY"
        tables.make(f"CREATE TABLE {table} (id {column} PRIMARY KEY, v text)")
        tables.make(f"CREATE TABLE {table}_side (id int PRIMARY KEY, n {column}, v text)")
        tables.make(f"CREATE TABLE {table}_only (id {column} PRIMARY KEY)")
    tables.make(
        "INSERT INTO here OVERRIDING SYSTEM VALUE VALUES (5, 'a'), (7, 'b');"
        "INSERT INTO there OVERRIDING SYSTEM VALUE VALUES (5, 'x');"
        "INSERT INTO here_side OVERRIDING SYSTEM VALUE VALUES (1, 50, 'a'), (2, 7, 'b'), (3, 3, '');"
        "INSERT INTO there_side OVERRIDING SYSTEM VALUE VALUES (1, 5, 'a'), (2, 7, 'b');"
        "INSERT INTO here_only OVERRIDING SYSTEM VALUE VALUES (5), (7);"
        "INSERT INTO there_only OVERRIDING SYSTEM VALUE VALUES (5)"
    )
    assert tables.merge(tables.target()) == Applied(1, 1)
    assert tables.merge(tables.target("there_side"), "FROM here_side") == Applied(1, 1)
    assert tables.merge(tables.target("there_only"), "FROM here_only") == Applied(1, 0)
    for suffix in ("", "_side", "_only"):
        assert tables.rows(f"there{suffix}") == tables.rows(f"here{suffix}")
