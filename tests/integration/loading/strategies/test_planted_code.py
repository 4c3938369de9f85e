"""Operators, functions and casts of others are not used."""

from __future__ import annotations

from copyd.loading import strategies
from copyd.loading.strategies import Applied
from tests.support.loaded_tables import FAMILIES, LoadedTables, result_of

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


def test_operators_functions_and_casts_of_others_are_not_used(tables: LoadedTables) -> None:
    tables.make(FAMILIES)
    for table in ("here", "there"):
        tables.make(f"CREATE TABLE {table} (id int, p pair, v text, PRIMARY KEY (id, p))")
    tables.make(
        "INSERT INTO here VALUES (1, '(1,a)', 'a'), (2, '(1,a)', 'b');"
        "INSERT INTO there VALUES (1, '(1,a)', ''), (3, '(1,a)', 'gone')"
    )
    target = tables.target()
    tables.make(PLANTED)
    tables.stage(target, keys=True)
    # Whatever the path is: the role's own may hold a schema that others write to.
    tables.here.execute("SET LOCAL search_path = public, pg_catalog")
    assert result_of(tables.here, strategies.missed(target, "id"), bound=2) == 1
    assert strategies.apply(tables.here, strategies.merge(target)) == Applied(1, 1)
    assert result_of(tables.here, *strategies.remove_missing(target)) == 1
    assert result_of(tables.here, strategies.count(target)) == 2
    tables.here.commit()
    assert tables.admin.execute("SELECT is_called FROM ran").fetchone() == (False,)
    assert tables.rows("there", "id") == tables.rows("here", "id")
