"""Whether destinations hold what the source holds, on real servers."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo

from copyd.catalog.digest import Digest, Form, compute, digest_of
from copyd.catalog.session import begin
from copyd.cluster.poll import wait_for
from copyd.transfers import Loading, Query, Replica, Server, Tables, Verdict, run
from copyd.transfers.transfer import TableOptions
from copyd.transfers.verify.comparison import Comparison, Likeness
from copyd.transfers.verify.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.connection import Connection
    from tests.support import servers
    from tests.support.fanout import Fanout

EQUAL, DIFFERS, UNKNOWN = Likeness.EQUAL, Likeness.DIFFERS, Likeness.UNKNOWN
IS_IDLE = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'copyd'"
ARE_BUSY = "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
NOBODY = Server("nobody", "host=127.0.0.1 port=1 dbname=none user=none")


@pytest.fixture
def site(fanout: Fanout) -> Fanout:
    """A source and two destinations, with nothing in them."""
    fanout.create(replicas=2)
    return fanout


def verdicts(fanout: Fanout, *tables: str, **options: Any) -> list[Likeness]:
    """Of the first destination and of the second, for one table."""
    comparison = verify(fanout.transfer(*tables, **options))
    assert comparison.cause is None
    return [each.likeness for each in comparison.tables]


def wait_until(fanout: Fanout, query: str) -> None:
    assert wait_for(lambda: fanout.value("source", query), timeout=30), query


def held(comparison: Comparison) -> list[tuple[str, int | None, int | None, Likeness]]:
    return [
        (each.destination, each.source_rows, each.rows, each.likeness) for each in comparison.tables
    ]


# -- what is a difference -------------------------------------------------------------------------


def test_equal_tables_are_equal_whatever_the_order_of_rows_and_columns(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int, x text)", at=("source", "eu"))
    site.do("us", "CREATE TABLE t (own int, x text, i int)")
    site.everywhere("INSERT INTO t (i, x) SELECT i, 'x' || i FROM generate_series(1, 900) i")
    site.do("eu", "CREATE INDEX byx ON t (x); CLUSTER t USING byx")
    comparison = verify(site.transfer())
    assert held(comparison) == [("eu", 900, 900, EQUAL), ("us", 900, 900, EQUAL)]
    assert (comparison.likeness, comparison.transfer) == (EQUAL, "books")


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        ("UPDATE t SET x = 'y' WHERE i = 2", 3),
        ("DELETE FROM t WHERE i = 2", 2),
        ("INSERT INTO t SELECT * FROM t WHERE i = 2", 4),
        ("UPDATE t SET x = NULL WHERE x = ''", 3),
        ("UPDATE t SET x = '' WHERE x IS NULL", 3),
        ("UPDATE t SET n = 1.00 WHERE i = 1", 3),
        ("UPDATE t SET f = 0 WHERE i = 1", 3),
        ("UPDATE t SET f = f + 1e-15 WHERE i = 2", 3),
        ("UPDATE t SET x = y, y = x WHERE i = 3", 3),
        ("UPDATE t SET x = 'a', y = 'b,c' WHERE i = 3", 3),
        ("UPDATE t SET j = '{\"a\":1}' WHERE i = 1", 3),
        ("UPDATE t SET a = '{{1,2}}' WHERE i = 1", 3),
        ("UPDATE t SET a = '[0:1]={1,2}' WHERE i = 1", 3),
        ("UPDATE t SET s = ARRAY['a,b'] WHERE i = 1", 3),
        ("UPDATE t SET s = ARRAY['NULL'] WHERE i = 2", 3),
        ("UPDATE t SET x = (SELECT o.x FROM t o WHERE o.i = 4 - t.i) WHERE i <> 2", 3),
    ],
)
def test_a_difference_is_found(site: Fanout, change: str, rows: int) -> None:
    site.everywhere(
        "CREATE TABLE t (i int, x text, y text, n numeric, f float8, j json, a int[], s text[]);"
        " INSERT INTO t VALUES (1, '', 'q', 1.0, '-0', '{\"a\": 1}', '{1,2}', ARRAY['a', 'b']),"
        " (2, NULL, 'r', 'NaN', 0.1, 'null', '{}', ARRAY[NULL]::text[]),"
        " (3, 'a,b', 'c', NULL, NULL, NULL, NULL, NULL)"
    )
    site.do("us", change)
    assert held(verify(site.transfer())) == [("eu", 3, 3, EQUAL), ("us", 3, rows, DIFFERS)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("('a,b', 'c')", "('a', 'b,c')"),
        ("('a\",\"b', 'c')", "('a', 'b\",\"c')"),
        ("('', NULL)", "(NULL, '')"),
        ("('(a)', '\\')", "('(a', ')\\')"),
        ("('\\\\', '')", "('\\', '\\')"),
        ("(',', '')", "('', ',')"),
    ],
)
def test_no_text_is_mistaken_for_two(site: Fanout, one: str, other: str) -> None:
    site.everywhere("CREATE TABLE t (a text, b text)")
    site.everywhere(f"INSERT INTO t VALUES {one}", at=("source", "eu"))
    site.do("us", f"INSERT INTO t VALUES {other}")
    assert verdicts(site) == [EQUAL, DIFFERS]


def test_values_that_swap_their_rows_are_a_difference(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int, x text)")
    site.everywhere("INSERT INTO t VALUES (1, 'a'), (2, 'b')", at=("source", "eu"))
    site.do("us", "INSERT INTO t VALUES (1, 'b'), (2, 'a')")
    assert verdicts(site) == [EQUAL, DIFFERS]


def test_empty_tables_are_equal(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int)")
    assert held(verify(site.transfer())) == [("eu", 0, 0, EQUAL), ("us", 0, 0, EQUAL)]


WORDS = st.none() | st.text(st.sampled_from("ab,\"\\() \n'{}é"), max_size=4)
ROWS = st.lists(
    st.tuples(
        WORDS,
        st.none() | st.integers(-2, 2),
        st.none() | st.lists(WORDS, max_size=2),
        st.none() | st.sampled_from([Decimal("NaN"), Decimal("1.0"), Decimal("1.00"), Decimal(1)]),
        WORDS,
    ),
    min_size=1,
    max_size=6,
)
TYPES = ("text", "int4", "text[]", "numeric", "text")


@pytest.fixture(scope="module")
def session(server: servers.Server) -> Iterator[Connection]:
    with server.connect(autocommit=False) as connection:
        begin(connection)
        yield connection


def digest(connection: Connection, rows: list[tuple[Any, ...]]) -> Digest:
    row = sql.SQL("({})").format(
        sql.SQL(", ").join(sql.SQL(f"%s::pg_catalog.{type_}") for type_ in TYPES)
    )
    names = [f"c{number}" for number in range(len(TYPES))]
    query = sql.SQL("SELECT {} FROM (VALUES {}) AS t ({})").format(
        digest_of([Form(name) for name in names]),
        sql.SQL(", ").join([row] * len(rows)),
        sql.SQL(", ").join(map(sql.Identifier, names)),
    )
    cursor = psycopg.ClientCursor(connection)
    literal = cursor.mogrify(query, [value for each in rows for value in each])
    return compute(connection, sql.Composed([sql.SQL(literal)]))


@pytest.mark.slow
@given(rows=ROWS, data=st.data())
@settings(max_examples=300, deadline=None)
def test_order_is_nothing_and_one_cell_is_everything(
    session: Connection, rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    whole = digest(session, rows)
    assert digest(session, data.draw(st.permutations(rows))) == whole
    number = data.draw(st.integers(0, len(rows) - 1))
    other = data.draw(ROWS.map(lambda drawn: drawn[0]))
    column = data.draw(st.integers(0, len(TYPES) - 1))
    before = rows[number]
    after = (*before[:column], other[column], *before[column + 1 :])
    changed = [*rows[:number], after, *rows[number + 1 :]]
    is_same = repr(before[column]) == repr(after[column])
    assert (digest(session, changed) == whole) is is_same
    assert digest(session, [*rows, before]) != whole


# -- types ----------------------------------------------------------------------------------------


def test_every_family_of_types_comes_out_equal(site: Fanout) -> None:
    site.everywhere(
        "CREATE TYPE mood AS ENUM ('so so', 'ok'); CREATE TYPE pair AS (a int, b text);"
        " CREATE DOMAIN positive AS numeric(8, 2) CHECK (value > 0);"
        ' CREATE TABLE t (a bool, b "char", c char(5), d varchar(9), e name, f bytea, g date,'
        " h timestamptz, i interval, j timetz, k float4, l money, m inet, n cidr, o macaddr,"
        " p bit(3), q varbit, r uuid, s xml, t json, u jsonb, v tsvector, w tsquery, x int4range,"
        " y point, z polygon, aa mood, ab pair, ac pair[], ad positive, ae mood[], af regclass,"
        " ag pg_lsn, ah oid, ai jsonpath, aj numrange[], ak circle)"
    )
    values = (
        "INSERT INTO t VALUES (true, 'x', 'ab', 'cd', 'n', '\\xdead', '0044-03-15 BC',"
        " '2024-06-01 12:00+02', '1 mon -2 days 03:00', '10:00+02', 0.1, '12.34', '1.2.3.4/32',"
        " '10.0.0.0/8', '08:00:2b:01:02:03', B'101', B'1', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',"
        " '<a>é</a>', '{\"a\":  1}', '{\"b\": 1.0}', 'a:1 b:2', 'a & b', '[1,5)', '(1,-0)',"
        " '((0,0),(1,1))', 'so so', '(1,)', ARRAY['(1,\"a,b\")', NULL]::pair[], 1, '{ok,\"so so\"}',"
        " 'public.t', '0/16B', 4000000000, '$.a', '{\"[1,2.0)\"}', '<(0,0),1e-7>')"
    )
    site.everywhere(values)
    site.everywhere("INSERT INTO t DEFAULT VALUES")
    assert held(verify(site.transfer())) == [("eu", 2, 2, EQUAL), ("us", 2, 2, EQUAL)]


def test_sessions_settings_make_no_difference(site: Fanout) -> None:
    site.everywhere(
        "CREATE TABLE t (a timestamptz, b interval, c float8, d bytea, e money, f regclass);"
        " INSERT INTO t VALUES ('2024-06-01', '1 year 2 days', 0.1, '\\x00ff', '1.5', 't')"
    )
    for setting in (
        "TimeZone = 'Asia/Tokyo'",
        "DateStyle = 'German'",
        "IntervalStyle = 'iso_8601'",
        "extra_float_digits = -3",
        "bytea_output = 'escape'",
        "search_path = ''",
    ):
        name = site.databases["us"]
        site.do("us", f"ALTER DATABASE {name} SET {setting}")
    assert verdicts(site) == [EQUAL, EQUAL]


@pytest.mark.parametrize(
    ("given_type", "stored_type", "value", "other"),
    [
        ("int4", "int8", "7", "8"),
        ("numeric", "numeric(10,2)", "1.005", "1.00"),
        ("numeric[]", "numeric(10,2)[]", "'{1,NULL}'", "'{2,NULL}'"),
        ("float4", "float8", "0.1", "0.2"),
        ("timestamptz", "timestamptz(0)", "'2024-01-01 00:00:00.7Z'", "'2024-01-01Z'"),
        ("timestamp", "timestamptz", "'2024-01-01 10:00'", "'2024-01-01 11:00Z'"),
        ("bool", "text", "true", "'true'"),
        ("inet", "text", "'1.2.3.4/32'", "'1.2.3.4/32'"),
        ("int4", "text", "1", "'01'"),
        ("json", "jsonb", '\'{"b":1,  "a":2}\'', "'{\"a\": 2}'"),
        ("char(3)", "char(5)", "'ab'", "'ac'"),
        ("varchar(9)", "char(5)", "'ab'", "'abc'"),
        ("text", "varchar(3)", "'abc'", "'abd'"),
        ("bit(3)", "varbit", "B'101'", "B'1010'"),
        ("interval", "interval(0)", "'1.6 s'", "'1 s'"),
        ("interval[]", "interval(1)[]", "'{1.66 s}'", "'{1.6 s}'"),
        (
            "text",
            "uuid",
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
            "'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        ),
        ("timetz", "timetz(0)", "'10:00:00.6+02'", "'10:00:00+02'"),
    ],
)
def test_a_value_counts_as_the_destinations_type_stores_it(
    site: Fanout, given_type: str, stored_type: str, value: str, other: str
) -> None:
    site.do("source", f"CREATE TABLE t (x {given_type})")
    site.everywhere(f"CREATE TABLE t (x {stored_type})", at=("eu", "us"))
    site.do("source", f"INSERT INTO t VALUES ({value}), (NULL)")
    assert site.run().verdict is Verdict.SUCCEEDED
    site.do("us", f"UPDATE t SET x = {other} WHERE x IS NOT NULL")
    assert verdicts(site) == [EQUAL, DIFFERS]


def test_what_does_not_fit_the_type_there_is_not_cut_off_to_look_equal(site: Fanout) -> None:
    site.do("source", "CREATE TABLE t (x text, y varbit)")
    site.do("eu", "CREATE TABLE t (x char(3), y bit(3))")
    site.do("us", "CREATE TABLE t (x varchar(3), y varbit(3))")
    site.do("source", "INSERT INTO t VALUES ('abcd', B'1011')")
    site.everywhere("INSERT INTO t VALUES ('abc', B'101')", at=("eu", "us"))
    assert verdicts(site) == [DIFFERS, DIFFERS]


def test_encodings_make_no_difference(site: Fanout, server: servers.Server) -> None:
    with server.database("LATIN1") as latin, server.database("SQL_ASCII") as ascii_:
        site.conninfos["eu"] = server.conninfo(latin)
        site.conninfos["us"] = server.conninfo(ascii_)
        site.everywhere("CREATE TABLE t (x text)")
        site.everywhere("INSERT INTO t VALUES ('é')")
        assert verdicts(site) == [EQUAL, EQUAL]


def test_types_of_other_names_and_composites_of_nothing_are_no_difference(site: Fanout) -> None:
    site.everywhere(
        "CREATE TYPE pair AS (a int, b text); CREATE TABLE t (x pair);"
        " INSERT INTO t VALUES ('(,)'), (NULL), ('(1,)')",
        at=("source", "us"),
    )
    site.do(
        "eu",
        "CREATE SCHEMA s; CREATE TYPE s.two AS (a int, b text); CREATE TABLE t (x s.two);"
        " INSERT INTO t VALUES (NULL), ('(1,)'), ('(,)')",
    )
    site.do("us", "UPDATE t SET x = NULL WHERE x::text = '(,)'")
    assert verdicts(site) == [EQUAL, DIFFERS]


# -- what is compared -----------------------------------------------------------------------------


def test_only_the_rows_and_columns_that_travel_are_compared(site: Fanout) -> None:
    site.everywhere(
        "CREATE TABLE t (i int, x text, doubled int GENERATED ALWAYS AS (i * 2) STORED)"
    )
    site.do("source", "INSERT INTO t VALUES (1, 'mine'), (5, 'mine'), (-1, 'mine')")
    site.everywhere("INSERT INTO t VALUES (1, 'theirs'), (5, 'theirs')", at=("eu", "us"))
    options = {"public.t": TableOptions(columns=("i",), where="i > 0 -- only these")}
    transfer = site.transfer(what=Tables(("public.t",), options))
    assert held(verify(transfer)) == [("eu", 2, 2, EQUAL), ("us", 2, 2, EQUAL)]
    assert verdicts(site) == [DIFFERS, DIFFERS]


def test_a_query_a_view_and_a_partitioned_table_are_compared(site: Fanout) -> None:
    site.everywhere(
        "CREATE TABLE t (i int) PARTITION BY RANGE (i);"
        " CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
        " CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20);"
        " INSERT INTO t VALUES (1), (11)"
    )
    site.do("source", "CREATE VIEW v AS SELECT * FROM t")
    site.everywhere("CREATE TABLE v AS SELECT * FROM t", at=("eu", "us"))
    site.do("us", "UPDATE t SET i = 12 WHERE i = 11")
    assert verdicts(site) == [EQUAL, DIFFERS]
    assert verdicts(site, "public.v") == [EQUAL, EQUAL]
    query = Query("SELECT i FROM t WHERE i < 11 -- all", "public.t1")
    assert verdicts(site, what=query) == [EQUAL, EQUAL]


def test_rows_of_inheritance_children_are_their_own_tables(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    site.everywhere(
        "CREATE TABLE child () INHERITS (t); INSERT INTO child VALUES (2)", at=("source", "eu")
    )
    assert verdicts(site) == [EQUAL, EQUAL]


def test_a_table_of_another_name_there_is_compared(site: Fanout) -> None:
    site.do("source", "CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    site.everywhere('CREATE TABLE "T 2" (i int); INSERT INTO "T 2" VALUES (1)', at=("eu", "us"))
    loading = Loading(tables={"public.t": 'public."T 2"'})
    comparison = verify(site.transfer(loading=loading))
    assert comparison.likeness is EQUAL
    assert (comparison.tables[0].table, comparison.tables[0].there) == ("public.t", 'public."T 2"')


def test_the_source_is_read_once_for_all_destinations(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    if site.value("source", "SELECT current_setting('server_version_num')::int < 150000"):
        pytest.skip("before PostgreSQL 15 nobody knows when the statistics are complete")
    assert verdicts(site) == [EQUAL, EQUAL]
    wait_until(site, IS_IDLE)
    assert site.value("source", "SELECT seq_scan FROM pg_stat_user_tables") == 1


# -- an append without a key ----------------------------------------------------------------------


def test_rows_that_an_append_without_a_key_still_waits_for_are_no_difference(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int)")
    site.do("source", "INSERT INTO t SELECT generate_series(1, 5)")
    transfer = site.transfer(loading=Loading(mode="append"))
    with psycopg.connect(site.conninfos["source"]) as writer:
        writer.execute("INSERT INTO t VALUES (6)")
        site.do("source", "INSERT INTO t VALUES (7)")
        assert run(transfer).verdict is Verdict.SUCCEEDED
        assert held(verify(transfer)) == [("eu", 5, 5, EQUAL), ("us", 5, 5, EQUAL)]
    assert held(verify(transfer)) == [("eu", 5, 5, EQUAL), ("us", 5, 5, EQUAL)]
    site.do("us", "UPDATE t SET i = 3 WHERE i = 4")
    assert verdicts(site, loading=Loading(mode="append")) == [EQUAL, DIFFERS]
    assert run(replace(transfer, replicas=transfer.replicas[:1])).verdict is Verdict.SUCCEEDED
    assert held(verify(transfer)) == [("eu", 7, 7, EQUAL), ("us", 5, 5, DIFFERS)]


def test_a_table_that_no_run_has_appended_to_is_compared_as_a_whole(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    site.do("us", "DELETE FROM t")
    assert verdicts(site, loading=Loading(mode="append")) == [EQUAL, DIFFERS]


def test_a_rewritten_source_cannot_be_compared_without_a_key(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int)")
    site.do("source", "INSERT INTO t VALUES (1)")
    transfer = site.transfer(loading=Loading(mode="append"))
    assert run(transfer).verdict is Verdict.SUCCEEDED
    site.do("source", "ALTER TABLE t ALTER i TYPE bigint")
    comparison = verify(transfer)
    assert comparison.likeness is UNKNOWN
    assert "run copyd once books --full" in (comparison.tables[0].reason or "")


def test_a_ledger_that_others_could_have_planted_is_not_read(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    site.do(
        "us",
        "CREATE SCHEMA copyd; CREATE TABLE planted (i int); CREATE FUNCTION f() RETURNS int"
        " LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''s''); RETURN 1; END'; CREATE SEQUENCE s;"
        " CREATE VIEW copyd.ledger AS SELECT f() AS relation, 'a' AS schema, 'b' AS name",
    )
    comparison = verify(site.transfer(loading=Loading(mode="append")))
    assert [each.likeness for each in comparison.tables] == [EQUAL, UNKNOWN]
    assert "cannot be the ledger" in (comparison.tables[1].reason or "")


# -- what cannot be compared ----------------------------------------------------------------------


def test_an_unreachable_destination_is_not_compared_and_the_others_are(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    transfer = site.transfer()
    transfer = replace(transfer, replicas=(Replica(NOBODY), *transfer.replicas))
    comparison = verify(transfer)
    assert [each.likeness for each in comparison.tables] == [UNKNOWN, EQUAL, EQUAL]
    assert "cannot connect to nobody" in (comparison.tables[0].reason or "")
    assert comparison.likeness is UNKNOWN
    assert comparison.likeness_at("eu") is EQUAL


def test_a_difference_counts_more_than_what_could_not_be_compared(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    site.do("us", "DELETE FROM t")
    site.do("eu", "DROP TABLE t")
    comparison = verify(site.transfer())
    assert [each.likeness for each in comparison.tables] == [UNKNOWN, DIFFERS]
    assert comparison.likeness is DIFFERS
    assert comparison.tables[0].reason == "there is no table public.t"


def test_one_table_that_cannot_be_read_leaves_the_others_compared(site: Fanout) -> None:
    site.everywhere(
        "CREATE TABLE t (i int); CREATE TABLE u (i int, x text); CREATE TABLE w (i int)"
    )
    site.do("us", "ALTER TABLE u DROP x")
    with psycopg.connect(site.conninfos["eu"]) as locker:
        locker.execute("LOCK TABLE u IN ACCESS EXCLUSIVE MODE")
        transfer = site.transfer("public.t", "public.u", "public.w", lock_timeout=0.05)
        tables = verify(transfer).tables
    assert [each.likeness for each in tables] == [EQUAL, UNKNOWN, EQUAL] * 2
    assert [tables[1].reason, tables[4].reason] == [
        "canceling statement due to lock timeout",
        "table public.u has no column x",
    ]
    assert [tables[1].source_rows, tables[1].rows] == [0, None]


def test_an_error_of_a_value_shows_no_value(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (x text); CREATE TABLE u (i int)")
    site.everywhere("ALTER TABLE t ALTER x TYPE date USING NULL", at=("eu", "us"))
    site.do("source", "INSERT INTO t VALUES ('SECRET-MARKER')")
    comparison = verify(site.transfer("public.t", "public.u"))
    assert [each.likeness for each in comparison.tables] == [UNKNOWN, EQUAL] * 2
    assert "SECRET" not in repr(comparison)
    assert (comparison.tables[0].reason or "").startswith("the source: 22007")


def test_rows_that_a_policy_hides_are_not_taken_for_missing(site: Fanout) -> None:
    name = f"reader_{os.getpid()}"
    site.do("source", f"CREATE ROLE {name} LOGIN")
    try:
        site.everywhere("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
        site.everywhere(f"ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO {name}")
        conninfo = make_conninfo(site.conninfos["us"], options=f"-c role={name}")
        transfer = replace(site.transfer(), replicas=(Replica(Server("us", conninfo)),))
        (compared,) = verify(transfer).tables
        assert compared.likeness is UNKNOWN
        assert "row-level security" in (compared.reason or "")
    finally:
        site.everywhere(f"DROP OWNED BY {name}")
        site.do("source", f"DROP ROLE {name}")


def test_select_is_all_that_it_needs(site: Fanout) -> None:
    name = f"looker_{os.getpid()}"
    site.do("source", f"CREATE ROLE {name} LOGIN")
    try:
        site.everywhere("CREATE TABLE t (i int, x text); INSERT INTO t VALUES (1)")
        site.everywhere(f"GRANT SELECT ON t TO {name}")
        for place in site.conninfos:
            database = site.databases[place]
            site.do(place, f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        as_looker = {
            place: make_conninfo(conninfo, options=f"-c role={name}")
            for place, conninfo in site.conninfos.items()
        }
        assert verdicts(site, conninfos=as_looker) == [EQUAL, EQUAL]
    finally:
        site.everywhere(f"DROP OWNED BY {name}")
        site.do("source", f"DROP ROLE {name}")


def test_names_of_objects_that_depend_on_a_search_path_are_refused(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (x regclass); INSERT INTO t VALUES ('t')")
    options = {"public.t": TableOptions(where="x IS NOT NULL")}
    comparison = verify(site.transfer(what=Tables(("public.t",), options)))
    assert comparison.likeness is UNKNOWN
    assert (comparison.tables[0].reason or "").startswith("column x names objects")
    assert verdicts(site) == [EQUAL, EQUAL]


def test_a_source_that_cannot_be_read_is_the_cause(site: Fanout) -> None:
    comparison = verify(site.transfer("public.missing"))
    assert (comparison.likeness, comparison.tables) == (UNKNOWN, ())
    assert (comparison.cause or "").startswith("source source: ")
    comparison = verify(replace(site.transfer(), source=NOBODY))
    assert "cannot connect to nobody" in (comparison.cause or "")


def test_a_destination_cannot_put_sql_into_the_source(site: Fanout) -> None:
    """A type there is named so that it would be SQL elsewhere."""
    site.everywhere("CREATE TABLE t (x int); CREATE TABLE victim (i int); INSERT INTO t VALUES (1)")
    hostile = "numeric(1); DROP TABLE victim; --"
    site.do("us", f'CREATE DOMAIN "{hostile}" AS numeric')
    site.do("us", f'ALTER TABLE t ALTER x TYPE "{hostile}"')
    assert verdicts(site) == [EQUAL, EQUAL]
    assert verdicts(site, "public.victim") == [EQUAL, EQUAL]


@pytest.mark.usefixtures("no_leaks")
def test_an_interrupt_stops_what_the_servers_do(site: Fanout) -> None:
    site.everywhere("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    site.do("source", "CREATE TABLE v (i int)")
    site.everywhere("CREATE VIEW v AS SELECT i FROM t, pg_sleep(600)", at=("eu", "us"))

    def interrupt() -> None:
        try:
            wait_until(site, ARE_BUSY)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            verify(site.transfer("public.v"))
    finally:
        thread.join()
    wait_until(site, IS_IDLE)
