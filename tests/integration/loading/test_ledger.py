"""The ledger: kept exactly, locked while it is used, and never a way to run as us."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import LockNotAvailable

from copyd.errors import CopydError
from copyd.loading.ledger import Entry, Ledger, Position
from copyd.names import TableName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from copyd.connection import Connection
    from tests.support.servers import Server


DEADLINE = 20.0
ORDERS, LINES = TableName("public", "orders"), TableName("public", "lines")
ODD = [
    TableName("public", "x"),
    TableName("public", "X"),
    TableName("public", "../x"),
    TableName("public", 'say "x"; -- %s {} \\'),
    TableName("public", "\N{LATIN SMALL LETTER A WITH RING ABOVE}"),
    TableName("public", "a\N{COMBINING RING ABOVE}"),
    TableName("public", "n" * 63),
    TableName("public", "n" * 62),
    TableName("Public", "x"),
    TableName("public.x", "x"),
    TableName("public", "x.x"),
    TableName("public", " "),
]
ENTRY = Entry(
    schema="public",
    name="orders",
    relation=4_294_967_295,
    transfer="all orders",
    run="run 1",
    position=Position(-7_199_254_740_993_123_456, 4_294_967_295, 0xFFFF_FFFF_0000_000A),
    snapshot="00000003-0000001B-1",
    horizon=2**40 + 3,
    full_horizon=2**40,
    mark="2024-02-29 12:00:00+00",
    filenode=16_400,
    rows=3_000_000_000,
    size=2**50,
    format="binary",
    fingerprint="f00d",
    committed_at=datetime(2000, 1, 1, tzinfo=timezone.utc),
    full_at=datetime(2024, 2, 29, 1, 2, 3, 456_789, tzinfo=timezone.utc),
    after_commit_done=False,
)
LEAST = replace(
    ENTRY, horizon=None, full_horizon=None, mark=None, filenode=None, full_at=None,
    position=Position(0, 0, 0), rows=0, size=0, after_commit_done=True,
)  # fmt: skip

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


class Site:
    """A database with a superuser (whose sessions these are) and two roles that may nothing."""

    def __init__(self, server: Server, database: str, stack: ExitStack) -> None:
        self.server, self.database, self._stack = server, database, stack
        self.role, self.mallory = f"{database} Loader", f"{database}_mallory"
        for role in (self.role, self.mallory):
            self.ask("CREATE ROLE {}", role)

    def ask(self, statement: str, *names: str, as_role: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements in a transaction of their own; ``{}`` are identifiers."""
        with self.server.connect(self.database) as connection:
            become(connection, as_role)
            command = sql.SQL(statement).format(*map(sql.Identifier, names))
            done = connection.execute(command)
            return done.fetchall() if done.description else []

    def open(self, role: str | None = None, *, lock_timeout: str = "0") -> Connection:
        """A session as a run has it."""
        connection = self.server.connect(self.database, autocommit=False)
        self._stack.callback(connection.close)
        become(connection, role)
        connection.execute("SET search_path = pg_catalog, pg_temp")
        connection.execute(sql.SQL("SET lock_timeout = {}").format(lock_timeout))
        connection.commit()
        return connection

    def prepared(self, role: str | None = None) -> Ledger:
        connection = self.open(role)
        ledger = Ledger()
        assert ledger.prepare(connection)
        connection.commit()
        return ledger

    def has_run(self) -> bool:
        return bool(self.ask("SELECT is_called FROM public.ran")[0][0])

    def wait_for(self, connection: Connection, event: str) -> None:
        """Return when the session waits for an event of this name or type."""
        poll = """
            DO $$ DECLARE until timestamptz := clock_timestamp() + interval '20 s'; BEGIN
              WHILE clock_timestamp() < until LOOP
                PERFORM pg_stat_clear_snapshot();
                IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = {}
                              AND {} IN (wait_event, wait_event_type)) THEN RETURN; END IF;
                PERFORM pg_sleep(0.002);
              END LOOP;
              RAISE 'it does not wait';
            END $$"""
        with self.server.connect(self.database) as observer:
            observer.execute(sql.SQL(poll).format(connection.info.backend_pid, event))


