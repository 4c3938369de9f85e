"""What makes a destination unfit for what a run would do there: looked up, said in a sentence.

Nothing is locked or changed. Privileges are those that PostgreSQL 13 to 18 ask for, tried one by
one: LOCK TABLE in a mode that keeps writers out takes UPDATE, DELETE or TRUNCATE on the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from copyd.catalog import foreign_keys
from copyd.connection import one_row, only_row
from copyd.errors import CopydError
from copyd.names import quote
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from copyd.catalog import Relation
    from copyd.connection import Connection
    from copyd.loading.target import Target

_UNFIT = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
_EFFECTS = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}

_ACCESS = statement("copyd.loading", "table_access")
_ROLE = statement("copyd.loading", "role")
_TRIGGERS = statement("copyd.loading", "row_triggers")
_DELETE_TRIGGERS = statement("copyd.loading", "delete_triggers")
_ENABLED = {"fire": ["O", "A"], "skip": ["R", "A"]}
"""Which triggers and rules count: pg_trigger.tgenabled, pg_rewrite.ev_enabled."""
_RULED = {"insert": [], "replace": ["4"], "append": ["3"], "merge": ["2", "3", "4"]}
"""What other statements than COPY do to a table: pg_rewrite.ev_type. COPY heeds no rule."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a run does to the tables of one destination; ``insert`` only adds rows.

    ``deletes``: a merge also removes rows that the source no longer has.
    """

    mode: Literal["insert", "replace", "append", "merge"]
    replace_with: Literal["delete", "truncate"] = "delete"
    triggers: Literal["fire", "skip"] = "fire"
    deletes: bool = False

    @property
    def truncates(self) -> bool:
        """Whether it empties tables by TRUNCATE."""
        return self.mode == "replace" and self.replace_with == "truncate"


class Refusal(NamedTuple):
    """Why something cannot be used so; ``table``: what it is about, None where that is the role."""

    table: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class _Role:
    name: str
    is_superuser: bool
    database: str
    may_stage: bool


@dataclass(frozen=True, slots=True)
class _Access:
    """What the role may do with one table; the columns are those that it may use so."""

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


def require_fit(connection: Connection, targets: Sequence[Target], use: Use) -> None:
    """Raise CopydError with the first of the `refusals`."""
    for sentence in refusals(connection, targets, use):
        raise CopydError(sentence)


def refusals(connection: Connection, targets: Sequence[Target], use: Use) -> tuple[str, ...]:
    """Say, a sentence each, why `targets` cannot be used so; all of them.

    Looks as the current role. Raises CopydError where a table has just been dropped.
    """
    return tuple(each.sentence for each in refusals_by_table(connection, targets, use))


def refusals_by_table(
    connection: Connection, targets: Sequence[Target], use: Use
) -> tuple[Refusal, ...]:
    """Say what `refusals` says, and of which table."""
    role, access = _role(connection), _access(connection, targets, use)
    found: list[Refusal] = []
    for target in targets:
        theirs = access.get(target.relation.oid)
        if theirs is None:
            raise CopydError(f"table {target.relation.label} was dropped just now: run it again")
        unfit = list(_shape_refusals(target, use, theirs)) or list(
            _privilege_refusals(target, use, theirs, role)
        )
        found += (Refusal(target.relation.label, sentence) for sentence in unfit)
    if use.mode == "replace":
        found += _reference_refusals(connection, targets, use)
    found += (
        Refusal(None, sentence) for sentence in _role_refusals(connection, targets, use, role)
    )
    return tuple(found)


def warnings(
    connection: Connection, relations: Sequence[Relation], *, triggers: str = "fire"
) -> tuple[str, ...]:
    """Say what works at a destination, but should be known before."""
    role = _role(connection)
    said = []
    if role.is_superuser:
        said.append(
            f"role {quote(role.name)} is a superuser: one with only the privileges that the "
            "transfer needs would do"
        )
    for relation in relations if triggers == "fire" else ():
        names = [row[0] for row in connection.execute(_TRIGGERS, {"oid": relation.oid})]
        if names:
            said.append(
                f"table {relation.label} has triggers that fire for each row "
                f"({', '.join(map(quote, names))}): where they are not wanted, use "
                'triggers = "skip"'
            )
    return tuple(said)


def delete_triggers(
    connection: Connection, targets: Sequence[Target], *, triggers: Literal["fire", "skip"]
) -> dict[int, tuple[str, ...]]:
    """Return the triggers, by the table's oid, that can keep a DELETE from deleting a row."""
    oids = [target.relation.oid for target in targets]
    rows = connection.execute(_DELETE_TRIGGERS, {"oids": oids, "enabled": _ENABLED[triggers]})
    return {oid: tuple(names) for oid, names in rows.fetchall()}


def require_emptied(connection: Connection, target: Target, names: Sequence[str]) -> None:
    """Raise CopydError where rows are there after their DELETE, which the triggers `names` keep."""
    (are_there,) = one_row(
        connection, sql.SQL("SELECT EXISTS (SELECT FROM {})").format(target.rows)
    )
    if are_there:
        raise CopydError(
            f"rows of table {target.relation.label} stayed after DELETE, which a trigger of it "
            f'keeps ({", ".join(map(quote, names))}): use triggers = "skip" or '
            'replace_with = "truncate"'
        )


