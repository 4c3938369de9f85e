"""Tables of every kind that PostgreSQL has built in, filled, changed and compared without copyd."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from copyd.cluster import Installation
    from copyd.connection import Connection
    from tests.support.servers import Server

Values = dict[str, list[str]]

FIXED = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "xmloption": "content",
}
"""What a referee's session is told, so that equal values have equal texts at both ends."""
_OPTIONS = " ".join(f"-c {name}={value}" for name, value in FIXED.items())

TYPES = """
CREATE SCHEMA zoo;
CREATE SCHEMA "Ze Bra.%{}";
CREATE TYPE zoo.mood AS ENUM ('sad', 'so so', 'Happy "\N{GRINNING FACE}"', '');
CREATE DOMAIN zoo.positive AS numeric CHECK (VALUE > 0);
CREATE DOMAIN zoo.words AS text[];
CREATE DOMAIN zoo.good_mood AS zoo.mood CHECK (VALUE <> 'sad');
CREATE TYPE zoo.span AS RANGE (SUBTYPE = float8);
CREATE TYPE zoo.pair AS (number numeric, "A ""Word"" !" text);
CREATE TYPE zoo.nested AS (pair zoo.pair, moods zoo.mood[], numbers int[]);
CREATE DOMAIN zoo.right_pair AS zoo.pair CHECK ((VALUE).number IS DISTINCT FROM 0);
CREATE TYPE zoo.priced AS (what text, price money);
CREATE DOMAIN zoo.known AS regclass;
CREATE TABLE "Ze Bra.%{}".rows (id integer, name text);
CREATE TYPE "Ze Bra.%{}"."Mood %s.{0}" AS ENUM ('%s', '{}', 'a,b', '"');
"""
BACKWARDS = """
ALTER TYPE zoo.pair ADD ATTRIBUTE gone int;
ALTER TYPE zoo.pair DROP ATTRIBUTE gone;
"""
"""Makes types that mean the same look otherwise in the catalog."""

STRANGE = '"Ze Bra.%{}"."T ""%s"".{0}\N{SNOWMAN}"'
"""The name of a table, as SQL."""
STRANGE_ELEMENT = '"' + STRANGE.replace('"', '\\"') + '"'
"""The same as an element of an array."""

