"""Binary forms: what is called equal is read by the other side, what is refused is not sent."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from copyd.catalog.columns import binary_refusal, match_refusal
from copyd.catalog.relations import Column, look_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.connection import Connection
    from tests.support.servers import Server

KINDS = """
CREATE SCHEMA "My";
CREATE TYPE "My"."Shade" AS ENUM ('light', 'very "dark"');
CREATE DOMAIN amount AS numeric(9,2) CHECK (VALUE >= 0);
CREATE DOMAIN tags AS text[];
CREATE DOMAIN nested AS amount;
CREATE TYPE pair AS (x int, "Y y" text);
CREATE TYPE deep AS (p pair, ps pair[], a amount, s "My"."Shade");
CREATE TYPE pointing AS (x int, what regclass);
CREATE TYPE spans AS RANGE (subtype = "My"."Shade");
CREATE TYPE pair_range AS RANGE (subtype = pair);
CREATE TYPE prices AS RANGE (subtype = money);
CREATE DOMAIN places AS pointing[];
"""
PAIR = '("x" int4, "Y y" text)'
# Type, values, signature where it says more than the type's name.
FITTING = [
    ("boolean", ["t", "f"], "bool"),
    ("smallint", ["-32768"], "int2"),
    ("integer", ["2147483647"], "int4"),
    ("bigint", ["-9223372036854775808"], "int8"),
    ("numeric", ["NaN", "1e-30", "-12345678901234567890.123"], "numeric"),
    ("numeric(5,2)", ["123.45"], "numeric"),
    ("real", ["NaN", "-Infinity", "1.1"], "float4"),
    ("double precision", ["NaN", "Infinity", "0.1"], "float8"),
    ("text", ["", "a\tb\nc\\", "\N{SNOWMAN}"], "text"),
    ("character varying(5)", ["abc"], "varchar"),
    ("character(5)", ["abc"], "bpchar"),
    ('"char"', ["x"], "char"),
    ("name", ["x"], "name"),
    ("bytea", [r"\x00ff"], "bytea"),
    ("date", ["infinity", "0044-03-15 BC"], "date"),
    ("time(3)", ["24:00:00"], "time"),
    ("time with time zone", ["12:00:00+05:30"], "timetz"),
    ("timestamp", ["-infinity", "2024-02-29 23:59:59.999999"], "timestamp"),
    ("timestamptz(0)", ["2024-02-29 23:59:59+01"], "timestamptz"),
    ("interval", ["-1 year 2 mons 3 days 04:05:06.7"], "interval"),
    ("uuid", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], "uuid"),
    ("inet", ["::1/64"], "inet"),
    ("cidr", ["10.0.0.0/8"], "cidr"),
    ("macaddr", ["08:00:2b:01:02:03"], "macaddr"),
    ("macaddr8", ["08:00:2b:01:02:03:04:05"], "macaddr8"),
    ("bit(3)", ["101"], "bit"),
    ("bit varying", ["1", ""], "varbit"),
    ("json", ['{"a": [1, null]}'], "json"),
    ("jsonb", ['{"a": [1, null]}'], "jsonb"),
    ("jsonpath", ['$."a"[*]'], "jsonpath"),
    ("xml", ["<a>b</a>"], "xml"),
    ("tsvector", ["'a':1A 'b':2"], "tsvector"),
    ("point", ["(1,2)"], "point"),
    ("polygon", ["((0,0),(1,1),(1,0))"], "polygon"),
    ("oid", ["4294967295"], "oid"),
    ("pg_lsn", ["16/B374D848"], "pg_lsn"),
    ("xid8", ["18446744073709551615"], "xid8"),
    ("integer[]", ["{1,NULL,3}", "[2:3][1:1]={{1},{2}}"], "int4[]"),
    ("timestamptz[]", ['{"2024-02-29 00:00:00+00"}'], "timestamptz[]"),
    ("int4range", ["[1,5)", "empty", "(,)"], "range(int4)"),
    ("tstzrange[]", ['{"[2024-01-01 00:00:00+00,)"}'], "range(timestamptz)[]"),
    ('"My"."Shade"', ['very "dark"'], 'enum("light", "very ""dark""")'),
    ('"My"."Shade"[]', ["{light}"], 'enum("light", "very ""dark""")[]'),
    ("public.amount", ["1.50"], "numeric"),
    ("public.nested", ["1.50"], "numeric"),
    ("public.tags", ["{a,b}"], "text[]"),
    ("public.amount[]", ["{1.50}"], "numeric[]"),
    ("public.pair", ["(1,x)", "(,)"], PAIR),
    ("public.pair[]", ['{"(1,x)"}'], f"{PAIR}[]"),
    ("public.spans", ['[light,"very ""dark"""]'], 'range(enum("light", "very ""dark"""))'),
    ("public.pair_range", ['["(1,x)","(2,x)")'], f"range({PAIR})"),
    (
        "public.deep",
        ['("(1,x)","{""(1,x)""}",1.50,light)'],
        f'("p" {PAIR}, "ps" {PAIR}[], "a" numeric, "s" enum("light", "very ""dark"""))',
    ),
]
FROM_14 = [
    ("numeric", ["Infinity", "-Infinity"], "numeric"),
    ("int4multirange", ["{[1,3), [5,7)}"], "multirange(int4)"),
    ("datemultirange[]", ['{"{[2024-01-01,2024-01-03)}"}'], "multirange(date)[]"),
]
WITH_NUMBERS = {
    '"My"."Shade"[]', "public.amount[]", "public.pair[]", "public.deep",
}  # fmt: skip
UNFIT = [
    ("regclass", "holds regclass"),
    ("regproc", "holds regproc"),
    ("regtype[]", "holds regtype"),
    ("regrole", "holds regrole"),
    ("money", "holds money"),
    ("money[]", "holds money"),
    ("aclitem", "holds aclitem, which has no binary form"),
    ("tsquery", "holds tsquery, whose empty value no server accepts in binary"),
    ("int2vector", "holds int2vector"),
    ("oidvector", "holds oidvector"),
    ("aclitem[]", "holds aclitem, which has no binary form"),
    ("public.pointing", "holds regclass"),
    ("public.pointing[]", "holds regclass"),
    ("public.places", "holds regclass"),
    ("public.places[]", "holds regclass"),
    ("public.prices", "holds money"),
]


