"""What a server says of a row that it does not take; pure.

Message, detail and context may quote the row: they are for the reject's own files, never for a
log, an event or a ``repr``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

ROW_CLASSES = frozenset({"22", "23", "38", "39", "54", "P0"})
"""SQLSTATE classes of errors that a row is to blame for: its data, a constraint, a limit, what a
function of a trigger raised. PostgreSQL documentation, "Error Codes"."""
FOREIGN_KEY = "23503"
_CONFLICTS = ("23505", "23P01")  # unique, exclusion
_RAISE = "exec_stmt_raise"
_RAISED_CLASSES_THAT_PASS = frozenset({"08", "40", "53", "55", "57"})
# "COPY t, line 7, column x: ..."; the table's name may hold commas, the words may be translated, and
# the value behind may look like it. A trigger's own lines stand before it.
_LINE = re.compile(r"(?m)^COPY .*?, \S+ (\d+)(?:,|:|$)")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row was refused; ``line`` counts the rows of its COPY from 1, where the server knows."""

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
        """Read what the server said."""
        diag = error.diag
        return cls(
            sqlstate=error.sqlstate or "XX000",
            message=diag.message_primary or str(error),
            detail=diag.message_detail,
            hint=diag.message_hint,
            context=diag.context,
            constraint=diag.constraint_name,
            column=diag.column_name,
            line=line_of(diag.context),
        )

    @property
    def is_conflict(self) -> bool:
        """Whether the row is in the way of another one."""
        return self.sqlstate in _CONFLICTS

    @property
    def may_pass(self) -> bool:
        """Whether the row may be taken once others are there."""
        return self.sqlstate == FOREIGN_KEY


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was refused, as it was received, with its newline.

    ``ordinal``: which row of the copy, from 1. ``batch``: which batch it came in, from 1.
    """

    ordinal: int
    batch: int
    row: bytes = field(repr=False)
    refusal: Refusal


def is_about_a_row(error: psycopg.Error) -> bool:
    """Whether a row is to blame, and not the connection, the statement or the server.

    What RAISE said in a trigger is about the row, whatever SQLSTATE it chose, unless that is one
    of a fault that passes.
    """
    state = error.sqlstate
    if state is None:
        return False
    is_raised = error.diag.source_function == _RAISE
    return state[:2] in ROW_CLASSES or (is_raised and state[:2] not in _RAISED_CLASSES_THAT_PASS)


def line_of(context: str | None) -> int | None:
    """Return the line of COPY that a server's CONTEXT names, None where it names none."""
    found = _LINE.findall(context or "")
    return int(found[-1]) if found else None