def _role_refusals(
    connection: Connection, targets: Sequence[Target], use: Use, role: _Role
) -> Iterator[str]:
    """What the role lacks, whichever table it is."""
    if any(_stages(target, use) for target in targets) and not role.may_stage:
        yield (
            f"role {quote(role.name)} may not create temporary tables: "
            f"GRANT TEMPORARY ON DATABASE {quote(role.database)} TO {quote(role.name)}"
        )
    if use.triggers == "skip":
        yield from _skip_refusals(connection, role)


def _role(connection: Connection) -> _Role:
    with connection.cursor(row_factory=class_row(_Role)) as cursor:
        return only_row(cursor.execute(_ROLE))


def _access(connection: Connection, targets: Sequence[Target], use: Use) -> Mapping[int, _Access]:
    lock = "UPDATE, DELETE, TRUNCATE"
    if connection.info.server_version >= 170_000:
        lock += ", MAINTAIN"
    asked = {
        "oids": [target.relation.oid for target in targets],
        "lock": lock,
        "ruled": [] if use.truncates else _RULED[use.mode],
        "enabled": _ENABLED[use.triggers],
    }
    with connection.cursor(row_factory=class_row(_Access)) as cursor:
        rows = cursor.execute(_ACCESS, asked)
        return {access.oid: access for access in rows}


def _shape_refusals(target: Target, use: Use, access: _Access) -> Iterator[str]:
    """What no privilege makes fit."""
    relation, label = target.relation, target.relation.label
    if relation.kind in _UNFIT:
        yield f"{label} is {_UNFIT[relation.kind]}: name an ordinary or partitioned table"
        return
    if access.foreigners:
        yield (
            f"table {label} has foreign tables as partitions ({', '.join(access.foreigners)}), "
            "whose rows are not committed with the others: name its other partitions"
        )
    if relation.kind == "p" and use.truncates:
        yield (
            f"table {label} is partitioned and cannot be replaced by TRUNCATE: "
            'use replace_with = "delete"'
        )
    if access.rules:
        yield (
            f"table {label} has rules that change what a run writes or deletes "
            f"({', '.join(map(quote, access.rules))}): ALTER TABLE {label} DISABLE RULE "
            f"{quote(access.rules[0])}"
        )
    unlogged = [label] if relation.persistence == "u" else access.unlogged
    if unlogged and use.mode in ("append", "merge"):
        yield (
            f"table {', '.join(unlogged)} is UNLOGGED and would be empty after a crash, which "
            f'mode = "{use.mode}" cannot see: ALTER TABLE ... SET LOGGED, or use mode = "replace"'
        )
    if access.has_row_security:
        yield (
            f"row security of table {label} applies to this role, which would hide rows: "
            "connect as a role that has BYPASSRLS or owns the table"
        )


def _privilege_refusals(target: Target, use: Use, access: _Access, role: _Role) -> Iterator[str]:
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
            f"role {name} may not lock table {label}, for which privileges on columns do not do: "
            f"GRANT UPDATE ON {label} TO {name}"
        )


def _missing(target: Target, use: Use, access: _Access) -> list[str]:
    """Return the privileges, as GRANT takes them, that are needed and lacking."""
    rewrites = use.mode == "merge" and target.has_fixed_columns
    whole = (*target.names, *target.others) if rewrites else target.names
    lacking = {
        "SELECT": _without(access.selectable, whole if _stages(target, use) else ()),
        "INSERT": _without(access.insertable, whole),
        "UPDATE": _without(access.updatable, _updated(target) if use.mode == "merge" else ()),
    }
    found = [_on_columns(name, columns, whole) for name, columns in lacking.items() if columns]
    if not (access.selectable or _stages(target, use) or use.mode == "insert"):
        found.append("SELECT")  # on any column, to see whether there are rows
    if use.truncates and not access.may_truncate:
        found.append("TRUNCATE")
    if _deletes(target, use) and not access.may_delete:
        found.append("DELETE")
    return found


def _updated(target: Target) -> list[str]:
    """Return the columns that a merge sets; those of the key as well: = is not the same bytes."""
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
    """Whether rows go through a temporary table, which is made like the columns of the target."""
    return use.mode == "merge" or (use.mode == "append" and target.key is not None)


def _reference_refusals(
    connection: Connection, targets: Sequence[Target], use: Use
) -> Iterator[Refusal]:
    """Emptying a table must not reach tables that nothing is loaded into."""
    oids = [target.relation.oid for target in targets]
    outside = [
        key
        for key in foreign_keys(connection, oids)
        if key.referenced in oids and key.referencing not in oids
    ]
    for target in targets:
        label = target.relation.label
        towards = [key for key in outside if key.referenced == target.relation.oid]
        reached = [
            f"{key.referencing_table} (ON DELETE {_EFFECTS[key.action]})"
            for key in towards
            if key.action in _EFFECTS
        ]
        if reached:
            yield Refusal(
                label,
                f"replacing table {label} would change rows of {', '.join(reached)}, which the "
                "transfer does not load: add what references it to the transfer, or use "
                'mode = "merge"',
            )
        elif towards and use.truncates:
            names = sorted({key.referencing_table for key in towards})
            yield Refusal(
                label,
                f"table {label} cannot be truncated while {', '.join(names)} references it, which "
                "the transfer does not load: add it to the transfer, or use "
                'replace_with = "delete"',
            )


def _skip_refusals(connection: Connection, role: _Role) -> Iterator[str]:
    """Try it in a savepoint: what managed services allow beside the catalog is seen as well."""
    try:
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
