"""The one type of connection that copyd uses, and the row of a query that always has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import Params, QueryNoTemplate

Connection = psycopg.Connection[Any]


def one_row(connection: Connection, query: QueryNoTemplate, params: Params | None = None) -> Any:
    """Return the row of a query that cannot have none, such as a SELECT without FROM."""
    row = connection.execute(query, params).fetchone()
    assert row is not None  # noqa: S101 - the caller's query has one row by construction
    return row
