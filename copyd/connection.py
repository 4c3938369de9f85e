"""The type of copyd's connections, and queries that always return a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import Params, QueryNoTemplate

Connection = psycopg.Connection[Any]
Row = TypeVar("Row")


def one_row(connection: Connection, query: QueryNoTemplate, params: Params | None = None) -> Any:
    """Return the row of a query that always has a row, such as SELECT without FROM."""
    return only_row(connection.execute(query, params))


def only_row(cursor: psycopg.Cursor[Row]) -> Row:
    """Return the row of a query, executed by `cursor`, that always has a row."""
    row = cursor.fetchone()
    if row is None:
        raise RuntimeError("a query that always has a row returned none")
    return row
