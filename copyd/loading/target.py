"""A table of a destination, as a run loads it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.errors import CopydError
from copyd.names import TableName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.catalog import Column, Key, Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A table, the columns to load, in the order of the copied rows, and its key.

    ``number``: for the names of its staging tables, unique within the transaction.
    """

    relation: Relation
    columns: tuple[Column, ...]
    key: Key | None
    number: int

    @property
    def name(self) -> TableName:
        return TableName(self.relation.schema, self.relation.name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the columns which the run does not load."""
        return tuple(
            column.name
            for column in self.relation.columns
            if not column.is_generated and column.name not in self.names
        )

    @property
    def has_fixed_columns(self) -> bool:
        """Whether UPDATE cannot set a column outside the key: GENERATED ALWAYS AS IDENTITY."""
        key = self.key.columns if self.key is not None else ()
        return any(column.identity == "a" and column.name not in key for column in self.columns)

    @property
    def rows(self) -> sql.Composed:
        """The table in FROM; ONLY, because rows of child tables are not its own."""
        only = sql.SQL("" if self.relation.kind == "p" else "ONLY ")
        return sql.Composed([only, self.relation.identifier])

    @property
    def required_key(self) -> Key:
        """The key; raises CopydError if there is none."""
        if self.key is None:
            raise CopydError(
                f"table {self.relation.label} has no key to identify its rows by: name one, or "
                'use mode = "replace"'
            )
        return self.key


def copy(
    table: sql.Composable,
    columns: Iterable[str],
    *,
    format: str,  # noqa: A002 - COPY's own word
    freeze: bool = False,
) -> sql.Composed:
    """Return the COPY of `columns` into `table`; ``freeze`` only after TRUNCATE."""
    return sql.SQL("COPY {table} ({columns}) FROM STDIN (FORMAT {format}{freeze})").format(
        table=table,
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        format=sql.Identifier(format),
        freeze=sql.SQL(", FREEZE" if freeze else ""),
    )