@pytest.fixture(scope="module")
def pair(server: Server) -> Iterator[tuple[Connection, Connection]]:
    """Two databases with the same types under different numbers."""
    with ExitStack() as stack:
        names = [stack.enter_context(server.database()) for _ in range(2)]
        source, replica = (stack.enter_context(closing(server.connect(name))) for name in names)
        for connection in (source, replica):
            connection.prepare_threshold = None  # the table changes its type all the time
        source.execute(KINDS)
        replica.execute("CREATE TYPE another AS (i int)")
        replica.execute(KINDS)
        yield source, replica


def column(connection: Connection, kind: str) -> Column:
    connection.execute("DROP TABLE IF EXISTS public.t")
    connection.execute(f"CREATE TABLE public.t (c {kind})".encode())
    return look_up(connection, "public.t").columns[0]


def copy_binary(source: Connection, replica: Connection) -> None:
    with source.cursor().copy("COPY t TO STDOUT (FORMAT binary)") as outgoing:
        data = b"".join(outgoing)
    with replica.cursor().copy("COPY t FROM STDIN (FORMAT binary)") as incoming:
        incoming.write(data)


def texts(connection: Connection) -> list[tuple[str]]:
    return connection.execute("SELECT c::text FROM t ORDER BY 1").fetchall()


@pytest.mark.parametrize(("kind", "values", "signature"), [*FITTING, *FROM_14])
def test_equal_signatures_exchange_binary_values(
    pair: tuple[Connection, Connection], kind: str, values: list[str], signature: str
) -> None:
    source, replica = pair
    major = source.info.server_version // 10_000
    if major < 14 and (kind, values, signature) in FROM_14:
        pytest.skip("PostgreSQL has it from 14 on")
    given, there = column(source, kind), column(replica, kind)
    assert given == there
    assert given.signature == signature
    assert given.is_user_compound == (kind in WITH_NUMBERS)
    assert match_refusal([given], [there]) is None
    for value in values:
        insert = sql.SQL("INSERT INTO t VALUES ({}), (NULL)").format(value)
        source.execute(insert)
    if binary_refusal([given], [there], majors=(major, major)) is None:
        copy_binary(source, replica)
        assert texts(replica) == texts(source)
    else:
        assert major == 13
        assert kind in WITH_NUMBERS
        with pytest.raises(psycopg.errors.DatatypeMismatch):
            copy_binary(source, replica)


@pytest.mark.parametrize(("kind", "reason"), UNFIT)
def test_what_means_something_else_elsewhere_is_refused(
    pair: tuple[Connection, Connection], kind: str, reason: str
) -> None:
    given, there = (column(connection, kind) for connection in pair)
    assert match_refusal([given], [there]) is None
    assert (binary_refusal([given], [there]) or "").startswith(f"column c {reason}")


def test_a_row_type_of_a_table_without_columns_is_spelled_out(
    pair: tuple[Connection, Connection],
) -> None:
    source, _ = pair
    source.execute("CREATE TABLE bare (a int, b int)")
    source.execute("ALTER TABLE bare DROP a")
    assert column(source, "public.bare").signature == '("b" int4)'
    source.execute("ALTER TABLE bare DROP b")
    assert column(source, "public.bare").signature == "()"


def test_types_of_an_extension_go_by_their_bare_name(server: Server, database: str) -> None:
    """A base type as an extension makes it, here of the functions of int4."""
    with closing(server.connect(database)) as connection:
        connection.execute(
            """CREATE SCHEMA "Ext"; SET search_path = "Ext", public; CREATE TYPE "Whole";
            CREATE FUNCTION i(cstring) RETURNS "Whole" LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
            CREATE FUNCTION o("Whole") RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
            CREATE TYPE "Whole" (INPUT = i, OUTPUT = o, LIKE = int4)"""
        )
        whole, wholes = (column(connection, kind) for kind in ('"Whole"', '"Whole"[]'))
    assert (whole.type, wholes.type) == ('"Ext"."Whole"', '"Ext"."Whole"[]')
    assert (whole.signature, wholes.signature) == ('*."Whole"', '*."Whole"[]')
    assert whole.binary_refusal == 'holds "Ext"."Whole", which has no binary form'
    assert wholes.binary_refusal == whole.binary_refusal
