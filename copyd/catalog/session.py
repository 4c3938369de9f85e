"""Session settings before COPY: with them the same bytes mean the same at both ends.

Source: PostgreSQL documentation, "Client Connection Defaults".
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from copyd.connection import only_row
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from copyd.connection import Connection

COMMON = {
    "client_encoding": "UTF8",
    "statement_timeout": "0",  # a timeout of the role must not end a long COPY
    "idle_in_transaction_session_timeout": "0",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",  # the shortest text that is read back as the same number
    "bytea_output": "hex",
    "lc_monetary": "C",  # money has the format of the locale
    "array_nulls": "on",
    "xmloption": "content",
}
_SESSION = statement("copyd.catalog", "session")
# Decision: Names are identifiers with a schema
OUR_PATH = "pg_catalog, pg_temp"
"""A search path in which only superusers and this session can create objects."""


class SessionInfo(NamedTuple):
    """The role's own search path, and the backend's pid and start."""

    path: str
    pid: int
    started: datetime


def set_local(connection: Connection, **more: str) -> None:
    """Set `COMMON` and `more` for the current transaction, in one round trip."""
    with connection.pipeline():
        for statement in settings(connection, **more):
            connection.execute(statement)


def begin(connection: Connection, **more: str) -> SessionInfo:
    """Begin a transaction with `COMMON`, `more` and the search path `OUR_PATH`; in one round trip."""
    with connection.pipeline(), connection.cursor(binary=True) as cursor:
        for statement in settings(connection, **more):
            connection.execute(statement)
        cursor.execute(_SESSION)
        look_in(connection, OUR_PATH)
        path, pid, started = only_row(cursor)
    # The cursor was created before client_encoding was set: in SQL_ASCII its text is bytes.
    return SessionInfo(path.decode() if isinstance(path, bytes) else path, pid, started)


def settings(connection: Connection, **more: str) -> tuple[sql.Composed, ...]:
    """Return the statements of `set_local`."""
    values = {**COMMON, **more}
    if connection.info.server_version >= 170000:
        values["transaction_timeout"] = "0"
    # SET LOCAL, because start-up options break connection poolers.
    set_one = sql.SQL("SET LOCAL {} = {}")
    return tuple(set_one.format(sql.Identifier(name), value) for name, value in values.items())


def path_statement(path: str) -> sql.Composed:
    """Return the statement of `look_in`."""
    return sql.SQL("SELECT pg_catalog.set_config('search_path', {}, true)").format(path)


def look_in(connection: Connection, path: str) -> None:
    """Set the search path until the end of the transaction."""
    connection.execute(path_statement(path))


@contextmanager
def looking_in(connection: Connection, path: str) -> Iterator[None]:
    """Set the search path within the block, then `OUR_PATH` again."""
    look_in(connection, path)
    yield
    look_in(connection, OUR_PATH)  # not after an error, which aborts the transaction anyway


def milliseconds(seconds: float) -> str:
    """Return a duration for PostgreSQL's timeouts; at least 1 ms, because 0 turns them off."""
    return f"{max(round(seconds * 1000), 1)}ms"
