"""Signatures of types: a text for the binary form of a type's values, read from the catalog.

Columns with equal signatures can exchange binary values, even if the names and oids of their types
differ between the servers. Source: the send and receive functions of PostgreSQL 13 to 18.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.rows import class_row

from copyd.names import TableName
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from copyd.connection import Connection

_FIRST_UNSTABLE = 10_000  # FirstGenbkiObjectId: lower numbers mean the same on every server
_SYSTEM = "pg_catalog"
# Their receive functions refuse an empty value in the form in which their send functions write it.
_UNREAD = ("tsquery", "int2vector", "oidvector")

_TYPES = statement("copyd.catalog", "types")


@dataclass(frozen=True, slots=True)
class Type:
    """A row of pg_type with its parts; ``element`` is set only for a true array."""

    oid: int
    schema: str
    name: str
    kind: str
    category: str
    written: str
    has_binary: bool
    element: int | None
    base: int
    subtype: int | None
    field_names: Sequence[str] | None
    field_types: Sequence[int] | None
    labels: Sequence[str]


class Types:
    """Types of a database, each with its elements, fields, base and subtype."""

    def __init__(self, types: Iterable[Type]) -> None:
        self._types: Mapping[int, Type] = {each.oid: each for each in types}

    @classmethod
    def read(cls, connection: Connection, oids: Iterable[int]) -> Types:
        """Read the types `oids` and their parts, at any depth, in one query."""
        has_multiranges = connection.info.server_version >= 140_000
        multirange = sql.SQL("r.rngmultitypid" if has_multiranges else "NULL::oid")
        query = _TYPES.format(multirange=multirange)
        with connection.cursor(row_factory=class_row(Type)) as cursor:
            return cls(cursor.execute(query, {"oids": sorted(set(oids))}).fetchall())

    def category(self, oid: int) -> str:
        """Return pg_type.typcategory, for a domain the category of its base type."""
        return self._types[oid].category

    def name(self, oid: int, written: str) -> str:
        """Add the schema to `written`, the output of format_type, to suit any search path."""
        whole = self._types[oid]
        item = whole if whole.element is None else self._types[whole.element]
        if item.schema == _SYSTEM:
            return written
        # format_type leaves the schema out if the search path finds the type.
        modifier = written.removesuffix("[]").removeprefix(item.written)
        brackets = "[]" if whole.element is not None else ""
        return f"{TableName(item.schema, item.name)}{modifier}{brackets}"

    def signature(self, oid: int) -> str:
        """Return the binary form; ``*.NAME`` is a base type of an extension, in any schema."""
        it = self._types[oid]
        if it.element is not None:
            return f"{self.signature(it.element)}[]"
        if it.kind == "d":
            return self.signature(it.base)
        if it.kind == "c":
            fields = zip(it.field_names or (), it.field_types or (), strict=True)
            return f"({', '.join(f'{_quoted(name)} {self.signature(f)}' for name, f in fields)})"
        if it.kind == "e":
            return f"enum({', '.join(_quoted(label) for label in it.labels)})"
        if it.kind in ("r", "m") and it.subtype is not None:
            return f"{'multi' if it.kind == 'm' else ''}range({self.signature(it.subtype)})"
        return it.name if it.schema == _SYSTEM else f"*.{_quoted(it.name)}"

    def refusal(self, oid: int) -> str | None:
        """Say why binary copies exclude the type, to follow "column c"; None if they can."""
        for it in self._inside(oid):
            if it.schema == _SYSTEM and it.name.startswith("reg"):
                return f"holds {it.name}, in binary an oid that differs between databases"
            if it.schema == _SYSTEM and it.name == "money":
                return "holds money, whose binary value depends on the server's lc_monetary"
            if it.schema == _SYSTEM and it.name in _UNREAD:
                return f"holds {it.name}, whose empty value no server accepts in binary"
            if not it.has_binary:
                return f"holds {self.name(it.oid, it.written)}, which has no binary form"
        return None

    def carries_numbers(self, oid: int) -> bool:
        """Whether binary values contain oids of users' types, which differ between databases."""
        # Arrays and composites send the oids of their parts; ranges do not.
        return any(
            part >= _FIRST_UNSTABLE
            for it in self._inside(oid)
            for part in ([] if it.element is None else [it.element]) + list(it.field_types or ())
        )

    def _inside(self, oid: int) -> Iterable[Type]:
        it = self._types[oid]
        yield it
        parts = [it.element, it.subtype, *(it.field_types or ())]
        if it.kind == "d":
            parts.append(it.base)
        for part in parts:
            if part is not None:
                yield from self._inside(part)


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
