"""What replace, append and merge do to tables, on a real server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.errors import LockNotAvailable, UniqueViolation

from copyd.catalog.columns import copied
from copyd.catalog.relations import look_up
from copyd.catalog.session import OUR_PATH, set_local
from copyd.errors import CopydError
from copyd.loading import strategies
from copyd.loading.strategies import Applied
from copyd.loading.target import Target
from copyd.names import TableName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from copyd.connection import Connection
    from tests.support.servers import Server

FORMATS = ("text", "binary")
HERE = "FROM here"

FAMILIES = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (number numeric, word text);
CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
"""
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
NAMES = ["plain", "Mixed Case", 'say ""x""', "100%s {} {0}", "select", "d\N{LATIN SMALL LETTER E WITH ACUTE}j\N{LATIN SMALL LETTER A WITH GRAVE}"]  # fmt: skip


class Site:
    """A database with two connections: ``admin`` commits at once, ``here`` is a run's own."""

    def __init__(self, admin: Connection, here: Connection) -> None:
        self.admin = admin
        self.here = here

    def make(self, statements: str) -> None:
        self.admin.execute(statements.encode())

    def begin(self) -> None:
        set_local(self.here, search_path=OUR_PATH, lock_timeout="10s")

    def target(self, table: str = "public.there", number: int = 0) -> Target:
        relation = look_up(self.admin, table)
        columns = copied(relation.columns)
        return Target(relation=relation, columns=columns, key=relation.keys[0], number=number)

    def feed(self, statement: sql.Composed, rows: str, format_: str = "text") -> None:
        """COPY what `rows`, a query, yields into `statement`."""
        out = f"COPY ({rows}) TO STDOUT (FORMAT {format_})".encode()
        source, sink = self.admin.cursor(), self.here.cursor()
        with source.copy(out) as given, sink.copy(statement) as taken:
            for data in given:
                taken.write(data)

    def stage(
        self, target: Target, rows: str = HERE, format_: str = "text", *, keys: bool = False
    ) -> None:
        """Stage `rows`, what follows the columns in a SELECT; keys: its keys, too."""
        if self.here.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self.begin()
        self.here.execute(strategies.stage(target))
        copy = strategies.copy_into_stage(target, format=format_)
        self.feed(copy, f"SELECT {listed(target.names)} {rows}", format_)
        if keys:
            assert target.key is not None
            self.here.execute(strategies.stage_keys(target))
            copy = strategies.copy_keys(target, format=format_)
            self.feed(copy, f"SELECT {listed(target.key.columns)} {rows}", format_)

    def merge(self, target: Target, rows: str = HERE, format_: str = "text") -> Applied:
        self.stage(target, rows, format_)
        applied = strategies.merge(self.here, target)
        self.here.commit()
        return applied

    def merge_all(self, target: Target, rows: str = HERE) -> tuple[Applied, int]:
        """Merge, and delete what is missing."""
        self.stage(target, rows, keys=True)
        applied = strategies.merge(self.here, target, delete_missing=True)
        removed = strategies.remove_missing(self.here, target)
        self.here.commit()
        return applied, removed

    def append(self, target: Target, rows: str = HERE, format_: str = "text") -> Applied:
        self.stage(target, rows, format_)
        applied = strategies.append(self.here, target)
        self.here.commit()
        return applied

    def rows(self, table: str, order: str = 'r::text COLLATE "C"', only: str = "ONLY") -> list[str]:
        """Each row as text, which tells apart what = takes for equal."""
        query = f"SELECT r::text FROM {only} {table} r ORDER BY {order}"
        return [row[0] for row in self.admin.execute(query.encode())]


def names(given: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, given))


def listed(given: Iterable[str]) -> str:
    return names(given).as_string()


