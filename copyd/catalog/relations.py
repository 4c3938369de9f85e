"""Relations and the columns of queries: looked up once, then frozen.

Only `look_up`, `look_up_all` and `query_columns` use the search path, and only for the given names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

import psycopg
from psycopg import sql

from copyd.catalog.binary_types import Types
from copyd.catalog.keys import Key, usable_keys
from copyd.errors import CopydError
from copyd.names import TableName
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from psycopg.pq.abc import PGresult

    from copyd.connection import Connection
    from copyd.names import Pattern

_KINDS = ("r", "p", "v", "m", "f")  # pg_class.relkind: relations with rows, foreign tables last
_TABLES = ("r", "p")
_LOCKABLE = ("r", "p", "v")  # by LOCK TABLE

_RELATIONS = statement("copyd.catalog", "relations")
_OIDS = statement("copyd.catalog", "oids")
_PART = r'\s*(?:"(?:[^"]|"")*"|[^\s".][^\s.]*)\s*'
_NAME = re.compile(rf"{_PART}(?:\.{_PART}){{0,2}}")  # as to_regclass reads a name
_NAMES = statement("copyd.catalog", "names")
_COLUMNS = statement("copyd.catalog", "columns")
_WRITTEN = statement("copyd.catalog", "type_names")


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``type`` as ``format_type`` spells it, users' types with their schema.

    ``identity``: '', 'a' (always) or 'd' (by default). ``is_required``: NOT NULL, no default.
    ``category``: pg_type.typcategory. ``signature``, ``binary_refusal``, ``is_user_compound``: see
    `copyd.catalog.binary_types.Types`. ``number``: pg_attribute.attnum, which changes if a column is
    dropped and added again; 0 in a query.
    """

    name: str
    type: str
    is_generated: bool = False
    identity: str = ""
    is_required: bool = False
    category: str = ""
    signature: str = ""
    binary_refusal: str | None = None
    is_user_compound: bool = False
    number: int = 0


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation of one database; ``estimated_rows`` is None if it was never analyzed.

    ``persistence``: 'p', 'u' (unlogged) or 't' (temporary). ``filenode``: for a partitioned table a
    digest of its partitions' filenodes, None for a view. ``keys``: for merges, the primary key
    first.
    """

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    filenode: int | None
    estimated_rows: int | None
    columns: tuple[Column, ...] = ()
    keys: tuple[Key, ...] = ()

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def label(self) -> str:
        """The qualified name for messages and for SQL, quoted if necessary."""
        return str(TableName(self.schema, self.name))

    @property
    def is_table(self) -> bool:
        """Whether COPY can read its rows without a SELECT; rows of child tables are left out."""
        return self.kind == "r"

    @property
    def is_lockable(self) -> bool:
        return self.kind in _LOCKABLE


def look_up(connection: Connection, name: str) -> Relation:
    """Find the relation `name`, written as in SQL.

    Raises CopydError if it does not exist, or has no rows, such as an index.
    """
    return look_up_all(connection, [name])[0]


def look_up_all(connection: Connection, names: Sequence[str]) -> tuple[Relation, ...]:
    """Find the relations `names`, in that order, in as few queries as `look_up`."""
    oids = _oids(connection, names)
    found = {relation.oid: relation for relation in _describe(connection, list(oids.values()))}
    for name, oid in oids.items():
        if oid not in found or found[oid].kind not in _KINDS:
            raise CopydError(f"there is no table {name}")
    return tuple(found[oids[name]] for name in names)


def find_tables(
    connection: Connection, patterns: Sequence[Pattern], *, without: Collection[str] = ()
) -> tuple[Relation, ...]:
    """Find the tables matching `patterns`, each once, ordered by name.

    A wildcard matches tables and partitioned tables, except those of the system and of the schemas
    `without`, temporary ones, and partitions of a table which matches too.

    Raises CopydError if a name or pattern matches nothing, or a name is such a partition.
    """
    rows = connection.execute(_NAMES, [list(_KINDS)])
    listed = {row[0]: _Listed(TableName(row[1], row[2]), *row[3:]) for row in rows}
    exact = _named(listed, patterns)
    taken = exact | _matching(listed, patterns, without)
    for oid in sorted(taken, key=lambda oid: listed[oid].name):
        root = _taken_root(oid, listed, taken)
        if root is not None and oid in exact:
            partition, table = listed[oid].name, listed[root].name
            raise CopydError(f"{partition} is a partition of {table}, which is copied as well")
        if root is not None:
            taken.discard(oid)
    return _describe(connection, sorted(taken, key=lambda oid: listed[oid].name))


def query_columns(connection: Connection, query: str) -> tuple[Column, ...]:
    """Return the columns of `query`, without running it.

    Its tables are locked (ACCESS SHARE) until the transaction ends.

    Raises psycopg.Error if the server refuses the query, CopydError if two columns have one name.
    """
    # Prepared, because only one statement can be: a query that closes the parenthesis and adds
    # another statement is refused.
    probe = f"SELECT * FROM ({query}\n) AS query LIMIT 0"  # noqa: S608 - the operator's own SQL
    cursor = connection.execute(probe.encode(), prepare=True)
    names = [column.name for column in cursor.description or []]
    for name in names:
        if names.count(name) > 1:
            raise CopydError(f"the query has two columns named {name}: name each once, with AS")
    result = cast("PGresult", cursor.pgresult)  # a statement that succeeded has one
    oids = [result.ftype(position) for position in range(len(names))]
    modifiers = [result.fmod(position) for position in range(len(names))]
    written = [row[0] for row in connection.execute(_WRITTEN, [oids, modifiers])]
    types = Types.read(connection, oids)
    columns = map(Column, names, written)
    return tuple(_typed(column, oid, types) for column, oid in zip(columns, oids, strict=True))


class _Listed(NamedTuple):
    name: TableName
    kind: str
    persistence: str
    parent: int | None


def _oids(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    if not all(name.strip() for name in names):
        raise CopydError("'' is no table name; write it as SCHEMA.TABLE")
    try:
        rows = connection.execute(_OIDS, [list(names)]).fetchall()
    except (psycopg.errors.SyntaxError, psycopg.errors.InvalidName) as error:
        # The server does not say which name is wrong, and the transaction is aborted.
        malformed = [name for name in names if not _NAME.fullmatch(name)] or names
        raise CopydError(f"{malformed[0]!r} is no table name; write it as SCHEMA.TABLE") from error
    return dict(rows)


def _named(listed: Mapping[int, _Listed], patterns: Sequence[Pattern]) -> set[int]:
    by_name = {each.name: oid for oid, each in listed.items()}
    wanted = [pattern.exact for pattern in patterns if pattern.exact is not None]
    for name in wanted:
        if name not in by_name:
            raise CopydError(f"there is no table {name}")
    return {by_name[name] for name in wanted}


def _matching(
    listed: Mapping[int, _Listed], patterns: Sequence[Pattern], without: Collection[str]
) -> set[int]:
    eligible = {
        oid: each.name
        for oid, each in listed.items()
        if each.kind in _TABLES and each.persistence != "t"
        and not each.name.schema.startswith("pg_")
        and each.name.schema not in {"information_schema", *without}
    }  # fmt: skip
    taken = set()
    for pattern in patterns:
        if pattern.exact is None:
            found = {oid for oid, name in eligible.items() if pattern.matches(name)}
            if not found:
                raise CopydError(f"no table matches {pattern}")
            taken |= found
    return taken


def _taken_root(oid: int, listed: Mapping[int, _Listed], taken: Collection[int]) -> int | None:
    root, parent = None, listed[oid].parent
    while parent is not None:
        root = parent if parent in taken else root
        parent = listed[parent].parent
    return root


def _describe(connection: Connection, oids: Sequence[int]) -> tuple[Relation, ...]:
    bare = {row[0]: Relation(*row) for row in connection.execute(_RELATIONS, [oids])}
    columns, keys = _columns(connection, oids), usable_keys(connection, oids)
    return tuple(
        replace(bare[oid], columns=tuple(columns[oid]), keys=tuple(keys[oid]))
        for oid in dict.fromkeys(oids)
        if oid in bare
    )


def _columns(connection: Connection, oids: Sequence[int]) -> Mapping[int, Sequence[Column]]:
    rows = connection.execute(_COLUMNS, [oids]).fetchall()
    types = Types.read(connection, [row[2] for row in rows])
    columns = defaultdict(list)
    for relation, name, oid, written, number, is_generated, identity, is_required in rows:
        column = Column(name, written, is_generated, identity, is_required, number=number)
        columns[relation].append(_typed(column, oid, types))
    return columns


def _typed(column: Column, oid: int, types: Types) -> Column:
    return replace(
        column,
        type=types.name(oid, column.type),
        category=types.category(oid),
        signature=types.signature(oid),
        binary_refusal=types.refusal(oid),
        is_user_compound=types.carries_numbers(oid),
    )
