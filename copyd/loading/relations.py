"""A table, or what stands for one: looked up once, then a frozen fact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from copyd.errors import CopydError

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]

_KINDS = ("r", "p", "v", "m", "f")  # pg_class.relkind: what holds rows, foreign tables last
_LOCKABLE = ("r", "p", "v")

_LOOK_UP = """
SELECT c.oid::bigint, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       c.relkind = 'r' AND c.relhassubclass AS has_children,
       CASE WHEN c.reltuples > 0 AND c.relpages > 0
            THEN (c.reltuples / c.relpages * pg_relation_size(c.oid)
                  / current_setting('block_size')::int)::bigint
       END AS estimated_rows
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = pg_catalog.to_regclass(%s)
"""
_COLUMNS = """
SELECT attname AS name, pg_catalog.format_type(atttypid, atttypmod) AS type,
       attgenerated <> '' AS is_generated
  FROM pg_catalog.pg_attribute
 WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped
 ORDER BY attnum
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``type`` as ``format_type`` spells it."""

    name: str
    type: str
    is_generated: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation of one database; ``estimated_rows`` is None where it was never analyzed."""

    oid: int
    schema: str
    name: str
    kind: str
    has_children: bool
    estimated_rows: int | None
    columns: tuple[Column, ...]

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified, quoted name."""
        return sql.Identifier(self.schema, self.name)

    @property
    def is_table(self) -> bool:
        """Whether COPY reads all its rows without a SELECT: those of children need one."""
        return self.kind == "r" and not self.has_children

    @property
    def is_lockable(self) -> bool:
        """Whether LOCK TABLE takes it."""
        return self.kind in _LOCKABLE


def look_up(connection: Connection, name: str) -> Relation:
    """Find what `name`, written as in SQL, stands for.

    Raises CopydError where there is no such relation, or it is none that holds rows.
    """
    if not name.strip():
        raise CopydError("'' is no table name; write it as SCHEMA.TABLE")
    try:
        found = connection.execute(_LOOK_UP, [name]).fetchone()
    except (psycopg.errors.SyntaxError, psycopg.errors.InvalidName) as error:
        raise CopydError(f"{name!r} is no table name; write it as SCHEMA.TABLE") from error
    if found is None or found[3] not in _KINDS:
        raise CopydError(f"there is no table {name}")
    with connection.cursor(row_factory=class_row(Column)) as cursor:
        columns = cursor.execute(_COLUMNS, [found[0]]).fetchall()
    oid, schema, table, kind, has_children, estimated_rows = found
    return Relation(oid, schema, table, kind, has_children, estimated_rows, tuple(columns))


def query_columns(connection: Connection, query: str) -> tuple[Column, ...]:
    """Return the columns that `query` yields, without running it.

    What it reads is locked (ACCESS SHARE) until the transaction ends. Prepared, because only one
    statement can be: a query that closes its parenthesis and goes on is refused.

    Raises psycopg.Error where the server refuses it, CopydError where two columns have one name.
    """
    probe = f"SELECT * FROM ({query}\n) AS query LIMIT 0"  # noqa: S608 - SQL is what it is
    description = connection.execute(probe.encode(), prepare=True).description or []
    names = [column.name for column in description]
    for name in names:
        if names.count(name) > 1:
            raise CopydError(f"the query has two columns named {name}: name each once, with AS")
    types = [column.type_display for column in description]
    return tuple(Column(name, kind) for name, kind in zip(names, types, strict=True))