@pytest.fixture(scope="module")
def connections(server: Server) -> Iterator[tuple[Connection, Connection]]:
    with (
        server.database() as name,
        server.connect(name) as admin,
        server.connect(name, autocommit=False) as here,
    ):
        admin.prepare_threshold = here.prepare_threshold = None  # tables come and go
        admin.execute("SET client_min_messages = warning; SET extra_float_digits = 3")
        yield admin, here


@pytest.fixture
def site(connections: tuple[Connection, Connection]) -> Iterator[Site]:
    admin, here = connections
    admin.execute("CREATE SCHEMA IF NOT EXISTS public")
    yield Site(admin, here)
    here.rollback()
    schemas = admin.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'"
    )
    admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(names(row[0] for row in schemas)))


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", VALUES)
def test_values_end_as_they_are_at_the_source(site: Site, kind: str, format_: str) -> None:
    if kind == "regclass" and format_ == "binary":
        format_ = "text"  # never in binary: there it is a number of this server
    site.make(FAMILIES)
    for table in ("here", "there"):
        site.make(f"CREATE TABLE {table} (id int PRIMARY KEY, v {kind})")
    values = VALUES[kind]
    pairs = [(left, right) for left in values for right in values]
    with site.admin.cursor() as cursor:
        for number, (left, right) in enumerate(pairs):
            cursor.execute("INSERT INTO here VALUES (%s, %s)", [number, left])
            cursor.execute("INSERT INTO there VALUES (%s, %s)", [number, right])
        cursor.execute("INSERT INTO here SELECT -1 - id, v FROM here")
    target = site.target()
    different = sum(left != right for left, right in pairs)
    applied = site.merge(target, format_=format_)
    assert site.rows("there") == site.rows("here")
    if kind != "tsquery":  # it is stored in another way when it came in binary
        assert applied == Applied(len(pairs), different)
        assert site.merge(target, format_="text") == Applied(0, 0)
    assert site.merge(target, format_=format_) == Applied(0, 0)
    site.make("DELETE FROM there WHERE id < 0; UPDATE there SET v = NULL")
    assert site.append(target, format_=format_) == Applied(len(pairs), 0)
    added = [row for row in site.rows("here") if row.startswith("(-")]
    others = [f"({number},)" for number in range(len(pairs))]
    assert site.rows("there") == sorted(added + others)


def test_columns_that_only_the_destination_has_are_left_alone(site: Site) -> None:
    site.make(
        "CREATE TABLE here (id int PRIMARY KEY, v text);"
        "CREATE TABLE there (note text DEFAULT 'new', v text, id int PRIMARY KEY,"
        "                    twice text GENERATED ALWAYS AS (v || v) STORED);"
        "INSERT INTO here VALUES (1, 'a'), (2, 'b'), (3, NULL);"
        "INSERT INTO there VALUES ('kept', 'x', 1), ('as well', 'b', 2)"
    )
    target = site.target()
    target = replace(target, columns=tuple(c for c in target.columns if c.name != "note"))
    assert site.merge(target) == Applied(1, 1)
    assert site.rows("there", "id") == ["(kept,a,1,aa)", '("as well",b,2,bb)', "(new,,3,)"]