def become(connection: Connection, role: str | None) -> None:
    if role is not None:
        statement = sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(role))
        connection.execute(statement)


@contextmanager
def site_in(server: Server, database: str) -> Iterator[Site]:
    with ExitStack() as stack:
        site = Site(server, database, stack)
        yield site
    for role in (site.role, site.mallory):
        site.ask("DROP OWNED BY {}", role)
        site.ask("DROP ROLE {}", role)


@pytest.fixture
def site(server: Server, database: str) -> Iterator[Site]:
    with site_in(server, database) as site:
        yield site


@pytest.fixture(scope="module")
def lasting(server: Server) -> Iterator[Site]:
    """One with a ledger and code to plant; what a test does there it does not commit."""
    with server.database() as database, site_in(server, database) as site:
        site.prepared()
        site.ask(PLANT)
        yield site


@contextmanager
def answer(call: Callable[[], object]) -> Iterator[list[object]]:
    """Make the call in a thread; its answer, or its error, is there when the block has ended."""
    answers: list[object] = []

    def run() -> None:
        try:
            answers.append(call())
        except psycopg.Error as error:
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answers
    finally:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def claim(ledger: Ledger, connection: Connection, name: TableName) -> Entry | None:
    return ledger.claim_all(connection, [name])[name]


# Created on first use


def test_the_ledger_is_created_on_first_use_and_then_only_checked(site: Site) -> None:
    connection, ledger = site.open(), Ledger()
    assert ledger.prepare(connection)
    connection.commit()
    assert not ledger.prepare(connection)
    assert claim(ledger, connection, ORDERS) is None


def test_a_role_that_may_create_in_the_database_creates_it(site: Site) -> None:
    site.ask("GRANT CREATE ON DATABASE {} TO {}", site.database, site.role)
    site.prepared(site.role)
    owners = "SELECT tableowner FROM pg_tables WHERE schemaname = 'copyd' AND tablename = 'ledger'"
    assert site.ask(owners) == [(site.role,)]
    assert not Ledger().prepare(site.open(site.role))


def test_the_schema_has_the_name_that_was_asked_for(site: Site) -> None:
    connection = site.open()
    for name in ("other", 'My "Ledger"; --', "select", "s" * 63):
        ledger = Ledger(name)
        assert ledger.prepare(connection)
        ledger.record(connection, ENTRY)
        assert claim(ledger, connection, ORDERS) is not None
        assert not ledger.prepare(connection)
    assert Ledger("another").prepare(connection)
    assert claim(Ledger("another"), connection, ORDERS) is None


def test_a_name_that_the_server_would_shorten_is_refused(site: Site) -> None:
    with pytest.raises(CopydError, match="use a shorter one"):
        Ledger("s" * 64).prepare(site.open())


def test_who_may_not_create_it_is_told_the_sql_that_makes_it_work(site: Site) -> None:
    with pytest.raises(CopydError, match="may not create it") as refused:
        Ledger().prepare(site.open(site.role))
    statement = re.search(r"run there: (CREATE SCHEMA .*)$", str(refused.value))
    assert statement is not None
    site.ask(statement[1])
    ledger = site.prepared(site.role)
    connection = site.open(site.role)
    assert not ledger.prepare(connection)
    assert claim(ledger, connection, ORDERS) is None
    ledger.record(connection, ENTRY)
    connection.commit()
    assert ledger.settle(connection, *ORDERS, ENTRY.run)


