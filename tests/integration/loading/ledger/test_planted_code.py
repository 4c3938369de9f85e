"""A ledger that others have prepared or may change is refused, and never runs as us."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from copyd.errors import CopydError
from copyd.loading.ledger import Ledger
from tests.support.ledger_database import ORDERS, LedgerDatabase, claim, ledger_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.connection import Connection
    from tests.support.servers import Server

# What planted code does; a sequence keeps its number when the transaction is rolled back.
PLANT = """
CREATE SEQUENCE public.ran;
CREATE FUNCTION public.ran() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('public.ran') $$;
CREATE FUNCTION public.ran(anything text) RETURNS text IMMUTABLE LANGUAGE plpgsql
    AS $$ BEGIN PERFORM nextval('public.ran'); RETURN anything; END $$;
CREATE FUNCTION public.is_run(anything text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql
    AS $$ BEGIN PERFORM nextval('public.ran'); RETURN true; END $$;
CREATE FUNCTION public.trigger() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM nextval('public.ran'); RETURN NEW; END $$;
"""

TRIGGER = (
    "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON copyd.ledger"
    " FOR EACH ROW EXECUTE FUNCTION public.trigger()"
)

PLANTED = {
    "trigger": (TRIGGER, "trigger"),
    "rule": (
        "CREATE RULE r AS ON INSERT TO copyd.ledger DO ALSO SELECT public.ran()",
        "a rule",
    ),
    "policy": (
        (
            "ALTER TABLE copyd.ledger ENABLE ROW LEVEL SECURITY;"
            " ALTER TABLE copyd.ledger FORCE ROW LEVEL SECURITY;"
            " CREATE POLICY p ON copyd.ledger USING (public.is_run(schema))"
        ),
        "row security",
    ),
    "default": (
        "ALTER TABLE copyd.ledger ALTER COLUMN previous_run SET DEFAULT public.ran('x')",
        "previous_run pg_catalog.text DEFAULT",
    ),
    "generated column": (
        (
            "ALTER TABLE copyd.ledger DROP COLUMN previous_run;"
            " ALTER TABLE copyd.ledger ADD COLUMN previous_run text"
            " GENERATED ALWAYS AS (public.ran(schema)) STORED"
        ),
        "previous_run pg_catalog.text DEFAULT",
    ),
    "check": (
        "ALTER TABLE copyd.ledger ADD CONSTRAINT c CHECK (public.is_run(schema))",
        "a constraint",
    ),
    "domain": (
        (
            "CREATE DOMAIN public.text AS pg_catalog.text CHECK (public.is_run(VALUE));"
            " ALTER TABLE copyd.ledger ALTER COLUMN schema TYPE public.text"
        ),
        "schema public.text",
    ),
    "expression index": (
        "CREATE INDEX ON copyd.ledger (public.ran(schema))",
        "index",
    ),
    "partial index": (
        "CREATE INDEX ON copyd.ledger (schema) WHERE public.is_run(schema)",
        "index",
    ),
    "extra column": (
        "ALTER TABLE copyd.ledger ADD COLUMN extra text DEFAULT public.ran('x')",
        "extra pg_catalog.text DEFAULT",
    ),
    "child": (
        (
            "CREATE TABLE public.child () INHERITS (copyd.ledger);"
            " CREATE TRIGGER t BEFORE UPDATE ON public.child"
            " FOR EACH ROW EXECUTE FUNCTION public.trigger()"
        ),
        "has children",
    ),
    "parent": (
        (
            "CREATE TABLE public.parent (run text DEFAULT public.ran('x'));"
            " ALTER TABLE copyd.ledger INHERIT public.parent"
        ),
        "inherits",
    ),
    "view": (
        (
            "ALTER TABLE copyd.ledger RENAME TO kept;"
            " CREATE VIEW copyd.ledger AS SELECT * FROM copyd.kept;"
            " CREATE TRIGGER t INSTEAD OF INSERT ON copyd.ledger"
            " FOR EACH ROW EXECUTE FUNCTION public.trigger()"
        ),
        "no ordinary, permanent table",
    ),
    "partitioned": (
        (
            "ALTER TABLE copyd.ledger RENAME TO kept;"
            " CREATE TABLE copyd.ledger (LIKE copyd.kept, PRIMARY KEY (schema, name))"
            " PARTITION BY LIST (schema)"
        ),
        "no ordinary, permanent table",
    ),
    "partition": (
        (
            "CREATE TABLE public.root (LIKE copyd.ledger, PRIMARY KEY (schema, name))"
            " PARTITION BY LIST (schema);"
            " ALTER TABLE public.root ATTACH PARTITION copyd.ledger DEFAULT"
        ),
        "is a partition",
    ),
    "unlogged": ("ALTER TABLE copyd.ledger SET UNLOGGED", "no ordinary, permanent table"),
    "sequence": (
        "DROP TABLE copyd.ledger; CREATE SEQUENCE copyd.ledger",
        "no ordinary, permanent table",
    ),
    "typed table": (
        (
            "ALTER TABLE copyd.ledger RENAME TO kept; ALTER TABLE copyd.kept DROP CONSTRAINT"
            " ledger_pkey; CREATE TYPE public.shape AS (schema text, name text);"
            " CREATE TABLE copyd.ledger OF public.shape (PRIMARY KEY (schema, name))"
        ),
        "no ordinary, permanent table",
    ),
    "foreign key to it": (
        (
            "CREATE TABLE public.mine (s text, n text,"
            " FOREIGN KEY (s, n) REFERENCES copyd.ledger ON UPDATE CASCADE)"
        ),
        "referenced by a foreign key",
    ),
    "foreign key of it": (
        (
            "CREATE TABLE public.theirs (run text PRIMARY KEY);"
            " ALTER TABLE copyd.ledger ADD FOREIGN KEY (run) REFERENCES public.theirs"
        ),
        "a foreign key",
    ),
    "second unique index": ("CREATE UNIQUE INDEX ON copyd.ledger (run)", "index"),
    "another key": (
        "ALTER TABLE copyd.ledger DROP CONSTRAINT ledger_pkey, ADD PRIMARY KEY (name, schema)",
        "index",
    ),
    "deferred key": (
        (
            "ALTER TABLE copyd.ledger DROP CONSTRAINT ledger_pkey,"
            " ADD PRIMARY KEY (schema, name) DEFERRABLE"
        ),
        "trigger",
    ),
    "no key": ("ALTER TABLE copyd.ledger DROP CONSTRAINT ledger_pkey", "index"),
    "missing column": (
        "ALTER TABLE copyd.ledger DROP COLUMN horizon",
        "horizon pg_catalog.int8",
    ),
    "another type": (
        "ALTER TABLE copyd.ledger ALTER COLUMN mark TYPE varchar(3)",
        "mark pg_catalog.varchar modified",
    ),
    "another collation": (
        'ALTER TABLE copyd.ledger ALTER COLUMN name TYPE text COLLATE "default"',
        "name pg_catalog.text NOT NULL",
    ),
    "another order": (
        "ALTER TABLE copyd.ledger DROP COLUMN mark; ALTER TABLE copyd.ledger ADD mark text",
        "another order",
    ),
    "not null": (
        "ALTER TABLE copyd.ledger ALTER COLUMN run SET NOT NULL",
        "run pg_catalog.text NOT NULL",
    ),
    "identity": (
        (
            "ALTER TABLE copyd.ledger ALTER COLUMN rows SET NOT NULL,"
            " ALTER COLUMN rows ADD GENERATED ALWAYS AS IDENTITY"
        ),
        "rows pg_catalog.int8 NOT NULL IDENTITY",
    ),
    "statistics": (
        "CREATE STATISTICS public.s ON schema, name FROM copyd.ledger",
        "extended statistics",
    ),
    "newer version": (
        (
            "ALTER TABLE copyd.ledger ADD COLUMN more text;"
            " COMMENT ON TABLE copyd.ledger IS 'of copyd (ledger version 2)'"
        ),
        "version 2",
    ),
}


@pytest.fixture(scope="module")
def lasting(server: Server) -> Iterator[LedgerDatabase]:
    """One with a ledger and code to plant; what a test does there it does not commit."""
    with server.database() as database, ledger_database(server, database) as place:
        place.prepared()
        place.ask(PLANT)
        yield place


@pytest.mark.parametrize(("statements", "expected"), PLANTED.values(), ids=PLANTED.keys())
def test_a_ledger_with_something_that_copyd_did_not_make_is_refused(
    lasting: LedgerDatabase, statements: str, expected: str
) -> None:
    connection = lasting.open()
    connection.execute(statements.encode())
    connection.execute("SELECT setval('public.ran', 1, false)")  # some run while they are planted
    with pytest.raises(CopydError, match=re.escape(expected)) as refused:
        Ledger().prepare(connection)
    assert "copyd.ledger in database" in str(refused.value)
    connection.close()
    assert not lasting.has_run()
    assert not Ledger().prepare(lasting.open())


@pytest.mark.parametrize("what", ["trigger", "default", "check", "expression index", "domain"])
def test_what_is_planted_would_run_as_us(place: LedgerDatabase, what: str) -> None:
    ledger = place.prepared()
    place.ask(PLANT)
    place.ask(PLANTED[what][0])
    claim(ledger, place.open(), ORDERS)
    assert place.has_run()


def test_a_schema_that_somebody_else_made_in_advance_is_refused(place: LedgerDatabase) -> None:
    place.ask(PLANT)
    place.ask("GRANT CREATE ON DATABASE {} TO {}", place.database, place.mallory)
    place.prepared(place.mallory)
    place.ask("GRANT ALL ON SCHEMA copyd TO PUBLIC", as_role=place.mallory)
    place.ask("GRANT ALL ON copyd.ledger TO PUBLIC", as_role=place.mallory)
    place.ask(TRIGGER, as_role=place.mallory)
    for role in (None, place.role):
        with pytest.raises(CopydError, match=r"schema copyd .* belongs to role .*_mallory"):
            Ledger().prepare(place.open(role))
    assert not place.has_run()


@pytest.mark.parametrize("is_member", [False, True])
def test_an_owner_whose_rights_one_has_is_still_another_owner(
    place: LedgerDatabase, is_member: bool
) -> None:
    place.ask("CREATE SCHEMA copyd AUTHORIZATION {}", place.mallory)
    if is_member:
        place.ask("GRANT {} TO {}", place.mallory, place.role)
    with pytest.raises(CopydError, match="ALTER SCHEMA copyd OWNER TO"):
        Ledger().prepare(place.open(place.role))


def test_a_table_that_somebody_else_made_in_our_schema_is_refused(place: LedgerDatabase) -> None:
    ledger = place.prepared()
    place.ask("ALTER TABLE copyd.ledger OWNER TO {}", place.mallory)
    with pytest.raises(CopydError, match=r"ALTER TABLE copyd\.ledger OWNER TO tester"):
        ledger.prepare(place.open())


def advice(ledger: Ledger, connection: Connection) -> str:
    """The statement that the refusal advises."""
    with pytest.raises(CopydError, match="run there: ") as refused:
        ledger.prepare(connection)
    connection.rollback()
    return str(refused.value).rpartition("run there: ")[2]


def test_a_ledger_that_was_made_by_another_role_is_ours_once_the_advice_was_followed(
    place: LedgerDatabase,
) -> None:
    ledger, connection = place.prepared(), place.open(place.role)
    for _ in range(2):  # the schema, then the table
        place.ask(advice(ledger, connection))
    assert not ledger.prepare(connection)


GRANTS = {
    "CREATE to a role": "GRANT CREATE ON SCHEMA copyd TO {}",
    "CREATE to everybody": "GRANT CREATE ON SCHEMA copyd TO PUBLIC, {}",
    "TRIGGER": "GRANT TRIGGER ON copyd.ledger TO {}",
    "INSERT": "GRANT INSERT ON copyd.ledger TO {}",
    "UPDATE of a column": "GRANT UPDATE (run) ON copyd.ledger TO {}",
    "REFERENCES of a column to everybody": "GRANT REFERENCES (name) ON copyd.ledger TO PUBLIC, {}",
    "TRUNCATE to everybody": "GRANT TRUNCATE ON copyd.ledger TO PUBLIC, {}",
}


@pytest.mark.parametrize("grant", GRANTS.values(), ids=GRANTS.keys())
def test_a_ledger_that_others_may_change_is_refused_until_the_advice_was_followed(
    place: LedgerDatabase, grant: str
) -> None:
    ledger, connection = place.prepared(), place.open()
    place.ask(grant, place.mallory)
    statement = advice(ledger, connection)
    assert statement.startswith("REVOKE ")
    place.ask(statement)
    assert not ledger.prepare(connection)


def test_a_schema_in_which_others_may_create_is_refused_before_the_table_is_made(
    place: LedgerDatabase,
) -> None:
    place.ask("CREATE SCHEMA copyd")
    place.ask("GRANT CREATE ON SCHEMA copyd TO {}", place.mallory)
    with pytest.raises(CopydError, match="REVOKE CREATE ON SCHEMA copyd FROM"):
        Ledger().prepare(place.open())


def test_others_may_read_the_ledger(place: LedgerDatabase) -> None:
    ledger = place.prepared()
    place.ask("GRANT USAGE ON SCHEMA copyd TO PUBLIC")
    place.ask("GRANT SELECT ON copyd.ledger TO PUBLIC")
    place.ask("GRANT SELECT (run) ON copyd.ledger TO {}", place.mallory)
    assert not ledger.prepare(place.open())