@pytest.mark.parametrize("identity", ["ALWAYS", "BY DEFAULT"])
def test_identity_columns_hold_what_the_source_holds(site: Site, identity: str) -> None:
    for table in ("here", "there"):
        column = f"int GENERATED {identity} AS IDENTITY"
        site.make(f"CREATE TABLE {table} (id {column} PRIMARY KEY, v text)")
        site.make(f"CREATE TABLE {table}_side (id int PRIMARY KEY, n {column}, v text)")
        site.make(f"CREATE TABLE {table}_only (id {column} PRIMARY KEY)")
    site.make(
        "INSERT INTO here OVERRIDING SYSTEM VALUE VALUES (5, 'a'), (7, 'b');"
        "INSERT INTO there OVERRIDING SYSTEM VALUE VALUES (5, 'x');"
        "INSERT INTO here_side OVERRIDING SYSTEM VALUE VALUES (1, 50, 'a'), (2, 7, 'b'), (3, 3, '');"
        "INSERT INTO there_side OVERRIDING SYSTEM VALUE VALUES (1, 5, 'a'), (2, 7, 'b');"
        "INSERT INTO here_only OVERRIDING SYSTEM VALUE VALUES (5), (7);"
        "INSERT INTO there_only OVERRIDING SYSTEM VALUE VALUES (5)"
    )
    assert site.merge(site.target()) == Applied(1, 1)
    assert site.merge(site.target("there_side"), "FROM here_side") == Applied(1, 1)
    assert site.merge(site.target("there_only"), "FROM here_only") == Applied(1, 0)
    for suffix in ("", "_side", "_only"):
        assert site.rows(f"there{suffix}") == site.rows(f"here{suffix}")


# -- keys and names ------------------------------------------------------------------------------

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
def test_rows_are_told_apart_by_every_kind_of_key(site: Site, kind: str) -> None:
    site.make(FAMILIES)
    types = kind.split(", ")
    key = [f"k{number}" for number in range(len(types))]
    columns = ", ".join(f"{name} {each}" for name, each in zip(key, types, strict=True))
    for table in ("here", "there"):
        site.make(f"CREATE TABLE {table} (v text, {columns}, PRIMARY KEY ({', '.join(key)}))")
    kept, changed, added = KEYS[kind]
    site.make(f"INSERT INTO here VALUES ('a', {kept}), ('b', {changed}), ('c', {added})")
    site.make(f"INSERT INTO there VALUES ('a', {kept}), ('x', {changed})")
    target = site.target()
    site.stage(target)
    assert strategies.append(site.here, target) == Applied(1, 0)
    site.here.rollback()
    assert site.merge_all(target) == (Applied(1, 1), 0)
    assert site.rows("there") == site.rows("here")
    site.make("DELETE FROM here WHERE v <> 'b'")
    assert site.merge_all(target) == (Applied(0, 0), 2)
    assert site.rows("there") == site.rows("here")


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
    site: Site, kind: str, here: str, there: str
) -> None:
    site.make(FAMILIES)
    for table, value in (("here", here), ("there", there)):
        site.make(f"CREATE TABLE {table} (k {kind} PRIMARY KEY, v int)")
        site.make(f"INSERT INTO {table} VALUES ('{value}', 1)")
    assert site.merge_all(site.target()) == (Applied(0, 1), 0)
    assert site.rows("there") == site.rows("here")


@pytest.mark.parametrize("name", NAMES)
def test_names_may_hold_anything(site: Site, name: str) -> None:
    site.make(f'CREATE SCHEMA "{name}"; CREATE TYPE "{name}"."{name}0" AS ENUM (\'x\', \'y\')')
    columns = f'"{name}" "{name}"."{name}0" PRIMARY KEY, "{name}2" text'
    site.make(f'CREATE TABLE "{name}"."{name}" ({columns}); CREATE TABLE here ({columns})')
    site.make("INSERT INTO here VALUES ('x', 'a'), ('y', 'b')")
    site.make(f"INSERT INTO \"{name}\".\"{name}\" VALUES ('x', '')")
    table = str(TableName(name.replace('""', '"'), name.replace('""', '"')))
    target = site.target(table)
    site.stage(target)
    missing = strategies.missed(site.here, target, target.names[1], "b")
    assert missing == 1
    site.here.rollback()
    assert site.append(target) == Applied(1, 0)
    assert site.merge_all(target) == (Applied(0, 1), 0)
    assert site.rows(table) == site.rows("here")