def test_what_default_privileges_give_others_is_taken_back(site: Site) -> None:
    for objects in ("TABLES", "SCHEMAS"):
        for who in ("PUBLIC", "{}"):
            grant = f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {objects} TO {who}"
            site.ask(grant, *[site.mallory][: who.count("{}")])
    site.prepared()
    assert not Ledger().prepare(site.open())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        site.ask("DELETE FROM copyd.ledger", as_role=site.mallory)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        site.ask("CREATE TABLE copyd.planted ()", as_role=site.mallory)


def test_sessions_that_create_it_at_once_agree(site: Site) -> None:
    together = threading.Barrier(3)

    def create(connection: Connection) -> bool:
        together.wait(DEADLINE)
        created = Ledger().prepare(connection)
        connection.commit()
        return created

    connections = [site.open() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(30):
            assert sorted(pool.map(create, connections)) == [False, False, True]
            site.ask("DROP SCHEMA copyd CASCADE")


def test_who_waits_for_another_to_create_it_waits_as_long_as_for_any_lock(site: Site) -> None:
    assert Ledger().prepare(site.open())
    with pytest.raises(LockNotAvailable):
        Ledger().prepare(site.open(lock_timeout="1ms"))


# What others could have planted


@pytest.mark.parametrize(("statements", "expected"), PLANTED.values(), ids=PLANTED.keys())
def test_a_ledger_with_something_that_copyd_did_not_make_is_refused(
    lasting: Site, statements: str, expected: str
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
def test_what_is_planted_would_run_as_us(site: Site, what: str) -> None:
    ledger = site.prepared()
    site.ask(PLANT)
    site.ask(PLANTED[what][0])
    claim(ledger, site.open(), ORDERS)
    assert site.has_run()


def test_a_schema_that_somebody_else_made_in_advance_is_refused(site: Site) -> None:
    site.ask(PLANT)
    site.ask("GRANT CREATE ON DATABASE {} TO {}", site.database, site.mallory)
    site.prepared(site.mallory)
    site.ask("GRANT ALL ON SCHEMA copyd TO PUBLIC", as_role=site.mallory)
    site.ask("GRANT ALL ON copyd.ledger TO PUBLIC", as_role=site.mallory)
    site.ask(TRIGGER, as_role=site.mallory)
    for role in (None, site.role):
        with pytest.raises(CopydError, match=r"schema copyd .* belongs to role .*_mallory"):
            Ledger().prepare(site.open(role))
    assert not site.has_run()


@pytest.mark.parametrize("is_member", [False, True])
def test_an_owner_whose_rights_one_has_is_still_another_owner(site: Site, is_member: bool) -> None:
    site.ask("CREATE SCHEMA copyd AUTHORIZATION {}", site.mallory)
    if is_member:
        site.ask("GRANT {} TO {}", site.mallory, site.role)
    with pytest.raises(CopydError, match="ALTER SCHEMA copyd OWNER TO"):
        Ledger().prepare(site.open(site.role))


def test_a_table_that_somebody_else_made_in_our_schema_is_refused(site: Site) -> None:
    ledger = site.prepared()
    site.ask("ALTER TABLE copyd.ledger OWNER TO {}", site.mallory)
    with pytest.raises(CopydError, match=r"ALTER TABLE copyd\.ledger OWNER TO tester"):
        ledger.prepare(site.open())


def advice(ledger: Ledger, connection: Connection) -> str:
    """The statement that the refusal advises."""
    with pytest.raises(CopydError, match="run there: ") as refused:
        ledger.prepare(connection)
    connection.rollback()
    return str(refused.value).rpartition("run there: ")[2]


def test_a_ledger_that_was_made_by_another_role_is_ours_once_the_advice_was_followed(
    site: Site,
) -> None:
    ledger, connection = site.prepared(), site.open(site.role)
    for _ in range(2):  # the schema, then the table
        site.ask(advice(ledger, connection))
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
    site: Site, grant: str
) -> None:
    ledger, connection = site.prepared(), site.open()
    site.ask(grant, site.mallory)
    statement = advice(ledger, connection)
    assert statement.startswith("REVOKE ")
    site.ask(statement)
    assert not ledger.prepare(connection)


def test_a_schema_in_which_others_may_create_is_refused_before_the_table_is_made(
    site: Site,
) -> None:
    site.ask("CREATE SCHEMA copyd")
    site.ask("GRANT CREATE ON SCHEMA copyd TO {}", site.mallory)
    with pytest.raises(CopydError, match="REVOKE CREATE ON SCHEMA copyd FROM"):
        Ledger().prepare(site.open())


def test_others_may_read_the_ledger(site: Site) -> None:
    ledger = site.prepared()
    site.ask("GRANT USAGE ON SCHEMA copyd TO PUBLIC")
    site.ask("GRANT SELECT ON copyd.ledger TO PUBLIC")
    site.ask("GRANT SELECT (run) ON copyd.ledger TO {}", site.mallory)
    assert not ledger.prepare(site.open())


# Rows


@pytest.mark.parametrize("entry", [ENTRY, LEAST], ids=["every field", "what may lack"])
def test_what_is_recorded_is_what_is_claimed(site: Site, entry: Entry) -> None:
    ledger, connection = site.prepared(), site.open()
    connection.execute("SET DateStyle = 'German, DMY'")
    connection.execute("SET TimeZone = 'Asia/Kathmandu'")
    assert claim(ledger, connection, ORDERS) is None
    for written in (replace(entry, run="run 0", rows=7), entry):
        ledger.record(connection, written)
        found = claim(ledger, connection, ORDERS)
        assert found is not None
        assert replace(found, committed_at=written.committed_at) == written
    before = claim(ledger, connection, ORDERS)
    connection.commit()
    assert claim(ledger, connection, ORDERS) == before


def test_the_time_of_writing_is_the_servers(site: Site) -> None:
    ledger, connection = site.prepared(), site.open()
    clock = "SELECT pg_catalog.clock_timestamp()"
    [(before,)] = connection.execute(clock).fetchall()
    ledger.record(connection, ENTRY)
    [(after,)] = connection.execute(clock).fetchall()
    found = claim(ledger, connection, ORDERS)
    assert found is not None
    assert before < found.committed_at < after < before + timedelta(seconds=DEADLINE)


def test_what_is_rolled_back_leaves_what_was_there(site: Site) -> None:
    ledger, connection = site.prepared(), site.open()
    ledger.record(connection, ENTRY)
    connection.commit()
    claim(ledger, connection, ORDERS)
    ledger.record(connection, replace(ENTRY, run="run 2", rows=5))
    connection.rollback()
    found = claim(ledger, connection, ORDERS)
    assert found is not None
    assert (found.run, found.rows) == (ENTRY.run, ENTRY.rows)


def test_names_are_kept_apart(site: Site) -> None:
    ledger, connection = site.prepared(), site.open()
    assert set(ledger.claim_all(connection, ODD).values()) == {None}
    for number, name in enumerate(ODD):
        ledger.record(connection, replace(ENTRY, schema=name[0], name=name[1], rows=number))
    connection.commit()
    found = ledger.claim_all(connection, reversed(ODD))
    told = {name: entry and (entry.schema, entry.name, entry.rows) for name, entry in found.items()}
    assert told == {name: (*name, number) for number, name in enumerate(ODD)}
    for name in ODD:
        assert claim(ledger, connection, name) == found[name]


def test_some_of_several_tables_were_loaded_before(site: Site) -> None:
    ledger, connection = site.prepared(), site.open()
    ledger.record(connection, ENTRY)
    found = ledger.claim_all(connection, [ORDERS, LINES, ORDERS])
    assert (found[ORDERS] is not None, found[LINES]) == (True, None)
    assert ledger.claim_all(connection, []) == {}


def test_a_row_that_was_locked_and_committed_without_a_load_is_no_entry(site: Site) -> None:
    ledger, connection = site.prepared(), site.open()
    claim(ledger, connection, ORDERS)
    connection.commit()
    assert claim(ledger, connection, ORDERS) is None
    assert site.ask("SELECT count(*) FROM copyd.ledger") == [(1,)]


def test_a_row_that_was_emptied_by_hand_is_refused(site: Site) -> None:
    ledger, connection = site.prepared(), site.open()
    ledger.record(connection, ENTRY)
    connection.commit()
    site.ask("UPDATE copyd.ledger SET lsn = NULL, fingerprint = NULL")
    with pytest.raises(CopydError, match=r"public\.orders .* lacks lsn, fingerprint;"):
        claim(ledger, connection, ORDERS)


def test_after_commit_is_noted_for_the_run_that_loaded_the_table(site: Site) -> None:
    ledger, connection = site.prepared(), site.open()
    ledger.record(connection, ENTRY)
    ledger.record(connection, replace(ENTRY, name="lines", run="another"))
    ledger.after_commit_done(connection, [LINES, ORDERS, TableName("public", "none")], ENTRY.run)
    connection.commit()
    found = ledger.claim_all(connection, [ORDERS, LINES, TableName("public", "none")])
    told = [entry and entry.after_commit_done for entry in found.values()]
    assert told == [False, None, True]


def test_a_check_is_one_question_and_a_claim_one_round_trip(site: Site, folder: Path) -> None:
    ledger, connection = site.prepared(), site.open()
    connection.execute("SELECT 1")  # the transaction has begun
    asked: list[Callable[[], object]] = [
        lambda: ledger.prepare(connection),
        lambda: ledger.claim_all(connection, ODD),
        lambda: ledger.settle(connection, *ORDERS, "run"),
    ]
    trips: list[int] = []
    for number, ask in enumerate(asked):
        path = folder / f"trace {number}"
        with path.open("w") as trace:
            connection.pgconn.trace(trace.fileno())
            ask()
            connection.pgconn.untrace()
        trips.append(len(re.findall(r"\tF\t\d+\t(?:Sync|Query)\b", path.read_text())))
    assert trips == [1, 1, 1]


# Locks


def test_a_table_that_another_run_holds_is_busy_and_then_shows_what_it_loaded(site: Site) -> None:
    ledger, first, second = site.prepared(), site.open(), site.open(lock_timeout="1ms")
    for run in ("run 1", "run 2"):  # a row that nobody sees yet, then one that is there
        claim(ledger, first, ORDERS)
        with pytest.raises(LockNotAvailable):
            ledger.claim_all(second, [LINES, ORDERS])
        second.rollback()
        ledger.record(first, replace(ENTRY, run=run))
        with pytest.raises(LockNotAvailable):
            claim(ledger, second, ORDERS)
        second.rollback()
        first.commit()
        found = claim(ledger, second, ORDERS)
        assert found is not None
        assert found.run == run
        second.rollback()


@pytest.mark.parametrize("is_first", [True, False])
def test_who_waits_for_a_row_gets_the_newest(site: Site, is_first: bool) -> None:
    ledger, first, second = site.prepared(), site.open(), site.open()
    if not is_first:
        ledger.record(first, replace(ENTRY, run="older"))
        first.commit()
    second.execute("SELECT count(*) FROM copyd.ledger")  # the transaction has begun before
    ledger.record(first, ENTRY)
    with answer(lambda: claim(ledger, second, ORDERS)) as found:
        site.wait_for(second, "Lock")
        first.commit()
    (entry,) = found
    assert isinstance(entry, Entry)
    assert entry.run == ENTRY.run


def test_tables_of_other_runs_are_not_held_up(site: Site) -> None:
    ledger, first, second = site.prepared(), site.open(), site.open(lock_timeout="1ms")
    claim(ledger, first, ORDERS)
    assert claim(ledger, second, LINES) is None


@pytest.mark.parametrize("is_there", [True, False])
def test_runs_that_name_their_tables_in_other_orders_do_not_deadlock(
    site: Site, is_there: bool
) -> None:
    ledger = site.prepared()
    names = [TableName("public", f"table {number}") for number in range(50)]
    together = threading.Barrier(2)

    def take(order: tuple[Connection, list[TableName]]) -> None:
        connection, tables = order
        for _ in range(20):
            together.wait(DEADLINE)
            ledger.claim_all(connection, tables)
            ledger.after_commit_done(connection, tables, "run")
            if is_there:
                connection.commit()
            else:
                connection.rollback()

    orders = [(site.open(), names), (site.open(), names[::-1])]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(take, orders))


