"""The statements of replace, append and merge for a table of a destination.

The search path is pg_catalog, pg_temp; all other names are qualified. Replace empties the table and
uses `copy_rows`. Append and merge copy rows into a staging table, then apply them by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from copyd.catalog import foreign_keys
from copyd.connection import one_row
from copyd.errors import CopydError
from copyd.loading import staged_rows
from copyd.loading.step import Later, Result, Step, execute
from copyd.loading.target import copy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from copyd.connection import Connection
    from copyd.loading.target import Target


@dataclass(frozen=True, slots=True)
class Applied:
    """Rows written and removed by a merge or append."""

    inserted: int = 0
    updated: int = 0
    removed: int = 0

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.removed + other.removed,
        )


def lock(targets: Sequence[Target]) -> sql.Composed:
    """Block other writers until COMMIT, not readers."""
    tables = sql.SQL(", ").join(target.rows for target in targets)
    return sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(tables)


def delete(target: Target) -> sql.Composed:
    """Delete all rows; readers see them until COMMIT."""
    return sql.SQL("DELETE FROM {}").format(target.rows)


def truncate(targets: Sequence[Target]) -> sql.Composed:
    """Empty the tables, but no child tables; readers wait until COMMIT."""
    # One statement, because the tables may reference one another.
    tables = sql.SQL(", ").join(target.rows for target in targets)
    return sql.SQL("TRUNCATE TABLE {} CONTINUE IDENTITY RESTRICT").format(tables)


def copy_rows(target: Target, *, format: str, freeze: bool = False) -> sql.Composed:  # noqa: A002 - COPY's own word
    """COPY into the table itself."""
    return copy(target.relation.identifier, target.names, format=format, freeze=freeze)


def append(target: Target) -> tuple[Step, ...]:
    """Insert the staged rows whose key is absent."""
    insert = Step(staged_rows.insert_absent(target), Result.INSERTED, target)
    return Step(staged_rows.analyze(target)), insert


def insert_all(target: Target) -> tuple[Step, ...]:
    """Insert all staged rows, without comparing keys."""
    return (Step(staged_rows.insert_all(target), Result.INSERTED, target),)


def merge(target: Target, *, delete_missing: bool = False) -> tuple[Step, ...]:
    """Update rows which differ from the staged ones, and insert the absent.

    ``delete_missing``: keys are staged too, and `remove_missing` follows.
    """
    # Missing rows stay until all tables are merged, because other tables may still reference them.
    # Only a rewrite deletes them here: a new row may need the unique value of a missing one.
    prepared = Step(staged_rows.analyze(target)), no_doubles(target)
    rewrite = _rewrite(target, removes=delete_missing)
    if target.has_fixed_columns:
        return *prepared, *rewrite
    upsert = Step(staged_rows.upsert(target), Result.APPLIED, target, otherwise=rewrite)
    return *prepared, upsert


def no_doubles(target: Target) -> Step:
    """Check for staged rows with the same key."""
    return Step(staged_rows.count_doubles(target), Result.DOUBLES, target)


def remove_missing(target: Target) -> tuple[Step, ...]:
    """Delete rows whose key is not staged: after the merge of all tables, children first."""
    remove = Step(staged_rows.delete_missing(target), Result.REMOVED, target)
    return Step(staged_rows.analyze_keys(target)), remove


def missed(target: Target, column: str) -> Step:
    """Count staged rows which bounded scans missed; before they are applied.

    These rows are below the ``bound`` in the watermark column, or have NULL, and are absent at the
    destination or differ.
    """
    query = staged_rows.count_missed(target, column=column, bound=Later("bound"))
    return Step(query, Result.MISSED, target)


def count(target: Target) -> Step:
    """Count the table's rows before the load."""
    query = sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(target.rows)
    return Step(query, Result.BEFORE, target)


def apply(connection: Connection, steps: Iterable[Step]) -> Applied:
    """Execute the `steps` of a table; returns the sum."""
    return sum((take(connection, step)[0] for step in steps), Applied())


def take(
    connection: Connection, step: Step, values: Mapping[str, object] | None = None
) -> tuple[Applied, tuple[Any, ...]]:
    """Execute a step; returns the applied rows and the result row.

    Raises CopydError if staged rows have the same key, or a rewrite would change other tables;
    psycopg.Error if the server refuses a row.
    """
    if step.is_rewrite:
        _require_unreferenced(connection, step)
    if step.otherwise:
        # Decision: Rows that swap unique values are deleted and inserted
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
    """Say why a table must not shrink from `before` to `after` rows; None if it may.

    ``limit``: the largest share of rows which may vanish.
    """
    gone = before - after
    # By way of str, because the float 0.1 is more than a tenth.
    if gone <= Fraction(str(limit)) * before:
        return None
    return (
        f"{gone:,} of {before:,} rows would vanish, a larger share than max_shrink = {limit:g} "
        "allows: if that is right, raise it for one run"
    )


def _rewrite(target: Target, *, removes: bool) -> tuple[Step, ...]:
    rewrite = staged_rows.rewrite(target, removes=removes)
    step = Step(rewrite, Result.APPLIED, target, is_rewrite=True)
    return (Step(staged_rows.analyze_keys(target)), step) if removes else (step,)


def _require_unreferenced(connection: Connection, step: Step) -> None:
    """Raise CopydError if the DELETE of a rewrite would change rows of referencing tables."""
    target = step.target
    assert target is not None  # noqa: S101 - `_rewrite` names it
    oid = target.relation.oid
    reached = [
        f"{key.referencing_table} ({key.name}, ON DELETE {key.effect})"
        for key in foreign_keys(connection, [oid])
        if key.referenced == oid and key.effect
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