def test_two_rows_with_one_key_are_refused_without_their_values(site: Site) -> None:
    site.make("CREATE TABLE there (id int PRIMARY KEY, v text); INSERT INTO there VALUES (7, 'x')")
    rows = "FROM (VALUES (7, 'secret'), (7, 'other')) AS t(id, v)"
    site.stage(site.target(), rows)
    with pytest.raises(CopydError) as refused:
        strategies.merge(site.here, site.target())
    assert str(refused.value) == (
        "two rows for table public.there have the same key (id): name a key that is unique at the "
        "source"
    )
    site.here.rollback()
    site.make("DELETE FROM there")
    with pytest.raises(UniqueViolation):
        site.append(site.target(), rows)


# -- other constraints ---------------------------------------------------------------------------


@pytest.fixture
def traded(site: Site) -> Site:
    """Names that are unique, and about to be traded between rows."""
    for table in ("here", "there"):
        site.make(
            f"CREATE TABLE {table} (id int PRIMARY KEY, name text NOT NULL UNIQUE, boss int,"
            f" seat int4range, EXCLUDE USING gist (seat WITH &&))"
        )
    site.make("ALTER TABLE there ADD note text DEFAULT 'new'")
    site.make(
        "INSERT INTO there VALUES (1, 'a', 1, '[1,2)', 'one'), (2, 'b', 1, '[2,3)', 'two'),"
        " (3, 'c', 3, '[3,4)', 'three');"
        "INSERT INTO here SELECT id, name, boss, seat FROM there"
    )
    return site


def loaded(site: Site) -> Target:
    target = site.target()
    return replace(target, columns=tuple(c for c in target.columns if c.name != "note"))


def same(site: Site) -> bool:
    site.make("CREATE OR REPLACE VIEW loaded AS SELECT id, name, boss, seat FROM there")
    query = "SELECT v::text FROM loaded v ORDER BY id"
    there = [row[0] for row in site.admin.execute(query.encode())]
    return there == site.rows("here")


def test_rows_may_trade_a_value_that_is_unique(traded: Site) -> None:
    traded.make(
        "UPDATE here SET name = 'tmp' WHERE id = 1; UPDATE here SET name = 'a' WHERE id = 2;"
        "UPDATE here SET name = 'b' WHERE id = 1; INSERT INTO here VALUES (4, 'd', 4)"
    )
    assert traded.merge(loaded(traded)) == Applied(1, 2)
    assert same(traded)
    notes = [row[0] for row in traded.admin.execute("SELECT note FROM there ORDER BY id")]
    assert notes == ["one", "two", "three", "new"]


def test_rows_may_trade_what_an_exclusion_constraint_keeps_apart(traded: Site) -> None:
    traded.make("UPDATE here SET seat = NULL; UPDATE here SET seat = int4range(4 - id, 5 - id)")
    assert traded.merge(loaded(traded)) == Applied(0, 2)
    assert same(traded)


def test_a_new_row_may_take_a_value_that_another_gives_up(traded: Site) -> None:
    traded.make(
        "UPDATE here SET name = 'z' WHERE id = 1; INSERT INTO here VALUES (0, 'a', 1);"
        # no row is deleted for it: this would be refused
        "CREATE TABLE pets (owner int REFERENCES there ON DELETE CASCADE)"
    )
    assert traded.merge(loaded(traded)) == Applied(1, 1)
    assert same(traded)


def test_a_new_row_may_take_the_value_of_one_that_is_missing(traded: Site) -> None:
    traded.make("DELETE FROM here WHERE id = 3; INSERT INTO here VALUES (9, 'c', 1, '[3,4)')")
    assert traded.merge_all(loaded(traded)) == (Applied(1, 0, removed=1), 0)
    assert same(traded)
    traded.make("DELETE FROM here WHERE id = 9; INSERT INTO here VALUES (3, 'c', 1)")
    with pytest.raises(UniqueViolation):  # nobody said that what is missing may go
        traded.merge(loaded(traded))