# A lost COMMIT


def test_whether_a_run_committed_is_told(site: Site) -> None:
    ledger, connection = site.prepared(), site.open()
    assert not ledger.settle(connection, *ORDERS, ENTRY.run)
    ledger.record(connection, ENTRY)
    connection.rollback()
    assert not ledger.settle(connection, *ORDERS, ENTRY.run)
    ledger.record(connection, ENTRY)
    connection.commit()
    assert ledger.settle(connection, *ORDERS, ENTRY.run)
    assert not ledger.settle(connection, *ORDERS, "run 2")
    assert not ledger.settle(connection, *LINES, ENTRY.run)


def test_a_run_that_committed_is_known_when_another_has_committed_since(site: Site) -> None:
    ledger, connection = site.prepared(), site.open()
    for run in ("run 1", "run 2", "run 2"):
        ledger.record(connection, replace(ENTRY, run=run))
        connection.commit()
    told = [ledger.settle(connection, *ORDERS, run) for run in ("run 1", "run 2", "run 3")]
    assert told == [True, True, False]


@pytest.mark.parametrize("has_committed", [True, False])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_commit_that_is_under_way_is_waited_for(
    site: Site, is_first: bool, has_committed: bool
) -> None:
    ledger, old, new = site.prepared(), site.open(), site.open()
    if not is_first:
        ledger.record(old, replace(ENTRY, run="older"))
        old.commit()
    claim(ledger, old, ORDERS)
    ledger.record(old, ENTRY)
    with answer(lambda: ledger.settle(new, *ORDERS, ENTRY.run)) as told:
        site.wait_for(new, "Lock")
        if has_committed:
            old.commit()
        else:
            old.rollback()
    assert told == [has_committed]


