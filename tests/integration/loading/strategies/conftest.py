"""One database for all tests here, emptied after each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from tests.support.loaded_tables import LoadedTables, names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.connection import Connection
    from tests.support.servers import Server


@pytest.fixture(scope="session")
def connections(server: Server) -> Iterator[tuple[Connection, Connection]]:
    with (
        server.database() as name,
        server.connect(name) as admin,
        server.connect(name, autocommit=False) as here,
    ):
        admin.prepare_threshold = here.prepare_threshold = None  # tables come and go
        admin.execute("SET client_min_messages = warning; SET extra_float_digits = 3")
        yield admin, here


@pytest.fixture
def tables(connections: tuple[Connection, Connection]) -> Iterator[LoadedTables]:
    admin, here = connections
    admin.execute("CREATE SCHEMA IF NOT EXISTS public")
    yield LoadedTables(admin, here)
    here.rollback()
    schemas = admin.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'"
    )
    admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(names(row[0] for row in schemas)))
