"""The classification of an error: transient or not, its kind for metrics, its text for logs.

SQLSTATE, condition and place replace a message that may quote a row.
"""

# Decision: Facts instead of the server's words

from __future__ import annotations

import re

import psycopg

from copyd.copyman import CannotReconcile
from copyd.errors import CopydError
from copyd.server_errors import Message, class_of, copy_line
from copyd.transfers.stop import RunStopped


class RowsRefused(CopydError):
    """Rows of a table were refused; the cause is the server's error, which may quote rows."""


_RAISED_IN = frozenset({"pl_exec.c", "plpy_elog.c", "plperl.c", "pltcl.c"})
"""Source files of the procedural languages: a function chose message and SQLSTATE."""
OTHERS = ("stall", "connection", "refused", "source", "stopped", "other")
"""Kinds of errors without a SQLSTATE; the others are in `copyd.server_errors`."""
NOBODYS = frozenset({"source", "stopped"})  # kinds of errors that are no destination's fault


class SourceFailed(CopydError):
    """The source failed and is given up for this run, with all destinations."""


def counted(number: int, noun: str) -> str:
    """Return a count with its noun, such as "1 table" or "2 tables"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def one_line(error: BaseException) -> str:
    """Return the message on a single line; for terminals only, because it may quote a row."""
    return " ".join(str(error).split()) or type(error).__name__


def in_full(error: BaseException) -> str:
    """Return the message, with its cause, on a single line; for terminals only."""
    cause = error.__cause__
    if isinstance(error, RowsRefused) and cause is not None:
        return f"{one_line(error)}: {one_line(cause)}"
    return one_line(error)


def name_table(error: BaseException, table: str) -> BaseException:
    """Name the table in an error that may quote rows; its CONTEXT may lack the name."""
    if not isinstance(error, psycopg.Error) or not error.sqlstate or _is_safe(error):
        return error
    refused = RowsRefused(f"table {table}: {facts(error)}")
    refused.__cause__ = error
    return refused


def facts(error: BaseException) -> str:
    """Return the text of `error` for logs, on a single line.

    The server's message if it cannot quote a row; else SQLSTATE, condition and place.
    """
    if not isinstance(error, psycopg.Error) or not error.sqlstate:
        return one_line(error)
    if _is_safe(error):
        return " ".join((error.diag.message_primary or one_line(error)).split())
    return f"{error.sqlstate} {_condition(error)}{_place(error)}"


def _is_safe(error: psycopg.Error) -> bool:
    """Whether the message cannot quote a row; a CONTEXT means a function was running."""
    if error.diag.source_file in _RAISED_IN:
        return False
    message = class_of(error.sqlstate or "").message
    has_names_only = message is Message.NAMES and error.diag.context is None
    return message is Message.SAFE or has_names_only


def _condition(error: psycopg.Error) -> str:
    """Return PostgreSQL's condition name; psycopg names its exception classes after it."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def _place(error: psycopg.Error) -> str:
    diag = error.diag
    table = diag.table_name and f"table {diag.schema_name}.{diag.table_name}"
    column = diag.column_name and f"column {diag.column_name}"
    constraint = diag.constraint_name and f"constraint {diag.constraint_name}"
    number = copy_line(diag.context)
    line = number and f"line {number} of its COPY"
    said = ", ".join(part for part in (table, column, constraint, line) if part)
    return f": {said}" if said else ""


def is_transient(error: BaseException) -> bool:
    """Whether the cause may pass by itself: a lost connection, a stall, a shutdown."""
    error = _root(error)
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return error.sqlstate.startswith(class_of(error.sqlstate).transient)
    return isinstance(error, (psycopg.OperationalError, OSError, TimeoutError))


def kind(error: BaseException) -> str:
    """Return the kind of `error`, a label of metrics."""
    if isinstance(error, (SourceFailed, RunStopped)):
        return "source" if isinstance(error, SourceFailed) else "stopped"
    error = _root(error)
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return class_of(error.sqlstate).kind
    if isinstance(error, (TimeoutError, CannotReconcile)):
        return "stall"
    if isinstance(error, (psycopg.OperationalError, OSError)):
        return "connection"
    return "refused" if isinstance(error, CopydError) else "other"


def _root(error: BaseException) -> BaseException:
    """Return the cause behind copyd's own errors; errors are classified by their cause."""
    while isinstance(error, CopydError) and error.__cause__ is not None:
        error = error.__cause__
    return error
