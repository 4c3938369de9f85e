"""The one type of connection that copyd uses, and the row of a query that always has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import Params, QueryNoTemplate

Connection = psycopg.Connection[Any]
Row = TypeVar("Row")


def one_row(connection: Connection, query: QueryNoTemplate, params: Params | None = None) -> Any:
    """Return the row of a query that cannot have none, such as a SELECT without FROM."""
    return only_row(connection.execute(query, params))


def only_row(cursor: psycopg.Cursor[Row]) -> Row:
    """Return the row of a query that cannot have none, which `cursor` has executed."""
    row = cursor.fetchone()
    if row is None:
        raise RuntimeError("a query returned no row, although it always has one")
    return row
