"""Servers that a chaos may break, and books to keep equal."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import make_conninfo

from tests.support.chaos import QUICK, Chaos
from tests.support.once_command import Once, Options
from tests.support.servers import running_server
from tests.support.sql import execute
from tests.support.wiretap import Wiretap
from tests.support.writers import TABLES, create_books, fill_books

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.cluster import Installation
    from tests.support.servers import Server

# What a session of autovacuum writes would hold back the horizon of a snapshot: the last run of
# a test must find nobody at work. A commit is in the log when it is confirmed.
QUIET = {"autovacuum": "off", "synchronous_commit": "on"}


@pytest.fixture(scope="session")
def source_server(installation: Installation) -> Iterator[Server]:
    with running_server(installation, **QUIET) as running:
        yield running


@pytest.fixture(scope="session")
def mortal(installation: Installation) -> Iterator[Server]:
    """A server that is killed and restarted; at the end of a test it runs."""
    with running_server(installation, **QUIET) as running:
        yield running


@dataclass
class Rig:
    """Where a test finds a source and destinations; each has a database of its own."""

    source_server: Server
    calm_server: Server
    mortal: Server
    folder: Path
    stack: ExitStack

    def database(self, server: Server) -> str:
        """One on a server of the test's own goes with the server."""
        if server in (self.source_server, self.calm_server, self.mortal):
            return self.stack.enter_context(server.database())
        execute(server.conninfo(), "CREATE DATABASE shop TEMPLATE template0")
        return "shop"

    def tap(self, server: Server) -> Wiretap:
        return self.stack.enter_context(Wiretap(server.port))

    def books(self, server: Server, *, has_key: bool = True, amount: str = "int") -> str:
        """Empty books in a new database; returns its name."""
        name = self.database(server)
        execute(server.conninfo(name), *create_books(has_key=has_key, amount=amount))
        return name

    @staticmethod
    def plain(server: Server, dbname: str, port: int) -> str:
        """Over TCP without encryption, so that messages can be read."""
        address = server.tcp_conninfo(dbname, port=port)
        return make_conninfo(address, sslmode="disable", gssencmode="disable")

    def chaos(
        self,
        case: str,
        transfer: Options,
        *,
        has_key: bool = True,
        source_server: Server | None = None,
        destination_amount: str = "int",
        groups: int = 3_000,
    ) -> Chaos:
        """Three destinations: a calm one, one on a mortal server, one behind a wiretap."""
        where = source_server or self.source_server
        source = where.conninfo(self.books(where, has_key=has_key))
        execute(source, *fill_books(groups))
        tap = self.tap(self.calm_server)
        homes = {"calm": self.calm_server, "mortal": self.mortal, "tapped": self.calm_server}
        names = {
            name: self.books(home, has_key=has_key, amount=destination_amount)
            for name, home in homes.items()
        }
        ends = {name: homes[name].conninfo(names[name]) for name in homes}
        tapped = self.plain(self.calm_server, names["tapped"], tap.port)
        once = Once(
            self.folder,
            {**ends, "shop": source, "tapped": tapped},
            {"source": "shop", "destinations": [*ends], "tables": [*TABLES], **QUICK, **transfer},
        )
        return Chaos(once, source, ends, tap, self.mortal, case)


@pytest.fixture
def rig(source_server: Server, server: Server, mortal: Server, tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(source_server, server, mortal, tmp_path, stack)
