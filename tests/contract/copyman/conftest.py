"""Connections for one copy, and tables to copy between."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from time import monotonic
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from copyd.copyman import LinkName, StatementProducer, StatementReceiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from copyd.connection import Connection
    from tests.support.servers import Server


KINDS = {
    "plain": ["plain"],
    "tls": ["tls"],
    "libpq": ["libpq"],
    "mixed": ["plain", "libpq over tls", "tls"],
}
"""What a copy's connections are, in turn."""
LINKS: dict[str, tuple[bool, LinkName]] = {
    "plain": (False, "wire"),
    "tls": (True, "wire"),
    "libpq": (False, "libpq"),
    "libpq over tls": (True, "libpq"),
}
"""Whether it is over TLS, and the link to ask for."""


@dataclass
class Bench:
    """A schema, and as many connections as asked for, each on the next of ``kinds``."""

    server: Server
    database: str
    schema: str
    stack: ExitStack
    kinds: Iterator[str] = field(default_factory=lambda: cycle(["plain"]))
    links: dict[Connection, LinkName] = field(default_factory=dict)

    def conninfo(
        self, *, is_tcp: bool = False, is_tls: bool = False, port: int | None = None
    ) -> str:
        options = f"-csearch_path={self.schema}"
        if not is_tcp:
            return make_conninfo(self.server.conninfo(self.database), options=options)
        sslmode = "require" if is_tls else "disable"
        address = self.server.tcp_conninfo(self.database, port=port)
        return make_conninfo(address, sslmode=sslmode, options=options)

    def connect(self, *, autocommit: bool = True, port: int | None = None) -> Connection:
        """Connect, through a proxy on `port` if it is given."""
        is_tls, link = LINKS[next(self.kinds)]
        conninfo = self.conninfo(is_tcp=is_tls or port is not None, is_tls=is_tls, port=port)
        connection = psycopg.connect(conninfo, autocommit=autocommit)
        self.links[connection] = link
        return self.stack.enter_context(connection)

    def producer(self, statement: str, connection: Connection | None = None) -> StatementProducer:
        connection = connection or self.connect()
        return StatementProducer(connection, statement, link=self.links[connection])

    def receiver(self, statement: str, connection: Connection | None = None) -> StatementReceiver:
        connection = connection or self.connect()
        return StatementReceiver(connection, statement, link=self.links[connection])

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(statement)

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def count(self, table: str) -> int:
        count: int = self.rows(f"SELECT count(*) FROM {table}")[0][0]
        return count

    def state(self, connection: Connection) -> str | None:
        """What the server says that `connection` is doing; None where it is gone."""
        pid = connection.info.backend_pid
        rows = self.rows(f"SELECT state, query FROM pg_stat_activity WHERE pid = {pid}")
        return f"{rows[0][0]}: {rows[0][1]}" if rows else None


def is_usable(connection: Connection) -> bool:
    """Answers an ordinary statement, and libpq's idea of the transaction is the server's."""
    if connection.pgconn.transaction_status == TransactionStatus.INERROR:
        connection.rollback()
    return connection.execute("SELECT 1").fetchone() == (1,)


def eventually(condition: Callable[[], bool], *, within: float = 10.0) -> bool:
    """Ask `condition`, which itself takes a round trip to a server, until it holds."""
    deadline = monotonic() + within
    while not condition():
        if monotonic() > deadline:
            return False
    return True


@pytest.fixture(scope="session")
def home(server: Server) -> Iterator[str]:
    """One database for all tests here: a schema for each is much cheaper."""
    with server.database() as name:
        yield name


@pytest.fixture
def schema(server: Server, home: str) -> Iterator[str]:
    name = f"s{next(server.names)}"
    with server.connect(home) as admin:
        admin.execute(f"CREATE SCHEMA {name}".encode())
        yield name
        admin.execute("SET client_min_messages = error")
        admin.execute(f"DROP SCHEMA {name} CASCADE".encode())


@contextmanager
def make_bench(kind: str, server: Server, database: str, schema: str) -> Iterator[Bench]:
    if not server.has_tls and any(LINKS[name][0] for name in KINDS[kind]):
        pytest.skip("this PostgreSQL has no TLS")
    with ExitStack() as stack:
        yield Bench(server, database, schema, stack, cycle(KINDS[kind]))


@pytest.fixture(params=KINDS)
def bench(
    request: pytest.FixtureRequest, server: Server, home: str, schema: str
) -> Iterator[Bench]:
    """Everything on one link, each in turn, and on a mix of them."""
    with make_bench(request.param, server, home, schema) as made:
        yield made


@pytest.fixture
def plain_bench(server: Server, home: str, schema: str) -> Iterator[Bench]:
    """Where the link does not matter."""
    with make_bench("plain", server, home, schema) as made:
        yield made


@pytest.fixture
def tls_bench(server: Server, home: str, schema: str) -> Iterator[Bench]:
    with make_bench("tls", server, home, schema) as made:
        yield made
