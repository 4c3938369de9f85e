"""What may be told of an error: its words, or only its facts where the words may quote a row."""

from __future__ import annotations

import re

import psycopg

from copyd.copyman import CannotReconcile
from copyd.errors import CopydError
from copyd.transfers.stopping import RunStopped


class RowsRefused(CopydError):
    """Rows of a table were refused; the cause is what the server said, which may quote them."""


# Errors of these SQLSTATE classes speak of connections, locks and resources, never of values that
# are stored; those of the others of names and privileges, and functions make names out of values.
# PostgreSQL documentation, "Error Codes".
_OF_STATES = frozenset("08 25 40 53 55 57".split())  # noqa: SIM905 - easier to read
_OF_NAMES = frozenset("0A 0L 0P 26 28 34 3B 3D 3F 42 58".split())  # noqa: SIM905 - as above
# Where procedural languages raise what a function says, under any SQLSTATE.
_RAISED_IN = frozenset({"pl_exec.c", "plpy_elog.c", "plperl.c", "pltcl.c"})
# "COPY t, line 7, column x: ..."; the table's name may hold commas, the words may be translated.
_LINE = re.compile(r"(?m)^COPY .*?, \S+ (\d+)(?:,|:|$)")


def counted(number: int, noun: str) -> str:
    """Return "1 table", "2 tables": for nouns that take an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def one_line(error: BaseException) -> str:
    """Return what `error` says, on one line; for the person who runs the command alone."""
    return " ".join(str(error).split()) or type(error).__name__


def in_full(error: BaseException) -> str:
    """Return all that is known of `error`, on one line; for the person who runs the command."""
    cause = error.__cause__
    if isinstance(error, RowsRefused) and cause is not None:
        return f"{one_line(error)}: {one_line(cause)}"
    return one_line(error)


def name_table(error: BaseException, table: str) -> BaseException:
    """Say which table it was where `error` is about rows: COPY may have gone elsewhere first."""
    if not isinstance(error, psycopg.Error) or not error.sqlstate:
        return error
    if _is_without_values(error, error.sqlstate[:2]):
        return error
    refused = RowsRefused(f"table {table}: {facts(error)}")
    refused.__cause__ = error
    return refused


def facts(error: BaseException) -> str:
    """Return what anybody may know of `error`, on one line.

    The server's own words where they cannot hold what a row holds; else SQLSTATE, condition, and
    where it happened.
    """
    if not isinstance(error, psycopg.Error) or not error.sqlstate:
        return one_line(error)
    if _is_without_values(error, error.sqlstate[:2]):
        return " ".join((error.diag.message_primary or one_line(error)).split())
    return f"{error.sqlstate} {_condition(error)}{_place(error)}"


def _is_without_values(error: psycopg.Error, of_class: str) -> bool:
    """Whether the words cannot hold what a row holds; a context says that a function was at work."""
    diag = error.diag
    if diag.source_file in _RAISED_IN:
        return False
    return of_class in _OF_STATES or (of_class in _OF_NAMES and diag.context is None)


def _condition(error: psycopg.Error) -> str:
    """The condition's name as PostgreSQL spells it, from the class that psycopg names after it."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def _place(error: psycopg.Error) -> str:
    diag = error.diag
    table = diag.table_name and f"table {diag.schema_name}.{diag.table_name}"
    column = diag.column_name and f"column {diag.column_name}"
    constraint = diag.constraint_name and f"constraint {diag.constraint_name}"
    found = _LINE.search(diag.context or "")
    line = found and f"line {found[1]} of its COPY"
    said = ", ".join(part for part in (table, column, constraint, line) if part)
    return f": {said}" if said else ""


TRANSIENT_CLASSES = ("08", "40", "53")
TRANSIENT_STATES = ("57P01", "57P02", "57P03", "57P05", "55P03", "25006")


def is_transient(error: BaseException) -> bool:
    """Whether the cause may pass by itself: a lost connection, a stall, a server going down.

    By SQLSTATE where the server gave one; PostgreSQL documentation, "Error Codes". A sentence of
    ours is as transient as what it was raised from.
    """
    while isinstance(error, CopydError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, psycopg.Error) and error.sqlstate:
        state = error.sqlstate
        return state[:2] in TRANSIENT_CLASSES or state in TRANSIENT_STATES
    return isinstance(error, (psycopg.OperationalError, OSError, TimeoutError))


OF_CLASSES = {
    "08": "connection",
    "0A": "feature_not_supported",
    "22": "data",
    "23": "constraint",
    "25": "transaction_state",
    "28": "authorization",
    "3D": "catalog",
    "3F": "schema",
    "40": "rollback",
    "42": "definition_or_privilege",
    "53": "resources",
    "54": "limit",
    "55": "state_or_lock",
    "57": "intervention",
    "58": "system",
    "P0": "raised",
    "XX": "internal",
}
OTHERS = ("stall", "connection", "refused", "source", "stopped", "other")
"""Of errors without a SQLSTATE: late, lost, refused by copyd itself, no destination's doing."""
NOBODYS = frozenset({"source", "stopped"})
"""Kinds for which no destination can be blamed."""


class SourceFailed(CopydError):
    """The source is given up for this run, whatever its destinations are like."""


def kind(error: BaseException) -> str:
    """Return what to count `error` as; a sentence of ours is of the kind of what caused it."""
    if isinstance(error, (SourceFailed, RunStopped)):
        return "source" if isinstance(error, SourceFailed) else "stopped"
    while isinstance(error, CopydError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return OF_CLASSES.get(error.sqlstate[:2], "other")
    if isinstance(error, (TimeoutError, CannotReconcile)):
        return "stall"
    if isinstance(error, (psycopg.OperationalError, OSError)):
        return "connection"
    return "refused" if isinstance(error, CopydError) else "other"
