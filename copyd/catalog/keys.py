"""Unique keys for merges, foreign keys, and deferrable constraints, from the catalog."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.names import TableName, quote
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from copyd.connection import Connection

_KEYS = statement("copyd.catalog", "keys")
_FOREIGN_KEYS = statement("copyd.catalog", "foreign_keys")
_DEFERRABLE = statement("copyd.catalog", "deferrable_constraints")
_EFFECTS = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


@dataclass(frozen=True, slots=True)
class Key:
    """NOT NULL columns of a table which together are unique.

    ``operators``: for each column the = operator of the unique index, as SQL.
    """

    columns: tuple[str, ...]
    operators: tuple[str, ...]
    is_primary: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key; ``action`` is pg_constraint.confdeltype."""

    referencing: int
    referenced: int
    action: str
    is_deferrable: bool
    name: str
    referencing_table: str = ""

    @property
    def effect(self) -> str | None:
        """The change of referencing rows ON DELETE; None for NO ACTION and RESTRICT."""
        return _EFFECTS.get(self.action)


def usable_keys(connection: Connection, oids: Sequence[int]) -> Mapping[int, Sequence[Key]]:
    """Return the usable keys of the tables `oids`, the primary key first."""
    keys: defaultdict[int, list[Key]] = defaultdict(list)
    for oid, columns, schemas, operators, is_primary in connection.execute(_KEYS, [oids]):
        qualified = zip(schemas, operators, strict=True)
        spelled = tuple(f"OPERATOR({quote(schema)}.{name})" for schema, name in qualified)
        keys[oid].append(Key(tuple(columns), spelled, is_primary))
    return keys


def foreign_keys(connection: Connection, oids: Sequence[int]) -> tuple[ForeignKey, ...]:
    """Return the enforced foreign keys from and to the tables `oids`.

    Keys of a partition count as keys of its partitioned table, if `oids` has it.
    """
    can_be_off = connection.info.server_version >= 180_000
    is_enforced = sql.SQL("k.conenforced" if can_be_off else "true")
    query = _FOREIGN_KEYS.format(is_enforced=is_enforced)
    rows = connection.execute(query, {"oids": list(oids)}).fetchall()
    return tuple(
        ForeignKey(child, parent, action, is_deferrable, name, str(TableName(*child_name)))
        for child, parent, action, is_deferrable, name, child_name in rows
    )


def deferrable_constraints(
    connection: Connection, oid: int, *, foreign_keys: bool = True
) -> tuple[sql.Identifier, ...]:
    """Return the names of a table's deferrable constraints."""
    parameters = {"oid": oid, "foreign_keys": foreign_keys}
    rows = connection.execute(_DEFERRABLE, parameters).fetchall()
    return tuple(sql.Identifier(schema, name) for schema, name in rows)
