"""Tables as they are found in a catalog."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from psycopg.errors import RaiseException

from copyd.catalog.keys import ForeignKey, Key, foreign_keys
from copyd.catalog.relations import (
    Column,
    find_tables,
    look_up,
    look_up_all,
    query_columns,
)
from copyd.errors import CopydError
from copyd.names import Pattern, TableName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.connection import Connection
    from tests.support.servers import Server

EQUAL = "OPERATOR(pg_catalog.=)"


@pytest.fixture(scope="module")
def own_database(server: Server) -> Iterator[str]:
    with server.database() as name:
        yield name


@pytest.fixture
def connection(server: Server, own_database: str) -> Iterator[Connection]:
    """A connection in a transaction that is never committed."""
    with closing(server.connect(own_database, autocommit=False)) as opened:
        yield opened


@pytest.fixture(params=["pg_catalog, pg_temp", '"$user", public'])
def any_path(connection: Connection, request: pytest.FixtureRequest) -> Connection:
    """A connection with the search path of our statements, and one with a role's own."""
    connection.execute("SELECT set_config('search_path', %s, false)", [request.param])
    return connection


def found(connection: Connection, *patterns: str, without: tuple[str, ...] = ()) -> list[str]:
    parsed = [Pattern.parse(pattern) for pattern in patterns]
    return [relation.label for relation in find_tables(connection, parsed, without=without)]


def column(connection: Connection, name: str, table: str = "public.t") -> Column:
    return next(each for each in look_up(connection, table).columns if each.name == name)


def test_a_table_is_described(any_path: Connection) -> None:
    any_path.execute('CREATE TABLE public."My Order" ("Id" int PRIMARY KEY, note text)')
    relation = look_up(any_path, 'public."My Order"')
    assert (relation.schema, relation.name, relation.kind) == ("public", "My Order", "r")
    assert relation.label == 'public."My Order"'
    assert relation.persistence == "p"
    assert relation.is_table
    assert relation.is_lockable
    assert relation.filenode is not None
    assert [(each.name, each.type) for each in relation.columns] == [
        ("Id", "integer"),
        ("note", "text"),
    ]
    assert relation.keys == (Key(("Id",), (EQUAL,), is_primary=True),)


