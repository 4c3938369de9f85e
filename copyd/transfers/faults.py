"""One error, classified: may it pass, how is it counted, and how much of it may be logged.

A message that may quote a row is replaced by SQLSTATE, condition and place.
"""

from __future__ import annotations

import re

import psycopg

from copyd.copyman import CannotReconcile
from copyd.errors import CopydError
from copyd.server_errors import Message, class_of, copy_line, is_transient_state
from copyd.transfers.stop import RunStopped


class RowsRefused(CopydError):
    """Rows of a table were refused; the cause is the server's error, which may quote them."""


_RAISED_IN = frozenset({"pl_exec.c", "plpy_elog.c", "plperl.c", "pltcl.c"})
"""Source files of the procedural languages: a function chose message and SQLSTATE."""
OTHERS = ("stall", "connection", "refused", "source", "stopped", "other")
"""Kinds of errors without a SQLSTATE; those with one are in `copyd.server_errors`."""
NOBODYS = frozenset({"source", "stopped"})
"""Kinds for which no destination can be blamed."""


class SourceFailed(CopydError):
    """The source is given up for this run, whatever its destinations are like."""


def counted(number: int, noun: str) -> str:
    """Return "1 table", "2 tables": for nouns that take an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def one_line(error: BaseException) -> str:
    """Return the message of `error` on one line; it may quote a row: for the terminal only."""
    return " ".join(str(error).split()) or type(error).__name__


def in_full(error: BaseException) -> str:
    """Return everything about `error`, its cause included, on one line; for the terminal only."""
    cause = error.__cause__
    if isinstance(error, RowsRefused) and cause is not None:
        return f"{one_line(error)}: {one_line(cause)}"
    return one_line(error)


def name_table(error: BaseException, table: str) -> BaseException:
    """Name the table in an error that may quote rows: its CONTEXT may not."""
    if not isinstance(error, psycopg.Error) or not error.sqlstate or _is_safe(error):
        return error
    refused = RowsRefused(f"table {table}: {facts(error)}")
    refused.__cause__ = error
    return refused


def facts(error: BaseException) -> str:
    """Return what may be logged of `error`, on one line.

    The server's message where it cannot quote a row; else SQLSTATE, condition and place.
    """
    if not isinstance(error, psycopg.Error) or not error.sqlstate:
        return one_line(error)
    if _is_safe(error):
        return " ".join((error.diag.message_primary or one_line(error)).split())
    return f"{error.sqlstate} {_condition(error)}{_place(error)}"


def _is_safe(error: psycopg.Error) -> bool:
    """Whether the message cannot quote a row; a CONTEXT means that a function was running."""
    if error.diag.source_file in _RAISED_IN:
        return False
    message = class_of(error.sqlstate or "").message
    has_names_only = message is Message.NAMES and error.diag.context is None
    return message is Message.SAFE or has_names_only


def _condition(error: psycopg.Error) -> str:
    """The condition's name as PostgreSQL spells it, from the class that psycopg names after it."""
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
    """Whether the cause may pass by itself: a lost connection, a stall, a server going down."""
    error = _root(error)
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return is_transient_state(error.sqlstate)
    return isinstance(error, (psycopg.OperationalError, OSError, TimeoutError))


def kind(error: BaseException) -> str:
    """Return the kind under which metrics count `error`."""
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
    """Return the error behind sentences of ours: they are classified by their cause."""
    while isinstance(error, CopydError) and error.__cause__ is not None:
        error = error.__cause__
    return error