NUMBERS: Values = {
    "smallint": ["-32768", "32767", "0"],
    "integer": ["-2147483648", "2147483647", "0"],
    "bigint": ["-9223372036854775808", "9223372036854775807", "0"],
    "numeric": ["NaN", "0", "0.000", "1.0", "1.00", "-1e-100", "1e1000", "-12345678901234567890.1"],
    "numeric(12, 3)": ["999999999.999", "-0.001", "NaN"],
    "real": ["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "0.1", "16777217"],
    "double precision": [
        "NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308",
        "0.1", "0.30000000000000004", "9007199254740993",
    ],
    "boolean": ["true", "false"],
    "oid": ["0", "4294967295"],
}  # fmt: skip
ENDLESS: Values = {
    "numeric": ["Infinity", "-Infinity", "NaN", "0"],
    "numeric[]": ["{Infinity,-Infinity,NULL,NaN}", "{}"],
    "numrange": ["[-Infinity,Infinity]", "empty"],
}
DAYS: Values = {
    "date": ["infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "2024-02-29"],
    "timestamp": [
        "infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999",
        "1999-12-31 23:59:59.999999", "1582-10-10 00:00:00",
    ],
    "timestamp(3)": ["2000-01-01 00:00:00.123456", "infinity"],
    "timestamptz": [
        "infinity", "-infinity", "0001-01-01 00:00:00 BC", "2024-03-31 02:30:00 Europe/Berlin",
        "294276-12-31 23:59:59.999999+00",
    ],
    "time": ["00:00:00", "24:00:00", "23:59:59.999999"],
    "time(0)": ["12:34:56.7"],
    "timetz": ["00:00:00-15:59:59", "24:00:00+15:59:59", "12:00:00+05:30"],
}  # fmt: skip
INTERVALS: Values = {
    "interval": [
        "1 mon", "30 days", "720:00:00", "-1 year +2 mons -3 days +04:05:06.789",
        "-178000000 years", "00:00:00.000001", "P1Y2M3DT4H5M6S",
    ],
    "interval year to month": ["1-2", "-3 mons"],
    "interval(0)": ["00:00:01.6"],
    "interval[]": ["{1 day,NULL,-00:00:01}", "{}"],
}  # fmt: skip
FOREVER = ["infinity", "-infinity"]
TEXTS: Values = {
    "text": [
        "", " ", "NULL", r"\N", r"\.", "\\", "a\tb\nc\rd\b\f\v", "\N{SNOWMAN}\N{GRINNING FACE}",
        "e\N{COMBINING ACUTE ACCENT}", "'", '"a,b"', "\x01\x7f", r"a\\b\tc", "\N{NO-BREAK SPACE}",
        "\U0010ffff", "\ufeff",
    ],
    "varchar(10)": ["0123456789", "a  ", ""],
    "character(5)": ["a", "ab   ", "", "\N{SNOWMAN}"],
    '"char"': ["x", "", "\\"],
    "name": ["pg_class", "x" * 63, ""],
    "bytea": [r"\x", r"\x00ff5c2e0a", r"\x4e554c4c", "\\x" + bytes(range(256)).hex()],
    'text COLLATE "C"': ["z", "\N{LATIN SMALL LETTER SHARP S}"],
}  # fmt: skip
ARRAYS: Values = {
    "integer[]": [
        "{}",
        "{NULL}",
        "{1,NULL,3}",
        "{{1,2},{3,NULL}}",
        "[0:1]={7,8}",
        "[-2:-1][3:4]={{1,2},{3,4}}",
        "{{{1},{2}},{{3},{4}}}",
    ],
    "text[]": ['{NULL,"NULL","",null," ","a,b","\\"","\\\\","{}"}', '{{"a\nb"},{"\t"}}'],
    "numeric[]": ["{NaN,1.0,1.00}"],
    "double precision[]": ["{NaN,Infinity,-0}"],
    "boolean[]": ["{t,f,NULL}"],
    "bytea[]": [r'{"\\x00ff",NULL,"\\x"}'],
    "timestamptz[]": ["{infinity,-infinity,2024-02-29 12:00:00+00}"],
    "date[]": ["{infinity,0044-03-15 BC}"],
    "int4range[]": ['{empty,"[1,5)",NULL,"(,)"}'],
    "jsonb[]": ['{"{\\"a\\": [1, null]}",null,"null"}'],
    "box[]": ["{(1,1),(0,0);(2,2),(1,1)}"],
    "uuid[]": ["{00000000-0000-0000-0000-000000000000,NULL}"],
    "varchar(3)[]": ["{abc,NULL,def}"],
    '"char"[]': ["{a,b}"],
    "name[]": ["{a,b}"],
}
RANGES: Values = {
    "int4range": ["empty", "(,)", "[1,1]", "[,5)", "[-2147483648,2147483646]"],
    "int8range": ["[1,9223372036854775807)"],
    "numrange": ["[1.0,1.00]", "(1.5,2.50]", "[NaN,NaN]", "empty"],
    "tsrange": ['["1999-12-31 23:59:59",infinity)', "[-infinity,infinity]"],
    "tstzrange": ['("2024-01-01 00:00:00+02",)'],
    "daterange": ["[2024-02-29,2024-02-29]", "[,infinity]"],
    "zoo.span": ["[0.1,Infinity]", "empty", "(-Infinity,)"],
}
MULTIRANGES: Values = {
    "int4multirange": ["{}", "{[1,3),[5,7)}", "{(,)}"],
    "int8multirange": ["{[1,2)}"],
    "nummultirange": ["{[1.0,1.50],(2,3]}"],
    "tsmultirange": ["{[-infinity,infinity]}"],
    "tstzmultirange": ['{["2024-01-01 00:00:00+00",)}'],
    "datemultirange": ["{[2024-02-29,2024-03-01),(2025-01-01,)}"],
    "zoo.span_multirange": ["{[0.1,0.2],[1,Infinity]}", "{}"],
}
DOCUMENTS: Values = {
    "json": ['{"b": 1,  "a": 1, "a": [2.0, 2.00]}', "null", '"\\u0041\\\\"', " [ 1e3 ] "],
    "jsonb": ['{"b": 1, "a": {"c": [1.0, 1.00, null]}}', "null", '"\\n\\"\\\\"', "[]", "1e100"],
    "jsonpath": ['$."a"[*] ? (@ > 1.50)', "strict $.a", '$ ? (@ like_regex "^\\\\d")'],
    "tsvector": ["a:1A,3B fat:2 'it''s':4", "", "'back\\\\slash' '\N{SNOWMAN}'"],
}
MARKUP: Values = {
    "xml": [
        "<a b='c'>&lt;\N{SNOWMAN}</a>", "text", "", "<a/><b/>",
        "<?xml version='1.0' encoding='UTF-8'?><!DOCTYPE a><a/>", "<a>\n\t\\N</a>",
    ],
    "xml[]": ['{<a/>,NULL,"a, b"}'],
}  # fmt: skip
SHAPES: Values = {
    "point": ["(0,0)", "(-0,1e-300)", "(NaN,Infinity)"],
    "lseg": ["[(0,0),(1,1)]"],
    "line": ["{1,-1,0}", "{0,0.1,3}"],
    "box": ["(1,1),(0,0)"],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1),(2,0.1))"],
    "polygon": ["((0,0),(1,1),(2,0))"],
    "circle": ["<(0,0),1>", "<(0.1,-0),Infinity>"],
}
ADDRESSES: Values = {
    "uuid": ["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "inet": ["10.1.2.3/8", "::1", "192.168.0.1", "2001:db8::/32", "::ffff:1.2.3.4/128"],
    "cidr": ["10.0.0.0/8", "::/0", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:ff:fe:01:02:03"],
    "bit(5)": ["10101", "00000"],
    "bit varying": ["", "1", "1" * 100],
    "bit varying(9)": ["101010101"],
    "pg_lsn": ["0/0", "FFFFFFFF/FFFFFFFF"],
    "xid": ["0", "4294967295"],
    "xid8": ["18446744073709551615"],
    "cid": ["7"],
    "tid": ["(4294967295,65535)"],
    "pg_snapshot": ["10:20:10,14,15"],
    "txid_snapshot": ["10:20:10,14,15"],
    "information_schema.sql_identifier": ["a name"],
    "information_schema.cardinal_number": ["0"],
}
OWN: Values = {
    "zoo.mood": ["sad", "so so", 'Happy "\N{GRINNING FACE}"', ""],
    "zoo.positive": ["0.10", "1e50"],
    "zoo.words": ['{a,NULL,"b c"}', "{}"],
    "zoo.good_mood": ["so so"],
}
COMPOUNDS: Values = {
    "zoo.mood[]": ['{sad,NULL,"so so"}', '{{sad},{""}}'],
    "zoo.pair": ['(1.00,"a ""b"", c")', "(,)", '(NaN,"")', '(1,"(\\\\,)")'],
    "zoo.pair[]": ['{"(1,a)",NULL,"(,\\"b c\\")"}', "{}"],
    "zoo.nested": ['("(1,""x y"")","{sad,NULL}","{1,2}")', "(,,)"],
    "zoo.right_pair": ["(7,)"],
    "zoo.right_pair[]": ['{"(7,)"}'],
    "zoo.span[]": ['{"[1,2]",empty}'],
    '"Ze Bra.%{}".rows': ['(1,"a row")', "(,)"],
    '"Ze Bra.%{}".rows[]': ['{"(1,\\"a row\\")"}'],
}
ODD: Values = {
    "tsquery": ["fat & (rat | !cat:*AB)", "'a b' <2> c", ""],
    "int2vector": ["1 2 3", ""],
    "oidvector": ["0 4294967295", ""],
    "money": ["$1,234.56", "-$0.01", "92233720368547758.07"],
    "money[]": ["{$1.00,NULL}"],
    "zoo.priced": ['(a,"$1,000.00")'],
    "regclass": ["zoo.customers", "pg_catalog.pg_class", "-", STRANGE],
    "regclass[]": ["{zoo.customers," + STRANGE_ELEMENT + "}"],
    "zoo.known": ["zoo.orders"],
    "regtype": ["int4", "zoo.pair[]", "zoo.positive"],
    "regproc": ["pg_catalog.now"],
    "regprocedure": ["pg_catalog.abs(integer)"],
    "regoper": ["pg_catalog.||/"],
    "regoperator": ["pg_catalog.+(integer,integer)"],
    "regnamespace": ["zoo", '"Ze Bra.%{}"'],
    "regrole": ["tester"],
    "regconfig": ["pg_catalog.simple"],
    "regdictionary": ["pg_catalog.simple"],
    "regcollation": ['pg_catalog."C"'],
    "aclitem": ["tester=r*w/tester", "=r/tester"],
}
NEVER_BINARY = {
    "tsquery": "holds tsquery, whose empty value no server accepts in binary",
    "int2vector": "holds int2vector",
    "oidvector": "holds oidvector",
    "money": "holds money",
    "money[]": "holds money",
    "zoo.priced": "holds money",
    "regclass": "holds regclass",
    "regclass[]": "holds regclass",
    "zoo.known": "holds regclass",
    "regtype": "holds regtype",
    "regproc": "holds regproc",
    "regprocedure": "holds regprocedure",
    "regoper": "holds regoper",
    "regoperator": "holds regoperator",
    "regnamespace": "holds regnamespace",
    "regrole": "holds regrole",
    "regconfig": "holds regconfig",
    "regdictionary": "holds regdictionary",
    "regcollation": "holds regcollation",
    "aclitem": "holds aclitem, which has no binary form",
}
"""What is said of the types of `ODD` where they are to travel in binary."""


def quoted(*names: str) -> str:
    """Write a name as SQL, each part in double quotes."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@dataclass(frozen=True)
class Changes:
    """What happens at the source between two runs."""

    inserts: tuple[str, ...] = ()
    updates: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One table; ``columns`` are definitions by name, in order.

    ``inherited``: columns of its parents. ``partitions``: statements that make them. ``trait``: what
    keeps it from binary: "never", "numbers" (of users' types, where a side is 13) or "intervals"
    (where only one side is 17 or later).
    """

    names: tuple[str, str]
    columns: Mapping[str, str]
    more: tuple[str, ...] = ()
    tail: str = ""
    inherited: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    fill: tuple[str, ...] = ()
    changes: Changes = Changes()
    since: int = 13
    trait: str = ""
    has_key: bool = True

    @property
    def name(self) -> str:
        return quoted(*self.names)

    @property
    def is_partitioned(self) -> bool:
        return bool(self.partitions)

    def create(self, *, backwards: bool) -> str:
        """Return the statement that makes it, the columns in the opposite order if asked."""
        columns = [f"{quoted(name)} {definition}" for name, definition in self.columns.items()]
        parts = [*(reversed(columns) if backwards else columns), *self.more]
        return f"CREATE TABLE {self.name} ({', '.join(parts)}) {self.tail}"

    def travels_in_binary(self, majors: Sequence[int]) -> bool:
        if self.trait == "numbers":
            return min(majors) >= 14
        if self.trait == "intervals":
            return not min(majors) < 17 <= max(majors)
        return self.trait != "never"

    def digest(self) -> str:
        """Return a query for its name, the number of its rows, and a hash of all of them."""
        names = [quoted(name) for name in sorted([*self.columns, *self.inherited])]
        where = "tableoid::regclass::text AS place, " if self.is_partitioned else ""
        only = "" if self.is_partitioned else "ONLY "
        each = "md5(t::text)"
        return (
            f"SELECT {literal(self.name)} AS name, count(*),"
            f" md5(string_agg({each}, '' ORDER BY {each} COLLATE \"C\"))"
            f" FROM (SELECT {where}{', '.join(names)} FROM {only}{self.name}) AS t"
        )


def family(name: str, values: Values, *, since: int = 13, trait: str = "") -> Table:
    """Return a table with a column for each type, called like it, and rows of all the values.

    Every value comes once at least, and there is a row of NULLs.
    """
    table = quoted("zoo", name)
    columns = ", ".join(quoted(kind) for kind in values)
    rows = [
        [literal(each[row % len(each)]) for each in values.values()]
        for row in range(max(map(len, values.values())) + 2)
    ]
    rows.append(["NULL"] * len(values))
    listed = ", ".join(f"({number}, {', '.join(row)})" for number, row in enumerate(rows))
    return Table(
        names=("zoo", name),
        columns={"id": "integer PRIMARY KEY", **{kind: kind for kind in values}},
        fill=(f"INSERT INTO {table} (id, {columns}) VALUES {listed}",),
        changes=Changes(
            inserts=(
                f"INSERT INTO {table} (id, {columns}) SELECT id + 100, {columns} FROM {table}",
            ),
            updates=(
                (
                    f"UPDATE {table} t SET ({columns}) = ROW({columns_of('o', values)})"
                    f" FROM {table} o WHERE o.id = (t.id + 1) % {len(rows)} AND t.id % 3 = 1"
                ),
            ),
            deletes=(f"DELETE FROM {table} WHERE id % 5 = 2",),
        ),
        since=since,
        trait=trait,
    )


def columns_of(row: str, names: Iterable[str]) -> str:
    return ", ".join(f"{row}.{quoted(name)}" for name in names)


WIDTH = 400
KEYS = {
    "number": "numeric",
    "code": "character(3)",
    "mood": "zoo.mood",
    "at": "inet",
    "raw": "bytea",
    "day": "date",
    "amount": "zoo.positive",
    "words": "text[]",
    "share": "double precision",
}
SPECIAL = (
    Table(
        ("zoo", "keys"),
        {**KEYS, "value": "text"},
        more=(f"PRIMARY KEY ({', '.join(KEYS)})",),
        fill=(
            (
                "INSERT INTO zoo.keys SELECT v.number, c.code, m.mood, '10.0.0.1/8', '\\x00ff',"
                " 'infinity', 1.0, '{a,NULL}', f.share, 'old' FROM (VALUES (1.0), ('NaN'::numeric),"
                " (0.000)) v(number), (VALUES ('a'), ('ab')) c(code),"
                " unnest(enum_range(NULL::zoo.mood)) m(mood), (VALUES (0.0), ('NaN'::float8)) f(share)"
            ),
        ),
        changes=Changes(
            inserts=(
                (
                    "INSERT INTO zoo.keys SELECT number, code, mood, at, raw, 'epoch', amount, words,"
                    " share, 'new' FROM zoo.keys"
                ),
            ),
            updates=(
                (
                    "UPDATE zoo.keys SET number = 1.000, amount = 1.00, value = 'equal to the old key'"
                    " WHERE number = 1"
                ),
                "UPDATE zoo.keys SET share = '-0' WHERE share = 0 AND code = 'a'",
            ),
            deletes=("DELETE FROM zoo.keys WHERE mood = 'sad' AND code = 'ab'",),
        ),
    ),
    Table(
        ("zoo", "generated"),
        {
            "id": "integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            "other": "integer GENERATED BY DEFAULT AS IDENTITY (START WITH 100)",
            "fixed": "bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000)",
            "a": "text",
            "b": "text DEFAULT 'the default'",
            "both": "text GENERATED ALWAYS AS (a || b) STORED",
        },
        fill=(
            "INSERT INTO zoo.generated (a, b) SELECT i, NULLIF(i % 3, 0) FROM generate_series(1, 20) i",
        ),
        changes=Changes(
            inserts=("INSERT INTO zoo.generated (a) SELECT 'new' FROM generate_series(1, 5)",),
            updates=(
                "UPDATE zoo.generated SET a = 'changed' WHERE id % 4 = 0",
                "UPDATE zoo.generated SET fixed = DEFAULT WHERE id % 4 = 1",
            ),
            deletes=("DELETE FROM zoo.generated WHERE id % 7 = 0",),
        ),
    ),
    Table(
        ("zoo", "measures"),
        {"day": "date NOT NULL", "sensor": "text NOT NULL", "value": "numeric"},
        more=("PRIMARY KEY (day, sensor)",),
        tail="PARTITION BY RANGE (day)",
        partitions=(
            (
                "CREATE TABLE zoo.measures_old PARTITION OF zoo.measures"
                " FOR VALUES FROM (MINVALUE) TO ('2024-01-01') PARTITION BY LIST (sensor)"
            ),
            "CREATE TABLE zoo.measures_old_a PARTITION OF zoo.measures_old FOR VALUES IN ('a', 'b')",
            "CREATE TABLE zoo.measures_old_rest PARTITION OF zoo.measures_old DEFAULT",
            (
                'CREATE TABLE zoo."Measures.New" (gone int, value numeric, sensor text NOT NULL,'
                " day date NOT NULL)"
            ),
            'ALTER TABLE zoo."Measures.New" DROP COLUMN gone',
            (
                'ALTER TABLE zoo.measures ATTACH PARTITION zoo."Measures.New"'
                " FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')"
            ),
            "CREATE TABLE zoo.measures_rest PARTITION OF zoo.measures DEFAULT",
        ),
        fill=(
            (
                "INSERT INTO zoo.measures SELECT '2023-06-01'::date + i, chr(97 + i % 4), i / 7.0"
                " FROM generate_series(0, 800) i"
            ),
        ),
        changes=Changes(
            inserts=(
                "INSERT INTO zoo.measures SELECT day, 'z', -value FROM zoo.measures WHERE value < 5",
            ),
            updates=("UPDATE zoo.measures SET value = NULL WHERE value > 100",),
            deletes=("DELETE FROM zoo.measures WHERE sensor = 'b'",),
        ),
    ),
    Table(
        ("zoo", "readings"),
        {"id": "integer PRIMARY KEY", "day": "date", "sensor": "text"},
        more=("FOREIGN KEY (day, sensor) REFERENCES zoo.measures",),
        fill=(
            (
                "INSERT INTO zoo.readings SELECT i, '2023-06-01'::date + i * 8, 'a'"
                " FROM generate_series(0, 99) i"
            ),
        ),
        changes=Changes(
            inserts=("INSERT INTO zoo.readings VALUES (1000, '2023-06-01', 'z')",),
            updates=("UPDATE zoo.readings SET sensor = NULL WHERE id % 9 = 0",),
            deletes=("DELETE FROM zoo.readings WHERE id % 10 = 0",),
        ),
    ),
    Table(
        ("zoo", "beasts"),
        {"id": "integer PRIMARY KEY", "name": "text"},
        fill=("INSERT INTO zoo.beasts SELECT i, 'beast ' || i FROM generate_series(1, 50) i",),
        changes=Changes(
            inserts=("INSERT INTO zoo.beasts VALUES (1000, 'new')",),
            updates=("UPDATE ONLY zoo.beasts SET name = upper(name) WHERE id % 2 = 0",),
            deletes=("DELETE FROM ONLY zoo.beasts WHERE id % 3 = 0",),
        ),
    ),
    Table(
        ("zoo", "Birds"),
        {"wing": "numeric"},
        more=("PRIMARY KEY (id)",),
        tail="INHERITS (zoo.beasts)",
        inherited=("id", "name"),
        fill=("INSERT INTO zoo.\"Birds\" SELECT i, 'bird ' || i, i FROM generate_series(1, 50) i",),
        changes=Changes(
            inserts=("INSERT INTO zoo.\"Birds\" VALUES (1000, 'new', 0.10)",),
            updates=('UPDATE ONLY zoo."Birds" SET wing = wing / 3 WHERE id % 2 = 0',),
            deletes=('DELETE FROM ONLY zoo."Birds" WHERE id % 5 = 0',),
        ),
    ),
    Table(
        ("zoo", "parrots"),
        {"words": "text[]"},
        more=("PRIMARY KEY (id)",),
        tail='INHERITS (zoo."Birds")',
        inherited=("id", "name", "wing"),
        fill=("INSERT INTO zoo.parrots VALUES (1, 'Polly', 0.1, '{a cracker}')",),
        changes=Changes(
            inserts=("INSERT INTO zoo.parrots VALUES (2, 'Jack', NULL, '{}')",),
            updates=("UPDATE zoo.parrots SET words = words || 'please'::text WHERE id = 1",),
        ),
    ),
    Table(
        ("zoo", "customers"),
        {"id": "integer PRIMARY KEY", "name": "text NOT NULL UNIQUE"},
        fill=(
            "INSERT INTO zoo.customers SELECT i, 'customer ' || i FROM generate_series(1, 40) i",
        ),
        changes=Changes(
            inserts=("INSERT INTO zoo.customers VALUES (41, 'new')",),
            updates=(
                "UPDATE zoo.customers SET name = 'none' WHERE id = 1",
                "UPDATE zoo.customers SET name = 'customer 1' WHERE id = 2",
                "UPDATE zoo.customers SET name = 'customer 2' WHERE id = 1",
            ),
            deletes=("DELETE FROM zoo.customers WHERE id > 30 AND id < 41",),
        ),
    ),
    Table(
        ("zoo", "orders"),
        {
            "customer": "integer REFERENCES zoo.customers",
            "number": "smallint",
            "at": "timestamptz DEFAULT now()",
        },
        more=("PRIMARY KEY (customer, number)",),
        fill=(
            (
                "INSERT INTO zoo.orders SELECT c, n, 'epoch' FROM generate_series(1, 30) c,"
                " generate_series(1, c % 3) n"
            ),
        ),
        changes=Changes(
            inserts=("INSERT INTO zoo.orders VALUES (41, 1), (1, 1000)",),
            updates=("UPDATE zoo.orders SET at = now() WHERE customer % 5 = 0",),
            deletes=("DELETE FROM zoo.orders WHERE customer = 29",),
        ),
    ),
    Table(
        ("zoo", "lines"),
        {"customer": "integer", "number": "smallint", "line": "integer", "what": "text"},
        more=(
            "PRIMARY KEY (customer, number, line)",
            "FOREIGN KEY (customer, number) REFERENCES zoo.orders ON DELETE CASCADE",
        ),
        fill=(
            (
                "INSERT INTO zoo.lines SELECT customer, number, l, 'line ' || l FROM zoo.orders,"
                " generate_series(1, 3) l"
            ),
        ),
        changes=Changes(
            inserts=("INSERT INTO zoo.lines VALUES (41, 1, 1, 'new'), (1, 1000, 1, NULL)",),
            updates=("UPDATE zoo.lines SET what = 'changed' WHERE line = 2",),
            deletes=("DELETE FROM zoo.lines WHERE line = 3",),
        ),
    ),
    Table(
        ("zoo", "employees"),
        {"id": "integer PRIMARY KEY", "boss": "integer REFERENCES zoo.employees"},
        fill=(
            "INSERT INTO zoo.employees SELECT i, NULLIF(i + 1, 101) FROM generate_series(1, 100) i",
        ),
        changes=Changes(
            inserts=("INSERT INTO zoo.employees VALUES (201, 202), (202, 203), (203, 203)",),
            updates=("UPDATE zoo.employees SET boss = 100 WHERE id BETWEEN 10 AND 30",),
            deletes=("DELETE FROM zoo.employees WHERE id BETWEEN 11 AND 20",),
        ),
    ),
    Table(
        ("zoo", "hens"),
        {"id": "integer PRIMARY KEY", "egg": "integer NOT NULL"},
        fill=("INSERT INTO zoo.hens SELECT i, i + 1 FROM generate_series(1, 9) i",),
        changes=Changes(
            inserts=("INSERT INTO zoo.hens VALUES (20, 20)",),
            updates=("UPDATE zoo.hens SET egg = 1 WHERE id = 5",),
            deletes=("DELETE FROM zoo.hens WHERE id = 9",),
        ),
    ),
    Table(
        ("zoo", "eggs"),
        {
            "id": "integer PRIMARY KEY",
            "hen": "integer REFERENCES zoo.hens DEFERRABLE",
        },
        fill=("INSERT INTO zoo.eggs SELECT i, NULLIF(i, 10) FROM generate_series(1, 10) i",),
        changes=Changes(
            inserts=("INSERT INTO zoo.eggs VALUES (20, 20)",),
            updates=("UPDATE zoo.eggs SET hen = 3 WHERE id = 6",),
            deletes=(
                "UPDATE zoo.eggs SET hen = 1 WHERE id = 9",
                "DELETE FROM zoo.eggs WHERE id = 10",
            ),
        ),
    ),
    Table(("zoo", "nobody"), {"id": "integer PRIMARY KEY", "name": "text"}),
    Table(
        ("zoo", "wide"),
        {
            "id": "integer PRIMARY KEY",
            **{f"column {i}": "integer" for i in range(WIDTH)},
            "story": "text",
            "picture": "bytea",
        },
        fill=(
            'INSERT INTO zoo.wide (id, "column 0", "column 399") VALUES (1, 1, 399), (2, NULL, NULL)',
            (
                "UPDATE zoo.wide SET story = (SELECT string_agg(md5(i::text), '\n')"
                " FROM generate_series(1, 100000) i), picture = (SELECT string_agg(decode(md5(i::text),"
                " 'hex'), '') FROM generate_series(1, 50000) i) WHERE id = 1"
            ),
        ),
        changes=Changes(
            inserts=("INSERT INTO zoo.wide (id, story) VALUES (3, repeat('\\', 2000000))",),
            updates=("UPDATE zoo.wide SET story = story || 'the end' WHERE id = 1",),
            deletes=("DELETE FROM zoo.wide WHERE id = 2",),
        ),
    ),
    Table(
        ("zoo", "log"),
        {"at": "timestamptz", "line": "text"},
        fill=("INSERT INTO zoo.log SELECT 'epoch', i % 3 FROM generate_series(1, 30) i",),
        changes=Changes(
            inserts=("INSERT INTO zoo.log SELECT 'epoch', i % 3 FROM generate_series(1, 10) i",),
            updates=("UPDATE zoo.log SET line = NULL WHERE line = '1'",),
            deletes=("DELETE FROM zoo.log WHERE line = '2'",),
        ),
        has_key=False,
    ),
    Table(
        ("Ze Bra.%{}", 'T "%s".{0}\N{SNOWMAN}'),
        {
            "Id": "integer",
            "%s": "integer",
            'a "b"': "text",
            "c.d": '"Ze Bra.%{}"."Mood %s.{0}"',
            "100%": "text",
            "%(x)s": "text",
            "{}": "text",
            "\N{LATIN CAPITAL LETTER U WITH DIAERESIS}n\N{SNOWMAN}": "text",
            "select": "text",
            "line\nbreak\t\\": "text",
            "a, b": "text",
            " ": "text",
            "$1": "text",
            "x" * 63: "text",
        },
        more=('PRIMARY KEY ("Id", "%s")',),
        fill=(
            (
                f"INSERT INTO {STRANGE}"
                " SELECT i, -i, 'b', (enum_range(NULL::\"Ze Bra.%{}\".\"Mood %s.{0}\"))[1 + i % 4], '%',"
                " '%(x)s', '{}', 'u', 'select', E'\\n', ',', ' ', '$1', 'x' FROM generate_series(1, 9) i"
            ),
        ),
        changes=Changes(
            inserts=(f"INSERT INTO {STRANGE} VALUES (10, 10)",),
            updates=(f'UPDATE {STRANGE} SET "100%" = \'100\', " " = \'\' WHERE "Id" < 4',),
            deletes=(f'DELETE FROM {STRANGE} WHERE "%s" = -5',),
        ),
    ),
)
AFTERWARDS = (
    "ALTER TABLE zoo.hens ADD FOREIGN KEY (egg) REFERENCES zoo.eggs DEFERRABLE INITIALLY DEFERRED",
)
"""What cannot be said before all tables are there."""


@dataclass(frozen=True)
class Zoo:
    """The tables that servers of all these `majors` have."""

    tables: tuple[Table, ...]

    @classmethod
    def common(cls, majors: Sequence[int], *, has_xml: bool) -> Zoo:
        intervals = dict(INTERVALS)
        if min(majors) >= 17:
            intervals["interval"] = [*intervals["interval"], *FOREVER]
        found = [
            *SPECIAL,
            family("numbers", NUMBERS),
            family("endless", ENDLESS, since=14),
            family("days", DAYS),
            family("intervals", intervals, trait="intervals"),
            family("texts", TEXTS),
            family("arrays", ARRAYS),
            family("ranges", RANGES),
            family("multiranges", MULTIRANGES, since=14),
            family("documents", DOCUMENTS),
            family("shapes", SHAPES),
            family("addresses", ADDRESSES),
            family("own", OWN),
            family("compounds", COMPOUNDS, trait="numbers"),
            family("odd", ODD, trait="never"),
        ]
        if has_xml:
            found.append(family("markup", MARKUP))
        return cls(tuple(table for table in found if table.since <= min(majors)))

    def without(self, *names: str) -> Zoo:
        return Zoo(tuple(table for table in self.tables if table.names[1] not in names))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(table.name for table in self.tables)

    def create(self, *, backwards: bool = False) -> list[str]:
        tables = [[table.create(backwards=backwards), *table.partitions] for table in self.tables]
        types = [TYPES, BACKWARDS] if backwards else [TYPES]
        return [*types, *chain.from_iterable(tables), *AFTERWARDS]

    def fill(self) -> list[str]:
        return ["SET CONSTRAINTS ALL DEFERRED", *chain.from_iterable(t.fill for t in self.tables)]

    def change(self, *kinds: str) -> list[str]:
        """Return the statements of these kinds of changes, for one transaction."""
        deferred = ["SET CONSTRAINTS ALL DEFERRED"]
        for kind in kinds:
            # Children before parents where rows go, parents before children where they come.
            tables = reversed(self.tables) if kind == "deletes" else self.tables
            deferred += chain.from_iterable(getattr(table.changes, kind) for table in tables)
        return deferred

    def empty(self) -> list[str]:
        """Return the statements that leave the tables alone, without rows."""
        deletes = [f"DELETE FROM {table.name}" for table in self.tables]
        return [
            "SET LOCAL session_replication_role = replica",
            "DROP SCHEMA IF EXISTS copyd, extra CASCADE",
            *deletes,
        ]

    def digest(self, conninfo: str, psql: str | None) -> dict[str, tuple[int, str]]:
        """Count and hash every table in one statement of the referee's."""
        query = " UNION ALL ".join(table.digest() for table in self.tables)
        rows = _psql(psql, conninfo, query) if psql is not None else _ask(conninfo, query)
        found = {name: (int(number), digest) for name, number, digest in rows}
        assert set(found) == set(self.names)
        return found


def psql_of(installation: Installation) -> str | None:
    """Return the installation's psql, where it has one."""
    return installation.paths["psql"]


def has_xml(conninfo: str) -> bool:
    """Whether the server reads XML."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        try:
            connection.execute("SELECT '<a/>'::xml")
        except psycopg.errors.FeatureNotSupported:
            return False
    return True


def execute(conninfo: str, statements: Iterable[str]) -> None:
    """Execute all of them in one transaction."""
    with _connect(conninfo) as connection:
        for statement in statements:
            connection.execute(statement)


_numbers = count()


@contextmanager
def database(server: Server, *statements: str, template: str = "template0") -> Iterator[str]:
    """A fresh database like `template`, after these statements; dropped afterwards."""
    name = f"zoo_{os.getpid()}_{next(_numbers)}"
    with server.connect() as admin:
        has_strategy = admin.info.server_version >= 150_000
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8' {}").format(
            sql.Identifier(name),
            sql.Identifier(template),
            # What older servers always do is faster here.
            sql.SQL("STRATEGY file_copy" if has_strategy else ""),
        )
        admin.execute(create)
    try:
        execute(server.conninfo(name), statements)
        yield name
    finally:
        with server.connect() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _psql(psql: str, conninfo: str, query: str) -> list[list[str]]:
    done = subprocess.run(
        [
            psql,
            "-X",
            "-A",
            "-t",
            "-0",
            "-F",
            "\x1f",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            conninfo,
            "-c",
            query,
        ],
        env={**os.environ, "PGOPTIONS": _OPTIONS, "PGCLIENTENCODING": "UTF8"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [row.split("\x1f") for row in done.stdout.split("\0") if row]


def _ask(conninfo: str, query: str) -> list[tuple[str, int, str]]:
    with _connect(conninfo) as connection:
        return connection.execute(query).fetchall()


def _connect(conninfo: str) -> Connection:
    return psycopg.connect(conninfo, options=_OPTIONS, client_encoding="UTF8")
