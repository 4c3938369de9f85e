"""Statements of a load as data, and the function that executes them.

A plan prints the same statements as a run executes. `Later` is a placeholder for a value known only
at execution.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.abc import AdaptContext

    from copyd.connection import Connection
    from copyd.loading.target import Target


class Result(Enum):
    """The meaning of a statement's result row, or else of its row count."""

    NOTHING = "nothing that counts"
    TRANSACTION = "the number of the transaction"
    BEFORE = "rows that the table held before"
    LEFT = "whether rows are left, which a trigger keeps"
    MISSED = "staged rows that earlier scans have left out"
    DOUBLES = "keys that more than one staged row has"
    INSERTED = "rows inserted"
    APPLIED = "rows inserted, updated, removed"
    REMOVED = "rows removed"


class Later(sql.Composable):
    """A value known only at execution; printed as ``:shown``, like a psql variable."""

    def __init__(self, name: str, shown: str | None = None) -> None:
        super().__init__(shown or name)
        self.name = name

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        del context
        return f":{self._obj}".encode()


@dataclass(frozen=True, slots=True)
class Step:
    """A statement and the meaning of its result, for ``target`` if set.

    ``otherwise``: steps to execute instead if rows swap unique values; the statement then runs in a
    savepoint. ``is_rewrite``: deletes and inserts rows which other tables may reference.
    """

    statement: sql.Composable
    result: Result = Result.NOTHING
    target: Target | None = None
    otherwise: tuple[Step, ...] = ()
    is_rewrite: bool = False


def execute(
    connection: Connection, step: Step, values: Mapping[str, object] | None = None
) -> tuple[Any, ...]:
    """Execute the statement of `step`, with `values` for each `Later`, by name.

    Returns its row, or its row count; an empty tuple for `Result.NOTHING`.
    """
    cursor = connection.execute(_filled(step.statement, values or {}))
    if step.result is Result.NOTHING:
        return ()
    if cursor.description is None:
        return (cursor.rowcount,)
    return tuple(cursor.fetchone() or ())


def _filled(statement: sql.Composable, values: Mapping[str, object]) -> sql.Composed:
    if isinstance(statement, Later):
        return sql.Composed([sql.Literal(values[statement.name])])
    if isinstance(statement, sql.Composed):
        return sql.Composed([_filled(part, values) for part in statement])
    return sql.Composed([statement])
