"""How a table of a destination is loaded: replace, append, merge; as steps.

They run in a transaction whose search path is pg_catalog, pg_temp; everything is qualified. A table
that is replaced is emptied, then filled by `copy_rows`. Rows that are appended or merged go into a
temporary table first, and from there into the table by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import psycopg

from copyd.catalog import foreign_keys
from copyd.connection import one_row
from copyd.errors import CopydError
from copyd.loading import staged_rows
from copyd.loading.staged_rows import copy_into_stage, copy_keys, stage, stage_keys
from copyd.loading.step import Later, Result, Step, execute
from copyd.loading.target import Target, copy_rows, delete, lock, select_count, truncate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from copyd.connection import Connection

__all__ = [
    "Applied",
    "Target",
    "append",
    "apply",
    "copy_into_stage",
    "copy_keys",
    "copy_rows",
    "count",
    "delete",
    "insert_all",
    "lock",
    "merge",
    "missed",
    "no_doubles",
    "remove_missing",
    "shrink_refusal",
    "stage",
    "stage_keys",
    "take",
    "truncate",
]

_REACHING = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
"""pg_constraint.confdeltype: what a DELETE does to rows of other tables."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Rows that a merge or append wrote, and those that it had to remove on the way."""

    inserted: int = 0
    updated: int = 0
    removed: int = 0

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.removed + other.removed,
        )


def append(target: Target) -> tuple[Step, ...]:
    """Insert the staged rows whose key is absent."""
    insert = Step(staged_rows.insert_absent(target), Result.INSERTED, target)
    return Step(staged_rows.analyze(target)), insert


def insert_all(target: Target) -> tuple[Step, ...]:
    """Insert the staged rows, which nothing there is compared with."""
    return (Step(staged_rows.insert_all(target), Result.INSERTED, target),)


def merge(target: Target, *, delete_missing: bool = False) -> tuple[Step, ...]:
    """Make the table's rows equal to the staged ones of their keys, and insert the absent.

    ``delete_missing``: keys are staged as well, and `remove_missing` follows. It has to wait for
    other tables, whose rows may still reference those; only where a new row needs a value of a
    missing one is it done here.
    """
    prepared = Step(staged_rows.analyze(target)), no_doubles(target)
    rewrite = _rewrite(target, removes=delete_missing)
    if target.has_fixed_columns:
        return *prepared, *rewrite
    upsert = Step(staged_rows.upsert(target), Result.APPLIED, target, otherwise=rewrite)
    return *prepared, upsert


def no_doubles(target: Target) -> Step:
    """See that no two staged rows have one key."""
    return Step(staged_rows.count_doubles(target), Result.DOUBLES, target)


def remove_missing(target: Target) -> tuple[Step, ...]:
    """Delete the rows whose key is not among the staged keys.

    Children come before parents, and both after the merge of all tables.
    """
    remove = Step(staged_rows.delete_missing(target), Result.REMOVED, target)
    return Step(staged_rows.analyze_keys(target)), remove


def missed(target: Target, column: str) -> Step:
    """Count the staged rows that bounded scans have left out; before they are applied.

    They lie before the ``bound`` in the watermark column, or have NULL there, and are absent at the
    destination or differ.
    """
    query = staged_rows.count_missed(target, column=column, bound=Later("bound"))
    return Step(query, Result.MISSED, target)


def count(target: Target) -> Step:
    """Count the table's rows."""
    return Step(select_count(target), Result.BEFORE, target)


def apply(connection: Connection, steps: Iterable[Step]) -> Applied:
    """Take the `steps` of one table; returns the sum."""
    return sum((take(connection, step)[0] for step in steps), Applied())


def take(
    connection: Connection, step: Step, values: Mapping[str, object] | None = None
) -> tuple[Applied, tuple[Any, ...]]:
    """Take one step; returns the rows that it applied, and its result as it came.

    Raises CopydError where two staged rows have one key, or a rewrite would change rows of other
    tables; psycopg.Error where the server refuses a row.
    """
    if step.is_rewrite:
        _require_unreferenced(connection, step)
    if step.otherwise:
        try:
            with connection.transaction():
                row = execute(connection, step, values)
        except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation):
            return apply(connection, step.otherwise), ()
    else:
        row = execute(connection, step, values)
    if step.result is Result.DOUBLES and row[0]:
        _raise_doubles(step)
    is_applied = step.result in (Result.INSERTED, Result.APPLIED)
    return (Applied(*row) if is_applied else Applied()), row


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


def _rewrite(target: Target, *, removes: bool) -> tuple[Step, ...]:
    """Delete the rows that differ, and insert them anew."""
    rewrite = staged_rows.rewrite(target, removes=removes)
    step = Step(rewrite, Result.APPLIED, target, is_rewrite=True)
    return (Step(staged_rows.analyze_keys(target)), step) if removes else (step,)


def _require_unreferenced(connection: Connection, step: Step) -> None:
    """Raise CopydError where the DELETE would reach rows that reference those of the table."""
    target = step.target
    assert target is not None  # noqa: S101 - `_rewrite` names it
    oid = target.relation.oid
    reached = [
        f"{key.referencing_table} ({key.name}, ON DELETE {_REACHING[key.action]})"
        for key in foreign_keys(connection, [oid])
        if key.referenced == oid and key.action in _REACHING
    ]
    if not reached or not one_row(connection, staged_rows.count_changed(target))[0]:
        return
    why, cure = "two rows swap a unique value", "Make the unique constraint DEFERRABLE, or change"
    if target.has_fixed_columns:
        why, cure = "a column GENERATED ALWAYS AS IDENTITY cannot be updated", "Change"
    raise CopydError(
        f"table {target.relation.label}: {why}, so changed rows would have to be deleted and inserted "
        f"again, and these reference them: {', '.join(reached)}. {cure} the foreign key to ON DELETE "
        "NO ACTION"
    )


def _raise_doubles(step: Step) -> None:
    target = step.target
    assert target is not None  # noqa: S101 - `no_doubles` names it
    raise CopydError(
        f"two rows for table {target.relation.label} have the same key "
        f"({', '.join(target.required_key.columns)}): name a key that is unique at the source"
    )
