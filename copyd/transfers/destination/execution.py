"""Executes actions in a session, and notes their results in the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.loading import Result, guards, strategies
from copyd.transfers.destination.actions import COMMIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.transfers.destination.actions import Action, Phase
    from copyd.transfers.destination.session import Session
    from copyd.transfers.destination.table_load import TableLoad


class Execution:
    """Executes the actions of `run` in `session`."""

    def __init__(self, session: Session, run: str) -> None:
        self._session = session
        self._run = run
        self._transaction: tuple[object, ...] | None = None

    def perform(self, actions: Iterable[Action]) -> None:
        """Execute `actions` in order; raises psycopg.Error, CopydError for a refused result."""
        for action in actions:
            if action.step.statement is not COMMIT:
                self.execute(action)

    def execute(self, action: Action) -> None:
        """Execute one action; raises as `perform`."""
        self._session.look_in(action.path)
        table, result = action.table, action.step.result
        connection = self._session.connection
        applied, row = strategies.take(connection, action.step, self._values(table))
        if result is Result.TRANSACTION:
            self._require_same_transaction(row, action.phase)
        if table is None:
            return
        if result is Result.BEFORE:
            table.before = row[0]
        elif result is Result.LEFT and row[0]:
            raise CopydError(guards.rows_left_refusal(table.target, table.delete_triggers))
        elif result is Result.MISSED:
            table.missed = row[0]
        elif result in (Result.INSERTED, Result.APPLIED):
            table.note(applied)
        elif result is Result.REMOVED:
            table.note_removed(row[0])

    def _values(self, table: TableLoad | None) -> dict[str, object]:
        values: dict[str, object] = {"run": self._run}
        if table is not None:
            values |= {"rows": table.held, "size": table.size}
            values |= {"bound": table.bound, "mark": table.watermark}
        return values

    def _require_same_transaction(self, row: tuple[object, ...], phase: Phase) -> None:
        # Called before and after the operator's SQL: the first call remembers, the second compares.
        before, self._transaction = self._transaction, None if self._transaction else row
        if before is not None and before != row:
            key = phase.name.lower()
            raise CopydError(f"{key} ends the transaction: leave COMMIT and ROLLBACK out of it")
