"""A database with roles that try to get at its ledger."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from copyd.loading import Step, execute
from copyd.loading.ledger import Entry, Ledger, Position
from copyd.names import TableName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from copyd.connection import Connection
    from tests.support.servers import Server

DEADLINE = 20.0
ORDERS, LINES = TableName("public", "orders"), TableName("public", "lines")

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


class LedgerDatabase:
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
def ledger_database(server: Server, database: str) -> Iterator[LedgerDatabase]:
    with ExitStack() as stack:
        place = LedgerDatabase(server, database, stack)
        yield place
    for role in (place.role, place.mallory):
        place.ask("DROP OWNED BY {}", role)
        place.ask("DROP ROLE {}", role)


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


def claim_all(
    ledger: Ledger, connection: Connection, names: Iterable[TableName]
) -> dict[TableName, Entry | None]:
    """Lock the rows of these tables as a run does, and return what they say."""
    held = list(names)
    return ledger.read(connection, held, first=lambda: connection.execute(ledger.hold(held)))


def note_done(ledger: Ledger, connection: Connection, names: Iterable[TableName], run: str) -> None:
    held = list(names)
    connection.execute(ledger.hold(held))
    execute(connection, Step(ledger.after_commit_done(held)), {"run": run})


def claim(ledger: Ledger, connection: Connection, name: TableName) -> Entry | None:
    return claim_all(ledger, connection, [name])[name]