def test_what_cannot_be_told_in_time_is_said_to_be_busy(site: Site) -> None:
    ledger, old, new = site.prepared(), site.open(), site.open(lock_timeout="1ms")
    ledger.record(old, ENTRY)
    with pytest.raises(LockNotAvailable):
        ledger.settle(new, *ORDERS, ENTRY.run)


@pytest.fixture
def absent_standby(server: Server) -> Iterator[Callable[[], None]]:
    """Commits that ask for it wait for a standby that never comes, until this is called."""

    def say(standbys: str) -> None:
        with server.connect() as admin:
            admin.execute(
                sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(standbys)
            )
            admin.execute("SELECT pg_reload_conf()")

    say("nobody")
    yield lambda: say("")
    say("")


def test_a_commit_that_waits_for_a_standby_is_not_taken_for_none(
    site: Site, absent_standby: Callable[[], None]
) -> None:
    ledger, old, new = site.prepared(), site.open(), site.open(lock_timeout="1ms")
    old.execute("SET synchronous_commit = on")
    ledger.record(old, ENTRY)
    with answer(old.commit) as answers:
        site.wait_for(old, "SyncRep")
        with pytest.raises(LockNotAvailable):
            ledger.settle(new, *ORDERS, ENTRY.run)
        new.rollback()
        absent_standby()
    assert answers == [None]
    assert ledger.settle(new, *ORDERS, ENTRY.run)
