"""Privileges of the current role on tables of a destination, compared with the needs of a run.

The needs of each statement were tried on PostgreSQL 13 to 18.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psycopg
from psycopg.rows import class_row

from copyd.connection import only_row
from copyd.names import quote
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from copyd.connection import Connection
    from copyd.loading.target import Target

_ACCESS = statement("copyd.loading", "table_access")
_ROLE = statement("copyd.loading", "role")
ENABLED = {"fire": ["O", "A"], "skip": ["R", "A"]}
"""Triggers and rules that fire: pg_trigger.tgenabled, pg_rewrite.ev_enabled."""
# pg_rewrite.ev_type of each mode's statements; COPY ignores rules.
_RULED = {"insert": [], "replace": ["4"], "append": ["3"], "merge": ["2", "3", "4"]}


@dataclass(frozen=True, slots=True)
class Use:
    """The use of tables by a run; ``insert`` only adds rows.

    ``deletes``: a merge also removes rows which the source no longer has.
    """

    mode: Literal["insert", "replace", "append", "merge"]
    replace_with: Literal["delete", "truncate"] = "delete"
    triggers: Literal["fire", "skip"] = "fire"
    deletes: bool = False

    @property
    def truncates(self) -> bool:
        return self.mode == "replace" and self.replace_with == "truncate"


@dataclass(frozen=True, slots=True)
class Role:
    """The current role; ``may_stage``: create temporary tables in ``database``."""

    name: str
    is_superuser: bool
    database: str
    may_stage: bool


@dataclass(frozen=True, slots=True)
class Access:
    """Privileges on a table, and obstacles in the table itself; see table_access.sql."""

    oid: int
    may_enter: bool
    has_row_security: bool
    may_lock: bool
    may_delete: bool
    may_truncate: bool
    selectable: Sequence[str]
    insertable: Sequence[str]
    updatable: Sequence[str]
    foreigners: Sequence[str]
    unlogged: Sequence[str]
    rules: Sequence[str]


def role_of(connection: Connection) -> Role:
    """Return the current role."""
    with connection.cursor(row_factory=class_row(Role)) as cursor:
        return only_row(cursor.execute(_ROLE))


def access_to(connection: Connection, targets: Sequence[Target], use: Use) -> Mapping[int, Access]:
    """Return the current role's privileges on `targets` by oid; none for a dropped table."""
    # Each of them allows LOCK TABLE in a mode that keeps writers out.
    lock = "UPDATE, DELETE, TRUNCATE"
    if connection.info.server_version >= 170_000:
        lock += ", MAINTAIN"
    asked = {
        "oids": [target.relation.oid for target in targets],
        "lock": lock,
        "ruled": [] if use.truncates else _RULED[use.mode],
        "enabled": ENABLED[use.triggers],
    }
    with connection.cursor(row_factory=class_row(Access)) as cursor:
        rows = cursor.execute(_ACCESS, asked)
        return {access.oid: access for access in rows}


def role_refusals(
    connection: Connection, targets: Sequence[Target], use: Use, role: Role
) -> Iterator[str]:
    """Say which rights the role lacks apart from those on tables."""
    if any(_stages(target, use) for target in targets) and not role.may_stage:
        yield (
            f"role {quote(role.name)} may not create temporary tables: "
            f"GRANT TEMPORARY ON DATABASE {quote(role.database)} TO {quote(role.name)}"
        )
    if use.triggers == "skip":
        yield from _skip_refusals(connection, role)


def table_refusals(target: Target, use: Use, access: Access, role: Role) -> Iterator[str]:
    """Say which privileges on a table the role lacks, and how to grant them."""
    label, name = target.relation.label, quote(role.name)
    missing = _missing(target, use, access)
    if not access.may_enter:
        yield (
            f"role {name} may not use the schema of table {label}: "
            f"GRANT USAGE ON SCHEMA {quote(target.relation.schema)} TO {name}"
        )
    if missing:
        yield (
            f"role {name} may not {', '.join(missing)} on table {label}: "
            f"GRANT {', '.join(missing)} ON {label} TO {name}"
        )
    elif use.mode != "insert" and not access.may_lock:
        yield (
            f"role {name} may not lock table {label}, as privileges on columns are not enough: "
            f"GRANT UPDATE ON {label} TO {name}"
        )


def _missing(target: Target, use: Use, access: Access) -> list[str]:
    rewrites = use.mode == "merge" and target.has_fixed_columns
    whole = (*target.names, *target.others) if rewrites else target.names
    lacking = {
        "SELECT": _without(access.selectable, whole if _stages(target, use) else ()),
        "INSERT": _without(access.insertable, whole),
        "UPDATE": _without(access.updatable, _updated(target) if use.mode == "merge" else ()),
    }
    found = [_on_columns(name, columns, whole) for name, columns in lacking.items() if columns]
    if not (access.selectable or _stages(target, use) or use.mode == "insert"):
        found.append("SELECT")  # on any column, to count the rows
    if use.truncates and not access.may_truncate:
        found.append("TRUNCATE")
    if _deletes(target, use) and not access.may_delete:
        found.append("DELETE")
    return found


def _updated(target: Target) -> list[str]:
    # Those of the key too: values that are = may differ in their bytes.
    return [column.name for column in target.columns if column.identity != "a"]


def _deletes(target: Target, use: Use) -> bool:
    if use.mode == "replace":
        return not use.truncates
    return use.mode == "merge" and (use.deletes or target.has_fixed_columns)


def _without(allowed: Sequence[str], needed: Iterable[str]) -> list[str]:
    return [name for name in needed if name not in allowed]


def _on_columns(privilege: str, columns: Sequence[str], whole: Sequence[str]) -> str:
    if len(columns) == len(whole):
        return privilege
    return f"{privilege} ({', '.join(map(quote, columns))})"


def _stages(target: Target, use: Use) -> bool:
    """Whether rows go through a temporary table, created from a SELECT of the target."""
    return use.mode == "merge" or (use.mode == "append" and target.key is not None)


def _skip_refusals(connection: Connection, role: Role) -> Iterator[str]:
    try:  # in a savepoint: managed services allow the setting although the catalogs deny it
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL session_replication_role = 'replica'")
    except psycopg.errors.InsufficientPrivilege:
        name = quote(role.name)
        has_grant = connection.info.server_version >= 150_000
        cure = f"GRANT SET ON PARAMETER session_replication_role TO {name}"
        yield (
            f'triggers = "skip" needs the right to set session_replication_role, which role {name} '
            f"lacks: {cure if has_grant else 'connect as a superuser'}, or use "
            'triggers = "fire"'
        )