def test_a_rewritten_table_has_another_filenode(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (i int)")
    before = look_up(connection, "t").filenode
    connection.execute("ALTER TABLE t ALTER i TYPE bigint")
    assert look_up(connection, "t").filenode not in (before, None)


def test_what_stores_nothing_has_no_filenode(connection: Connection) -> None:
    connection.execute("CREATE VIEW v AS SELECT 1 AS i")
    connection.execute("CREATE TABLE p (i int) PARTITION BY LIST (i)")
    relations = look_up_all(connection, ["p", "v"])
    assert [relation.kind for relation in relations] == ["p", "v"]
    assert [relation.filenode for relation in relations] == [None, None]
    assert [relation.is_table for relation in relations] == [False, False]


def test_persistence_is_told(connection: Connection) -> None:
    connection.execute("CREATE UNLOGGED TABLE u (i int)")
    connection.execute("CREATE TEMPORARY TABLE t (i int)")
    relations = look_up_all(connection, ["t", "u"])
    assert [relation.persistence for relation in relations] == ["t", "u"]


def test_a_parent_is_a_table_whose_children_are_others(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (i int)")
    connection.execute("CREATE TABLE child () INHERITS (t)")
    relation = look_up(connection, "t")
    assert relation.is_table
    assert found(connection, "public.*") == ["public.child", "public.t"]


def test_rows_are_estimated_once_analyzed(connection: Connection) -> None:
    connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    assert look_up(connection, "t").estimated_rows is None
    connection.execute("ANALYZE t")
    assert look_up(connection, "t").estimated_rows == 1000


def test_several_tables_are_looked_up_in_their_order(connection: Connection) -> None:
    connection.execute("CREATE TABLE a (i int)")
    connection.execute("CREATE TABLE b (i int)")
    names = [relation.name for relation in look_up_all(connection, ["b", "public.a", "b"])]
    assert names == ["b", "a", "b"]


@pytest.mark.parametrize("name", ["nowhere.t", "t", "i_pkey", "s"])
def test_what_is_no_table_is_refused(connection: Connection, name: str) -> None:
    connection.execute("CREATE TABLE i (i int PRIMARY KEY)")
    connection.execute("CREATE SEQUENCE s")
    with pytest.raises(CopydError, match=f"^there is no table {name}$"):
        look_up(connection, name)


@pytest.mark.parametrize("name", ["", "  ", 'public."x', "a.b.c.d"])
def test_what_is_no_name_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(CopydError, match=r"is no table name|there is no table"):
        look_up(connection, name)


@pytest.mark.parametrize("name", ["", 'public."x', "a.b.c.d", "a..b", "a b"])
def test_what_is_no_name_is_told_from_the_names_beside_it(
    connection: Connection, name: str
) -> None:
    connection.execute('CREATE TABLE public."a ""b.c" (i int)')
    names = ['public."a ""b.c"', " public . nowhere ", name, "public.t"]
    # From 16 on the server says of most of what is no name that it is not there.
    is_told = connection.info.server_version < 160_000 or name in ("", "a.b.c.d")
    said = f"{name!r} is no table name" if is_told else "there is no table  public . nowhere "
    with pytest.raises(CopydError, match=f"^{re.escape(said)}"):
        look_up_all(connection, names)


def test_dropped_columns_are_gone(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (a int, b int, c int)")
    connection.execute("ALTER TABLE t DROP b")
    assert [each.name for each in look_up(connection, "t").columns] == ["a", "c"]


def test_what_must_be_given_is_told_from_what_fills_itself(any_path: Connection) -> None:
    any_path.execute("CREATE DOMAIN public.zero AS int DEFAULT 0")
    any_path.execute("CREATE DOMAIN public.plain AS int")
    any_path.execute(
        """CREATE TABLE public.t (
             optional int, required int NOT NULL, filled int NOT NULL DEFAULT 1,
             always int GENERATED ALWAYS AS IDENTITY, sometimes int GENERATED BY DEFAULT AS IDENTITY,
             computed int NOT NULL GENERATED ALWAYS AS (optional + 1) STORED,
             zeroed public.zero NOT NULL, needed public.plain NOT NULL)"""
    )
    columns = look_up(any_path, "public.t").columns
    assert [each.name for each in columns if each.is_required] == ["required", "needed"]
    assert [each.name for each in columns if each.is_generated] == ["computed"]
    assert {each.name: each.identity for each in columns if each.identity} == {
        "always": "a",
        "sometimes": "d",
    }


def test_virtual_columns_are_generated(connection: Connection) -> None:
    if connection.info.server_version < 180_000:
        pytest.skip("PostgreSQL has none before 18")
    connection.execute("CREATE TABLE t (i int, twice int GENERATED ALWAYS AS (i * 2) VIRTUAL)")
    assert column(connection, "twice").is_generated


def test_types_are_named_whatever_the_search_path(any_path: Connection) -> None:
    any_path.execute("CREATE TYPE public.shade AS ENUM ('a')")
    any_path.execute('CREATE SCHEMA "My"')
    any_path.execute('CREATE DOMAIN "My"."Sum" AS numeric(9,2)')
    any_path.execute(
        """CREATE TABLE public.t (
             a public.shade, b public.shade[], c "My"."Sum", d "My"."Sum"[], e numeric(5,2),
             f varchar(3)[], g timestamp(3) with time zone, h "char", i int2vector, j bit(3))"""
    )
    assert [each.type for each in look_up(any_path, "public.t").columns] == [
        "public.shade", "public.shade[]", '"My"."Sum"', '"My"."Sum"[]', "numeric(5,2)",
        "character varying(3)[]", "timestamp(3) with time zone", '"char"', "int2vector", "bit(3)",
    ]  # fmt: skip


def test_only_what_tells_rows_apart_is_a_key(any_path: Connection) -> None:
    any_path.execute(
        """CREATE TABLE public.t (
             a int NOT NULL, b int NOT NULL, c int, d text NOT NULL, e int NOT NULL, f text NOT NULL,
             UNIQUE (b, a), UNIQUE (c), UNIQUE (e) DEFERRABLE, PRIMARY KEY (d, a),
             EXCLUDE (e WITH =))"""
    )
    any_path.execute("CREATE UNIQUE INDEX ON public.t (b) WHERE a > 0")
    any_path.execute("CREATE UNIQUE INDEX ON public.t ((a + b))")
    any_path.execute("CREATE INDEX ON public.t (a)")
    any_path.execute('CREATE UNIQUE INDEX ON public.t (f COLLATE "C")')
    any_path.execute("CREATE UNIQUE INDEX one ON public.t (e) INCLUDE (c)")
    assert look_up(any_path, "public.t").keys == (
        Key(("d", "a"), (EQUAL, EQUAL), is_primary=True),
        Key(("e",), (EQUAL,)),
        Key(("b", "a"), (EQUAL, EQUAL)),
    )


def test_the_key_of_a_partitioned_table_is_its_own(connection: Connection) -> None:
    connection.execute("CREATE TABLE p (i int PRIMARY KEY) PARTITION BY LIST (i)")
    connection.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
    keys = [relation.keys for relation in look_up_all(connection, ["p", "p1"])]
    assert keys == [(Key(("i",), (EQUAL,), is_primary=True),)] * 2


def test_not_null_that_was_never_checked_makes_no_key(connection: Connection) -> None:
    if connection.info.server_version < 180_000:
        pytest.skip("PostgreSQL checks NOT NULL at once before 18")
    connection.execute("CREATE TABLE t (a int UNIQUE)")
    connection.execute("ALTER TABLE t ADD CONSTRAINT n NOT NULL a NOT VALID")
    assert look_up(connection, "t").keys == ()
    connection.execute("ALTER TABLE t VALIDATE CONSTRAINT n")
    assert look_up(connection, "t").keys == (Key(("a",), (EQUAL,)),)


def test_a_key_goes_by_the_operator_of_its_index(connection: Connection) -> None:
    connection.execute('CREATE SCHEMA "My"')
    for sign, name in [("<", "lt"), ("<=", "le"), ("==", "eq"), (">=", "ge"), (">", "gt")]:
        connection.execute(
            f'CREATE OPERATOR "My".{sign} (LEFTARG = int, RIGHTARG = int, FUNCTION = int4{name})'
        )
    connection.execute(
        """CREATE OPERATOR CLASS "My".whole FOR TYPE int USING btree AS
             OPERATOR 1 "My".<, OPERATOR 2 "My".<=, OPERATOR 3 "My".==, OPERATOR 4 "My".>=,
             OPERATOR 5 "My".>, FUNCTION 1 btint4cmp(int, int)"""
    )
    connection.execute("CREATE TABLE t (i int NOT NULL)")
    connection.execute('CREATE UNIQUE INDEX ON t (i "My".whole)')
    assert look_up(connection, "t").keys == (Key(("i",), ('OPERATOR("My".==)',)),)


@pytest.fixture
def shop(connection: Connection) -> Connection:
    """Two schemas, partitions of partitions, and what no wildcard takes."""
    connection.execute(
        """CREATE SCHEMA sales; CREATE SCHEMA "Old.Sales"; CREATE SCHEMA copyd;
        CREATE TABLE sales.orders (i int); CREATE TABLE sales."Order" (i int);
        CREATE TABLE "Old.Sales"."a*" (i int); CREATE TABLE copyd.ledger (i int);
        CREATE UNLOGGED TABLE sales.quick (i int); CREATE TEMPORARY TABLE passing (i int);
        CREATE VIEW sales.v AS SELECT 1 AS i; CREATE MATERIALIZED VIEW sales.m AS SELECT 1 AS i;
        CREATE TABLE sales.p (i int, j int) PARTITION BY LIST (i);
        CREATE TABLE sales.p1 PARTITION OF sales.p FOR VALUES IN (1) PARTITION BY LIST (j);
        CREATE TABLE sales.a11 PARTITION OF sales.p1 FOR VALUES IN (1);
        CREATE TABLE sales.p2 PARTITION OF sales.p FOR VALUES IN (2)"""
    )
    return connection


def test_a_wildcard_takes_tables_and_roots_but_no_partitions(shop: Connection) -> None:
    expected = ['sales."Order"', "sales.orders", "sales.p", "sales.quick"]
    assert found(shop, "sales.*") == expected
    assert found(shop, "sales.*", "sales.orders", "sales.o*", "sales.p?") == expected


def test_a_wildcard_takes_partitions_whose_root_is_not_taken(shop: Connection) -> None:
    assert found(shop, "sales.p?") == ["sales.p1", "sales.p2"]
    assert found(shop, "sales.a*", "sales.p2") == ["sales.a11", "sales.p2"]


def test_a_wildcard_takes_nothing_of_the_system_and_of_left_out_schemas(shop: Connection) -> None:
    tables = [
        '"Old.Sales"."a*"', 'sales."Order"', "sales.orders", "sales.p", "sales.quick",
    ]  # fmt: skip
    assert found(shop, "*.*", without=("copyd",)) == tables
    assert found(shop, "*.*") == [tables[0], "copyd.ledger", *tables[1:]]
    for pattern in ("pg_*.*", "information_schema.*"):
        with pytest.raises(CopydError, match=r"^no table matches "):
            found(shop, pattern)


def test_exact_names_take_whatever_holds_rows(shop: Connection) -> None:
    names = ['"Old.Sales"."a*"', 'sales."Order"', "sales.m", "sales.v"]
    assert found(shop, *reversed(names), "sales.v") == names


def test_found_tables_are_described(shop: Connection) -> None:
    (relation,) = find_tables(shop, [Pattern.parse("sales.p*")])
    assert relation == look_up(shop, "sales.p")


@pytest.mark.parametrize("name", ["sales.nothing", "sales.Orders.x", 'sales."Orders"'])
def test_an_exact_name_must_exist(shop: Connection, name: str) -> None:
    with pytest.raises(CopydError):
        found(shop, "sales.*", name)


def test_a_wildcard_must_match(shop: Connection) -> None:
    with pytest.raises(CopydError, match=r"^no table matches sales\.z\*$"):
        found(shop, "sales.*", "sales.z*")


def test_views_match_no_wildcard(shop: Connection) -> None:
    with pytest.raises(CopydError, match=r"^no table matches"):
        found(shop, "sales.v*")


@pytest.mark.parametrize("partition", ["p2", "a11"])
def test_a_partition_is_not_named_beside_its_root(shop: Connection, partition: str) -> None:
    with pytest.raises(CopydError, match=rf"^sales\.{partition} is a partition of sales\.p, which"):
        found(shop, "sales.*", f"sales.{partition}")


def keys_of(connection: Connection, *names: str) -> list[tuple[str, str, str]]:
    oids = [relation.oid for relation in look_up_all(connection, names)]
    found = foreign_keys(connection, oids)
    return [(key.referencing_table, label(connection, key.referenced), key.action) for key in found]


def label(connection: Connection, oid: int) -> str:
    of_class = (
        "SELECT relnamespace::regnamespace::text, relname FROM pg_catalog.pg_class WHERE oid = %s"
    )
    row = connection.execute(of_class, [oid]).fetchone()
    assert row is not None
    return str(TableName(*row))


def test_foreign_keys_lead_from_and_to_tables(any_path: Connection) -> None:
    any_path.execute(
        """CREATE TABLE public."A" (i int PRIMARY KEY);
        CREATE TABLE public.b (i int PRIMARY KEY REFERENCES public."A" ON DELETE CASCADE);
        CREATE TABLE public.c (i int CONSTRAINT up REFERENCES public.b ON DELETE SET NULL
                                 DEFERRABLE);
        CREATE TABLE public.d (i int PRIMARY KEY REFERENCES public.d)"""
    )
    b, c = look_up_all(any_path, ["public.b", "public.c"])
    assert foreign_keys(any_path, [c.oid]) == (
        ForeignKey(c.oid, b.oid, "n", True, "up", "public.c"),
    )
    assert keys_of(any_path, "public.b") == [
        ("public.b", 'public."A"', "c"),
        ("public.c", "public.b", "n"),
    ]
    assert keys_of(any_path, "public.d") == [("public.d", "public.d", "a")]
    assert foreign_keys(any_path, []) == ()


def test_foreign_keys_of_partitions_count_as_those_of_the_root(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE a (i int PRIMARY KEY);
        CREATE TABLE p (i int PRIMARY KEY REFERENCES a) PARTITION BY LIST (i);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
        CREATE TABLE p2 (i int NOT NULL UNIQUE, CHECK (i = 2));
        CREATE TABLE own (i int PRIMARY KEY);
        ALTER TABLE p2 ADD FOREIGN KEY (i) REFERENCES own;
        ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2);
        CREATE TABLE x (i int REFERENCES p ON DELETE CASCADE);
        CREATE TABLE y (i int REFERENCES p1 ON DELETE CASCADE)"""
    )
    expected = [
        ("public.p", "public.a", "a"),
        ("public.p", "public.own", "a"),
        ("public.x", "public.p", "c"),
        ("public.y", "public.p", "c"),
    ]
    assert sorted(keys_of(connection, "p")) == expected
    assert sorted(keys_of(connection, "p", "x", "y", "a")) == expected
    assert ("public.x", "public.p1", "c") in keys_of(connection, "p1")


def test_foreign_keys_that_are_not_enforced_count_for_nothing(connection: Connection) -> None:
    if connection.info.server_version < 180_000:
        pytest.skip("PostgreSQL enforces all before 18")
    connection.execute("CREATE TABLE a (i int PRIMARY KEY)")
    connection.execute("CREATE TABLE b (i int REFERENCES a ON DELETE CASCADE NOT ENFORCED)")
    assert keys_of(connection, "a", "b") == []


def test_the_columns_of_a_query_are_described(any_path: Connection) -> None:
    any_path.execute("CREATE TYPE public.shade AS ENUM ('a')")
    columns = query_columns(
        any_path,
        "SELECT 1 AS a, 'x'::varchar(3) AS \"B\", '{a}'::public.shade[] AS c, 'pg_class'::regclass",
    )
    assert [(each.name, each.type, each.signature) for each in columns] == [
        ("a", "integer", "int4"),
        ("B", "character varying(3)", "varchar"),
        ("c", "public.shade[]", 'enum("a")[]'),
        ("regclass", "regclass", "regclass"),
    ]
    assert [each.binary_refusal is None for each in columns] == [True, True, True, False]
    assert [each.is_user_compound for each in columns] == [False, False, True, False]


def test_a_query_names_each_column_once(connection: Connection) -> None:
    with pytest.raises(CopydError, match=r"^the query has two columns named a"):
        query_columns(connection, "SELECT 1 AS a, 2 AS a")


def plant_operators(connection: Connection) -> None:
    """Create =, <> and > for all pairs of types that a catalog query may compare."""
    kinds = ["oid", "int", "bigint", "smallint", '"char"', "name", "text", "real", "float8"]
    for left in kinds:
        for right in kinds:
            connection.execute(
                f"CREATE FUNCTION trap({left}, {right}) RETURNS bool LANGUAGE plpgsql"
                " AS 'BEGIN RAISE EXCEPTION ''trapped''; END'"
            )
            for sign in ("=", "<>", ">"):
                arguments = f"LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = trap"
                connection.execute(f"CREATE OPERATOR {sign} ({arguments})")


def test_operators_that_somebody_planted_are_not_used(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (i int PRIMARY KEY REFERENCES t, e text)")
    connection.execute("ANALYZE t")
    plant_operators(connection)
    with pytest.raises(RaiseException, match="trapped"), connection.transaction():
        connection.execute("SELECT FROM pg_class WHERE oid > 0")
    relation = look_up(connection, "t")
    assert find_tables(connection, [Pattern.parse("public.*")]) == (relation,)
    assert len(foreign_keys(connection, [relation.oid])) == 1
    assert len(query_columns(connection, "TABLE t")) == 2
