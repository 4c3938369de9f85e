"""A server's reason for refusing a row; pure.

Message, detail and context may quote the row: they are written to reject files, never to a log, an
event or a ``repr``.
"""

# Decision: Facts instead of the server's words

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.server_errors import CONFLICTS, FOREIGN_KEY, Blame, class_of, copy_line

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

_RAISE = "exec_stmt_raise"  # PostgreSQL's C function for PL/pgSQL's RAISE


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row was refused; ``line``: its number in the COPY, from 1, if known."""

    sqlstate: str
    message: str = field(repr=False)
    detail: str | None = field(default=None, repr=False)
    hint: str | None = field(default=None, repr=False)
    context: str | None = field(default=None, repr=False)
    constraint: str | None = None
    column: str | None = None
    line: int | None = None

    @classmethod
    def of(cls, error: psycopg.Error) -> Refusal:
        """Read the server's error."""
        diag = error.diag
        return cls(
            sqlstate=error.sqlstate or "XX000",
            message=diag.message_primary or str(error),
            detail=diag.message_detail,
            hint=diag.message_hint,
            context=diag.context,
            constraint=diag.constraint_name,
            column=diag.column_name,
            line=copy_line(diag.context),
        )

    @property
    def is_conflict(self) -> bool:
        """Whether the row conflicts with another row."""
        return self.sqlstate in CONFLICTS

    @property
    def may_pass(self) -> bool:
        """Whether the row may be accepted once the referenced row is loaded."""
        return self.sqlstate == FOREIGN_KEY


@dataclass(frozen=True, slots=True)
class Reject:
    """A refused row, as received, with its newline.

    ``ordinal``: its number in the copy, from 1. ``batch``: the number of its batch, from 1.
    """

    ordinal: int
    batch: int
    row: bytes = field(repr=False)
    refusal: Refusal


class Rejects:
    """Counts rejects and calls `on_reject` with each; at most `most`, None for any number."""

    def __init__(self, on_reject: Callable[[Reject], object], most: int | None) -> None:
        self.count = 0
        self._on_reject = on_reject
        self._most = most

    def add(self, reject: Reject) -> None:
        """Count `reject` and call `on_reject`; raises CopydError if there are too many."""
        self.count += 1
        self.require_room()
        self._on_reject(reject)

    def require_room(self, more: int = 0) -> None:
        """Raise CopydError if `more` rejects would be too many."""
        if self._most is not None and self.count + more > self._most:
            raise CopydError(f"more than {self._most} rows were rejected (max_rejects)")


def is_about_a_row(error: psycopg.Error) -> bool:
    """Whether a row is to blame, rather than the connection, the statement or the server."""
    if error.sqlstate is None:
        return False
    blame = class_of(error.sqlstate).blame
    is_raised = error.diag.source_function == _RAISE
    return blame is Blame.ROW or (is_raised and blame is Blame.RAISED)
