"""A table of a destination that is loaded, and the statements that need nothing but it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.errors import CopydError
from copyd.names import TableName

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from copyd.catalog import Column, Key, Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A table, the columns that are loaded, in the order in which they travel, and its key.

    ``number`` tells the staging tables of one transaction apart.
    """

    relation: Relation
    columns: tuple[Column, ...]
    key: Key | None
    number: int

    @property
    def name(self) -> TableName:
        """The table's name, as the ledger has it."""
        return TableName(self.relation.schema, self.relation.name)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

    @property
    def others(self) -> tuple[str, ...]:
        """The columns that hold something of the destination's own."""
        return tuple(
            column.name
            for column in self.relation.columns
            if not column.is_generated and column.name not in self.names
        )

    @property
    def has_fixed_columns(self) -> bool:
        """Whether a column outside the key cannot be set, so that a new value takes a new row."""
        key = self.key.columns if self.key is not None else ()
        return any(column.identity == "a" and column.name not in key for column in self.columns)

    @property
    def rows(self) -> sql.Composed:
        """Its rows for SELECT, UPDATE and DELETE: a partitioned table's, or those of it alone."""
        only = sql.SQL("" if self.relation.kind == "p" else "ONLY ")
        return sql.Composed([only, self.relation.identifier])

    @property
    def required_key(self) -> Key:
        """The key; raises CopydError where there is none."""
        if self.key is None:
            raise CopydError(
                f"table {self.relation.label} has no key to tell its rows apart by: name one, or "
                'use mode = "replace"'
            )
        return self.key


def lock(targets: Sequence[Target]) -> sql.Composed:
    """Keep other writers out until COMMIT; readers go on."""
    tables = sql.SQL(", ").join(target.rows for target in targets)
    return sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(tables)


def delete(target: Target) -> sql.Composed:
    """Delete all rows; who reads sees them until COMMIT."""
    return sql.SQL("DELETE FROM {}").format(target.rows)


def truncate(targets: Sequence[Target]) -> sql.Composed:
    """Empty the tables, in one statement because they may reference one another.

    ONLY, because children that are not among the targets are not to be emptied. Readers wait until
    COMMIT.
    """
    tables = sql.SQL(", ").join(target.rows for target in targets)
    return sql.SQL("TRUNCATE TABLE {} CONTINUE IDENTITY RESTRICT").format(tables)


def copy_rows(
    target: Target,
    *,
    format: str,  # noqa: A002 - COPY's own word
    freeze: bool = False,
) -> sql.Composed:
    """COPY into the table itself; ``freeze`` only after its TRUNCATE."""
    return copy(target.relation.identifier, target.names, format=format, freeze=freeze)


def copy(
    table: sql.Composable,
    columns: Iterable[str],
    *,
    format: str,  # noqa: A002 - COPY's own word
    freeze: bool = False,
) -> sql.Composed:
    """COPY `columns` into `table`."""
    return sql.SQL("COPY {table} ({columns}) FROM STDIN (FORMAT {format}{freeze})").format(
        table=table,
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        format=sql.Identifier(format),
        freeze=sql.SQL(", FREEZE" if freeze else ""),
    )


def select_count(target: Target) -> sql.Composed:
    """Count the rows."""
    return sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(target.rows)
