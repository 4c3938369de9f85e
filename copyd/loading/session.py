"""What a session is told before COPY, so that both ends mean the same by the same bytes.

SET LOCAL, because start-up options break connection poolers. Source: PostgreSQL documentation,
"Client Connection Defaults".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

LOCK_TIMEOUT = "10s"
"""How long to wait for a lock that somebody else holds, at either end."""

COMMON = {
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "array_nulls": "on",
    "xmloption": "content",
}


def set_local(connection: Connection, **more: str) -> None:
    """Set `COMMON` and `more` for the current transaction, in one round trip."""
    settings = COMMON | more
    if connection.info.server_version >= 170000:
        settings["transaction_timeout"] = "0"
    with connection.pipeline():
        for name, value in settings.items():
            statement = sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), value)
            connection.execute(statement)
