"""Privileges needed to read a relation of the source; nothing is locked here.

A run locks tables (ACCESS SHARE), which needs a privilege on the whole table: privileges on all its
columns are not enough. Source: PostgreSQL documentation, "LOCK".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from copyd.names import quote
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from copyd.catalog.relations import Relation
    from copyd.connection import Connection

_ACCESS = statement("copyd.catalog", "read_access")


@dataclass(frozen=True, slots=True)
class _Access:
    role: str
    may_enter: bool
    may_lock: bool
    has_row_security: bool
    unreadable: Sequence[str]


def refusals(connection: Connection, relation: Relation, columns: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each reason why the current role cannot read `columns` of `relation`.

    None for a dropped relation.
    """
    lock = "SELECT"  # before 16, no other privilege allows ACCESS SHARE
    if connection.info.server_version >= 160_000:
        lock += ", UPDATE, DELETE, TRUNCATE"
    with connection.cursor(row_factory=class_row(_Access)) as cursor:
        access = cursor.execute(_ACCESS, {"oid": relation.oid, "lock": lock}).fetchone()
    if access is None:
        return ()
    return tuple(_refusals(relation, tuple(columns), access))


def _refusals(relation: Relation, columns: Sequence[str], access: _Access) -> Iterator[str]:
    label, role = relation.label, quote(access.role)
    if not access.may_enter:
        yield (
            f"role {role} may not use the schema of table {label}: "
            f"GRANT USAGE ON SCHEMA {quote(relation.schema)} TO {role}"
        )
    lacking = [name for name in columns if name in access.unreadable]
    if lacking:
        names = ", ".join(map(quote, lacking))
        yield (
            f"role {role} may not read {names} of table {label}: GRANT SELECT ON {label} TO {role}"
        )
    elif relation.is_lockable and not access.may_lock:
        yield (
            f"role {role} may not lock table {label}, as privileges on columns are not enough: "
            f"GRANT SELECT ON {label} TO {role}"
        )
    if access.has_row_security:
        yield (
            f"row security of table {label} applies to role {role} and would hide rows: connect as "
            "a role that has BYPASSRLS or owns the table"
        )