def test_rows_may_trade_values_while_others_reference_them(traded: Site) -> None:
    traded.make(
        "ALTER TABLE there ADD FOREIGN KEY (boss) REFERENCES there;"
        "CREATE TABLE pets (owner int REFERENCES there); INSERT INTO pets VALUES (1), (2);"
        "UPDATE here SET name = name || '!'; UPDATE here SET name = 'b' WHERE id = 1;"
        "UPDATE here SET name = 'a' WHERE id = 2"
    )
    assert traded.merge(loaded(traded)) == Applied(0, 3)
    assert same(traded)
    assert traded.rows("pets") == ["(1)", "(2)"]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_rows_that_reference_a_traded_one_do_not_vanish(traded: Site, action: str) -> None:
    traded.make(
        f"CREATE TABLE pets (owner int REFERENCES there ON DELETE {action});"
        "INSERT INTO pets VALUES (1), (2);"
        "UPDATE here SET name = name || '!'; UPDATE here SET name = 'b' WHERE id = 1;"
        "UPDATE here SET name = 'a' WHERE id = 2"
    )
    with pytest.raises(CopydError, match=r"public\.there must be written anew.*public\.pets"):
        traded.merge(loaded(traded))
    traded.here.rollback()
    traded.make("UPDATE here SET name = 'x' || id")  # no trade, no need
    assert traded.merge(loaded(traded)) == Applied(0, 3)
    assert traded.rows("pets") == ["(1)", "(2)"]


def test_a_row_may_come_to_reference_one_that_comes_with_it(site: Site) -> None:
    for table in ("here", "there"):
        site.make(f"CREATE TABLE {table} (id int PRIMARY KEY, boss int REFERENCES {table})")
    site.make(
        "INSERT INTO there VALUES (1, NULL), (2, 1);"
        "INSERT INTO here VALUES (1, NULL), (9, 1), (2, 9), (8, 9)"
    )
    assert site.merge_all(site.target()) == (Applied(2, 1), 0)
    assert site.rows("there") == site.rows("here")
    site.make("UPDATE here SET boss = 8; DELETE FROM here WHERE id = 1")
    assert site.merge_all(site.target()) == (Applied(0, 3), 1)
    assert site.rows("there") == site.rows("here")


def test_tables_that_reference_one_another_are_merged_parents_first(site: Site) -> None:
    for table in ("here", "there"):
        site.make(
            f"CREATE TABLE {table} (id int PRIMARY KEY);"
            f"CREATE TABLE {table}_child (id int PRIMARY KEY, parent int REFERENCES {table})"
        )
    site.make(
        "INSERT INTO there VALUES (1), (2); INSERT INTO there_child VALUES (1, 1), (2, 2), (3, 1);"
        "INSERT INTO here VALUES (2), (3); INSERT INTO here_child VALUES (1, 3), (2, 2), (4, 3)"
    )
    parents, children = site.target(), site.target("there_child", 1)
    site.stage(parents, keys=True)
    site.stage(children, "FROM here_child", keys=True)
    assert strategies.merge(site.here, parents, delete_missing=True) == Applied(1, 0)
    assert strategies.merge(site.here, children, delete_missing=True) == Applied(1, 1)
    assert strategies.remove_missing(site.here, children) == 1
    assert strategies.remove_missing(site.here, parents) == 1
    site.here.commit()
    assert site.rows("there") == site.rows("here")
    assert site.rows("there_child") == site.rows("here_child")


# -- kinds of tables -----------------------------------------------------------------------------

PARTITIONED = """
CREATE TABLE there (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE there_eu PARTITION OF there FOR VALUES IN ('eu');
CREATE TABLE there_us PARTITION OF there FOR VALUES IN ('us') PARTITION BY RANGE (id);
CREATE TABLE there_us_low PARTITION OF there_us FOR VALUES FROM (0) TO (10);
CREATE TABLE there_us_rest PARTITION OF there_us DEFAULT;
CREATE TABLE here (id int, region text, v text, PRIMARY KEY (id, region));
INSERT INTO there VALUES (1, 'eu', 'x'), (1, 'us', 'b'), (2, 'us', 'gone');
INSERT INTO here VALUES (1, 'eu', 'a'), (1, 'us', 'b'), (50, 'us', 'c');
"""


