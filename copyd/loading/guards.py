"""Reasons why tables of a destination cannot be loaded; nothing is locked or changed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from psycopg import sql

from copyd.catalog import foreign_keys
from copyd.errors import CopydError
from copyd.loading.privileges import ENABLED, access_to, role_of, role_refusals, table_refusals
from copyd.loading.step import Result, Step
from copyd.names import quote
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.catalog import Relation
    from copyd.connection import Connection
    from copyd.loading.privileges import Access, Use
    from copyd.loading.target import Target

_UNFIT = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}

_TRIGGERS = statement("copyd.loading", "row_triggers")
_DELETE_TRIGGERS = statement("copyd.loading", "delete_triggers")


class Obstacle(NamedTuple):
    """Why a table cannot be loaded, or, with ``table`` None, why the role cannot load any."""

    table: str | None
    sentence: str


def refusals(connection: Connection, targets: Sequence[Target], use: Use) -> tuple[Obstacle, ...]:
    """Return every reason why the current role cannot load `targets` as `use` says.

    Raises CopydError if a table was dropped meanwhile.
    """
    role, access = role_of(connection), access_to(connection, targets, use)
    found: list[Obstacle] = []
    for target in targets:
        theirs = access.get(target.relation.oid)
        if theirs is None:
            raise CopydError(f"table {target.relation.label} was dropped just now: run it again")
        # No GRANT helps a table of the wrong shape: then privileges are not mentioned.
        unfit = list(_shape_refusals(target, use, theirs)) or list(
            table_refusals(target, use, theirs, role)
        )
        found += (Obstacle(target.relation.label, sentence) for sentence in unfit)
    if use.mode == "replace":
        found += _reference_refusals(connection, targets, use)
    lacking = role_refusals(connection, targets, use, role)
    return (*found, *(Obstacle(None, sentence) for sentence in lacking))


def warnings(
    connection: Connection, relations: Sequence[Relation], *, triggers: str = "fire"
) -> tuple[str, ...]:
    """Return sentences about things that work, but may not be intended."""
    role = role_of(connection)
    said = []
    if role.is_superuser:
        said.append(
            f"role {quote(role.name)} is a superuser: use one with only the privileges that the "
            "transfer needs"
        )
    for relation in relations if triggers == "fire" else ():
        names = [row[0] for row in connection.execute(_TRIGGERS, {"oid": relation.oid})]
        if names:
            said.append(
                f"table {relation.label} has triggers that fire for each row "
                f"({', '.join(map(quote, names))}): if they should not fire, use "
                'triggers = "skip"'
            )
    return tuple(said)


def delete_triggers(
    connection: Connection, targets: Sequence[Target], *, triggers: Literal["fire", "skip"]
) -> dict[int, tuple[str, ...]]:
    """Return, by table oid, the triggers that can make DELETE skip a row."""
    oids = [target.relation.oid for target in targets]
    rows = connection.execute(_DELETE_TRIGGERS, {"oids": oids, "enabled": ENABLED[triggers]})
    return {oid: tuple(names) for oid, names in rows.fetchall()}


def rows_left(target: Target) -> Step:
    """Check after DELETE whether triggers kept rows."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(target.rows)
    return Step(query, Result.LEFT, target)


def rows_left_refusal(target: Target, names: Sequence[str]) -> str:
    """Say that the triggers `names` kept rows."""
    return (
        f"DELETE left rows in table {target.relation.label}, because its triggers "
        f'({", ".join(map(quote, names))}) kept them: use triggers = "skip" or '
        'replace_with = "truncate"'
    )


def _shape_refusals(target: Target, use: Use, access: Access) -> Iterator[str]:
    relation, label = target.relation, target.relation.label
    if relation.kind in _UNFIT:
        yield f"{label} is {_UNFIT[relation.kind]}: name an ordinary or partitioned table"
        return
    if access.foreigners:
        yield (
            f"table {label} has foreign tables as partitions ({', '.join(access.foreigners)}), "
            "whose rows another server commits: copy the other partitions by name"
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
            f'mode = "{use.mode}" does not notice: ALTER TABLE ... SET LOGGED, or use mode = "replace"'
        )
    if access.has_row_security:
        yield (
            f"row security of table {label} applies to this role and would hide rows: "
            "connect as a role that has BYPASSRLS or owns the table"
        )


def _reference_refusals(
    connection: Connection, targets: Sequence[Target], use: Use
) -> Iterator[Obstacle]:
    # Emptying a table must not change tables outside the transfer.
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
            f"{key.referencing_table} (ON DELETE {key.effect})" for key in towards if key.effect
        ]
        if reached:
            yield Obstacle(
                label,
                f"replacing table {label} would change rows of {', '.join(reached)}, which the "
                "transfer does not load: add those tables to the transfer, or use "
                'mode = "merge"',
            )
        elif towards and use.truncates:
            names = sorted({key.referencing_table for key in towards})
            yield Obstacle(
                label,
                f"table {label} cannot be truncated while {', '.join(names)} references it, which "
                "the transfer does not load: add it to the transfer, or use "
                'replace_with = "delete"',
            )
