"""One statement of a load as data, and the one function that executes it.

What a run will send can be printed before it is sent, because statements are composed here and
executed there. A value that only the run knows is `Later` in it.
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
    """The meaning of the row that a statement returns, or else of the number of rows it touched."""

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
    """A value that only the run will know; printed as ``:shown``, as psql writes a variable."""

    def __init__(self, name: str, shown: str | None = None) -> None:
        super().__init__(shown or name)
        self.name = name

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        del context
        return f":{self._obj}".encode()


@dataclass(frozen=True, slots=True)
class Step:
    """A statement and its result, which is about `target` where there is one.

    ``otherwise``: the steps to take in its place where rows trade values of a unique key; then it is
    executed in a savepoint. ``is_rewrite``: it deletes and inserts rows that others may reference.
    """

    statement: sql.Composable
    result: Result = Result.NOTHING
    target: Target | None = None
    otherwise: tuple[Step, ...] = ()
    is_rewrite: bool = False


def execute(
    connection: Connection, step: Step, values: Mapping[str, object] | None = None
) -> tuple[Any, ...]:
    """Execute one statement of a load, `values` in the place of what was to come `Later`.

    Returns its row, or the number of rows that it touched; nothing where the result is NOTHING.
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