def test_partitioned_tables_are_merged_through_their_root(site: Site) -> None:
    site.make(PARTITIONED)
    target = site.target()
    assert site.merge_all(target) == (Applied(1, 1), 1)
    assert site.rows("there", only="") == site.rows("here")
    assert site.rows("there_us_rest") == ["(50,us,c)"]
    site.make("DELETE FROM there WHERE id = 50")
    assert site.append(target) == Applied(1, 0)
    assert strategies.count(site.here, target) == 3
    site.here.rollback()
    site.begin()
    site.here.execute(strategies.lock([target]))
    assert site.here.execute(strategies.delete(target)).rowcount == 3
    site.feed(strategies.copy_rows(target, format="text"), "SELECT * FROM here")
    site.here.commit()
    assert site.rows("there_us_rest") == ["(50,us,c)"]


INHERITED = """
CREATE TABLE there (id int PRIMARY KEY, v text);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (there);
CREATE TABLE here (id int PRIMARY KEY, v text);
INSERT INTO there VALUES (1, 'x'), (2, 'gone');
INSERT INTO child VALUES (1, 'child'), (3, 'child');
INSERT INTO here VALUES (1, 'a'), (3, 'c');
"""


def test_children_of_a_table_are_other_tables(site: Site) -> None:
    site.make(INHERITED)
    target = site.target()
    assert site.append(target) == Applied(1, 0)
    assert site.merge_all(target) == (Applied(0, 1), 1)
    assert site.rows("there") == site.rows("here")
    assert strategies.count(site.here, target) == 2
    site.here.rollback()
    site.begin()
    assert site.here.execute(strategies.delete(target)).rowcount == 2
    site.here.rollback()
    site.here.execute(strategies.truncate([target]))
    site.here.commit()
    assert site.rows("there") == []
    assert site.rows("child") == ["(1,child)", "(3,child)"]


def test_parents_and_children_are_truncated_in_one_statement(site: Site) -> None:
    site.make(INHERITED)
    site.make(
        "CREATE TABLE lines (id int PRIMARY KEY, there int REFERENCES there);"
        "INSERT INTO lines VALUES (1, 1)"
    )
    targets = [site.target(name, n) for n, name in enumerate(["there", "child", "lines"])]
    site.begin()
    with pytest.raises(psycopg.errors.FeatureNotSupported), site.here.transaction():
        site.here.execute(strategies.truncate(targets[:2]))  # what references it is not cascaded to
    site.here.rollback()
    site.begin()
    site.here.execute(strategies.truncate(targets))
    copy = strategies.copy_rows(targets[0], format="text", freeze=True)
    site.feed(copy, "SELECT * FROM here")
    site.here.commit()
    assert site.rows("there") == site.rows("here")
    assert site.rows("child") == site.rows("lines") == []


# -- locks ---------------------------------------------------------------------------------------


def test_while_rows_are_deleted_readers_go_on_and_writers_wait(site: Site, server: Server) -> None:
    site.make(PARTITIONED + "CREATE TABLE more (id int PRIMARY KEY); INSERT INTO more VALUES (1)")
    targets = [site.target(), site.target("more", 1)]
    site.begin()
    site.here.execute(strategies.lock(targets))
    for target in targets:
        site.here.execute(strategies.delete(target))
    with server.connect(site.admin.info.dbname) as other:
        other.execute("SET lock_timeout = '100ms'")
        assert other.execute("SELECT count(*) FROM there").fetchone() == (3,)
        assert other.execute("SELECT count(*) FROM more").fetchone() == (1,)
        for write in (
            "DELETE FROM more",
            "INSERT INTO there VALUES (7, 'eu', '')",
            "INSERT INTO there_us_low VALUES (7, 'us', '')",
        ):
            with pytest.raises(LockNotAvailable):
                other.execute(write)


