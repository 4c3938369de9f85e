"""How a table of a destination is loaded: replace, append, merge.

On a connection in a transaction whose search path is pg_catalog, pg_temp; everything is qualified.
A table that is replaced is emptied, then filled by `copy_rows`. What is appended or merged goes
into a temporary table first and is brought on from there by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import psycopg

from copyd.catalog import foreign_keys
from copyd.connection import one_row
from copyd.errors import CopydError
from copyd.loading import staged_rows
from copyd.loading.staged_rows import copy_into_stage, copy_keys, stage, stage_keys
from copyd.loading.target import Target, copy_rows, delete, lock, select_count, truncate

if TYPE_CHECKING:
    from psycopg import sql

    from copyd.connection import Connection

__all__ = [
    "Applied",
    "Target",
    "append",
    "copy_into_stage",
    "copy_keys",
    "copy_rows",
    "count",
    "delete",
    "insert_all",
    "lock",
    "merge",
    "missed",
    "remove_missing",
    "require_no_doubles",
    "shrink_refusal",
    "stage",
    "stage_keys",
    "truncate",
]

_REACHING = ("c", "n", "d")  # pg_constraint.confdeltype: what a DELETE does to other tables' rows


@dataclass(frozen=True, slots=True)
class Applied:
    """Rows that a merge or append wrote, and those that it had to remove on the way."""

    inserted: int
    updated: int
    removed: int = 0


def append(connection: Connection, target: Target) -> Applied:
    """Insert the staged rows whose key is absent.

    Raises psycopg.errors.UniqueViolation where two of them have one key.
    """
    connection.execute(staged_rows.analyze(target))
    return Applied(connection.execute(staged_rows.insert_absent(target)).rowcount, 0)


def insert_all(connection: Connection, target: Target) -> Applied:
    """Insert the staged rows, which nothing there is compared with."""
    return Applied(connection.execute(staged_rows.insert_all(target)).rowcount, 0)


def merge(connection: Connection, target: Target, *, delete_missing: bool = False) -> Applied:
    """Make the table's rows equal to the staged ones of their keys, and insert the absent.

    ``delete_missing``: keys are staged as well, and `remove_missing` follows. It has to wait for
    other tables, whose rows may still reference those; only where a new row needs what a missing
    one has is it done here.

    Raises CopydError where two staged rows have one key, or a row must be written anew and rows of
    other tables would vanish with it; psycopg.Error where the server refuses a row.
    """
    connection.execute(staged_rows.analyze(target))
    require_no_doubles(connection, target)
    if target.has_fixed_columns:
        return _rewrite(connection, target, removes=delete_missing)
    try:
        with connection.transaction():
            return _applied(connection, staged_rows.upsert(target))
    except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation):
        return _rewrite(connection, target, removes=delete_missing)


def require_no_doubles(connection: Connection, target: Target) -> None:
    """Raise CopydError where two staged rows have one key."""
    if _count(connection, staged_rows.count_doubles(target)):
        raise CopydError(
            f"two rows for table {target.relation.label} have the same key "
            f"({', '.join(target.required_key.columns)}): name a key that is unique at the source"
        )


def remove_missing(connection: Connection, target: Target) -> int:
    """Delete the rows whose key is not among the staged keys; returns how many.

    Children come before parents, and both after the merge of all tables.
    """
    connection.execute(staged_rows.analyze_keys(target))
    return connection.execute(staged_rows.delete_missing(target)).rowcount


def missed(connection: Connection, target: Target, cursor: str, bound: object) -> int:
    """Count the staged rows that a bounded overlap has left out; before they are applied.

    They lie before `bound` in the column `cursor`, or have NULL there, and are absent at the
    destination or differ. `bound`: a value of psycopg's, or the text of one.
    """
    return _count(connection, staged_rows.count_missed(target, cursor=cursor, bound=bound))


def count(connection: Connection, target: Target) -> int:
    """Count the table's rows."""
    return _count(connection, select_count(target))


def shrink_refusal(before: int, after: int, limit: float) -> str | None:
    """Say why a table must not go from `before` to `after` rows; None where it may.

    ``limit``: the largest share of its rows that may vanish.
    """
    gone = before - after
    if gone <= Fraction(str(limit)) * before:
        return None
    return (
        f"{gone:,} of {before:,} rows would vanish, a larger share than max_shrink = {limit:g} "
        "allows: if that is right, raise it for one run"
    )


def _rewrite(connection: Connection, target: Target, *, removes: bool) -> Applied:
    """Delete what differs and insert it anew.

    Raises CopydError where the DELETE would reach rows that reference it.
    """
    oid = target.relation.oid
    reached = [
        f"{key.referencing_table} ({key.name})"
        for key in foreign_keys(connection, [oid])
        if key.referenced == oid and key.action in _REACHING
    ]
    if reached and _count(connection, staged_rows.count_changed(target)):
        raise CopydError(
            f"rows of table {target.relation.label} must be written anew, which would delete or "
            f"change what references them in {', '.join(reached)}: make the constraint that two "
            "of them trade values of deferrable, or that foreign key ON DELETE NO ACTION"
        )
    if removes:
        connection.execute(staged_rows.analyze_keys(target))
    return _applied(connection, staged_rows.rewrite(target, removes=removes))


def _applied(connection: Connection, statement: sql.Composed) -> Applied:
    row = one_row(connection, statement)
    return Applied(*row)


def _count(connection: Connection, statement: sql.Composed) -> int:
    row = one_row(connection, statement)
    return int(row[0])