def test_staging_tables_are_gone_after_commit(site: Site) -> None:
    site.make("CREATE TABLE here (id int PRIMARY KEY); CREATE TABLE there (id int PRIMARY KEY)")
    left = "SELECT relname FROM pg_class WHERE relname LIKE 'copyd%' ORDER BY 1"
    site.stage(site.target(), keys=True)
    held = [row[0] for row in site.here.execute(left)]
    assert held == ["copyd_keys_0", "copyd_rows_0"]
    site.here.commit()
    assert site.here.execute(left).fetchall() == []
    site.here.rollback()
    site.merge_all(site.target())  # on the same connection, under the same name


# -- what a bounded overlap misses ---------------------------------------------------------------


def test_rows_that_a_bound_left_out_are_counted(site: Site) -> None:
    columns = "(id int PRIMARY KEY, at timestamptz, v text)"
    site.make(
        f"CREATE TABLE here {columns}; CREATE TABLE there {columns};"
        "INSERT INTO here VALUES (1, '2024-01-01', 'same'), (2, '2024-01-01', 'changed'),"
        " (3, '2024-01-01', 'absent'), (4, NULL, 'absent'), (5, '2024-06-01', 'absent'),"
        " (6, '2024-03-01', 'changed'), (7, NULL, 'same');"
        "INSERT INTO there VALUES (1, '2024-01-01', 'same'), (2, '2024-01-01', ''),"
        " (6, '2023-01-01', ''), (7, NULL, 'same'), (8, '2020-01-01', 'only there')"
    )
    target = site.target()
    site.stage(target)
    assert strategies.missed(site.here, target, "at", "2024-03-01") == 3
    assert strategies.missed(site.here, target, "at", "2024-03-01 00:00:01") == 4
    assert strategies.missed(site.here, target, "at", None) == 1
    assert strategies.missed(site.here, target, "id", 3) == 1


# -- a model -------------------------------------------------------------------------------------

Rows = dict[tuple[int, str], tuple[str, ...]]
KEY = st.tuples(st.integers(0, 3), st.sampled_from(["", "a", "A"]))
VALUE = st.sampled_from(["1.0", "1.00", "NaN", ""])
ROWS = st.dictionaries(KEY, st.tuples(VALUE, st.sampled_from(["", "x", "y"])), max_size=8)


@pytest.fixture
def bare(site: Site) -> Site:
    for table in ("here", "there"):
        site.make(
            f"CREATE TABLE {table} (a int, b text, v numeric, w text NOT NULL, PRIMARY KEY (b, a))"
        )
    return site


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(here=ROWS, there=ROWS, how=st.sampled_from(["append", "merge", "merge all"]))
def test_any_rows_end_as_the_model_says(bare: Site, here: Rows, there: Rows, how: str) -> None:
    bare.make("TRUNCATE here, there")
    for table, rows in (("here", here), ("there", there)):
        for key, values in rows.items():
            bare.admin.execute(
                sql.SQL("INSERT INTO {} VALUES (%s, %s, NULLIF(%s, '')::numeric, %s)").format(
                    sql.Identifier(table)
                ),
                [*key, *values],
            )
    inserted = len(here.keys() - there.keys())
    updated = sum(there[key] != here[key] for key in here.keys() & there.keys())
    target = bare.target()
    if how == "append":
        wanted = here | there
        assert bare.append(target) == Applied(inserted, 0)
    elif how == "merge":
        wanted = there | here
        assert bare.merge(target) == Applied(inserted, updated)
    else:
        wanted = here
        removed = len(there.keys() - here.keys())
        assert bare.merge_all(target) == (Applied(inserted, updated), removed)
    found = bare.admin.execute("SELECT a, b, coalesce(v::text, ''), w FROM there").fetchall()
    assert {(a, b): (v, w) for a, b, v, w in found} == wanted


NAMED = st.dictionaries(st.integers(0, 4), st.sampled_from("abcde"), max_size=5).filter(
    lambda rows: len(set(rows.values())) == len(rows)
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(here=NAMED, there=NAMED)
def test_unique_values_move_between_any_rows(
    site: Site, here: dict[int, str], there: dict[int, str]
) -> None:
    for table, rows in (("here", here), ("there", there)):
        columns = "(id int PRIMARY KEY, v text UNIQUE)"
        site.make(f"CREATE TABLE IF NOT EXISTS {table} {columns}; TRUNCATE {table}")
        for key, value in rows.items():
            site.make(f"INSERT INTO {table} VALUES ({key}, '{value}')")
    applied, removed = site.merge_all(site.target())
    assert site.rows("there") == site.rows("here")
    assert applied.removed + removed == len(there.keys() - here.keys())
    assert applied.inserted == len(here.keys() - there.keys())
    assert applied.updated == sum(there[key] != here[key] for key in here.keys() & there.keys())


# -- what others have planted --------------------------------------------------------------------

PLANTED = """
CREATE SEQUENCE ran;
CREATE FUNCTION equal(integer, integer) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN PERFORM nextval('public.ran'); RETURN true; END $$;
CREATE FUNCTION equal(bigint, integer) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN PERFORM nextval('public.ran'); RETURN true; END $$;
CREATE FUNCTION equal(pair, pair) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN PERFORM nextval('public.ran'); RETURN true; END $$;
CREATE FUNCTION equal(record, record) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN PERFORM nextval('public.ran'); RETURN true; END $$;
CREATE FUNCTION said(pair) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN PERFORM nextval('public.ran'); RETURN ''; END $$;
CREATE FUNCTION count() RETURNS bigint LANGUAGE plpgsql
    AS $$ BEGIN PERFORM nextval('public.ran'); RETURN 0; END $$;
CREATE OPERATOR = (LEFTARG = integer, RIGHTARG = integer, FUNCTION = equal);
CREATE OPERATOR = (LEFTARG = pair, RIGHTARG = pair, FUNCTION = equal);
CREATE OPERATOR *<> (LEFTARG = record, RIGHTARG = record, FUNCTION = equal);
CREATE OPERATOR < (LEFTARG = integer, RIGHTARG = integer, FUNCTION = equal);
CREATE OPERATOR > (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = equal);
CREATE OPERATOR >= (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = equal);
CREATE CAST (pair AS text) WITH FUNCTION said(pair) AS ASSIGNMENT;
CREATE DOMAIN record AS text;
"""


def test_operators_functions_and_casts_of_others_are_not_used(site: Site) -> None:
    site.make(FAMILIES)
    for table in ("here", "there"):
        site.make(f"CREATE TABLE {table} (id int, p pair, v text, PRIMARY KEY (id, p))")
    site.make(
        "INSERT INTO here VALUES (1, '(1,a)', 'a'), (2, '(1,a)', 'b');"
        "INSERT INTO there VALUES (1, '(1,a)', ''), (3, '(1,a)', 'gone')"
    )
    target = site.target()
    site.make(PLANTED)
    site.stage(target, keys=True)
    # Whatever the path is: the role's own may hold a schema that others write to.
    site.here.execute("SET LOCAL search_path = public, pg_catalog")
    assert strategies.missed(site.here, target, "id", 2) == 1
    assert strategies.merge(site.here, target) == Applied(1, 1)
    assert strategies.remove_missing(site.here, target) == 1
    assert strategies.count(site.here, target) == 2
    site.here.commit()
    assert site.admin.execute("SELECT is_called FROM ran").fetchone() == (False,)
    assert site.rows("there", "id") == site.rows("here", "id")
