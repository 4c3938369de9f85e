"""The ledger's table: how it is created, and when it is refused because it could run code as us.

A function that a trigger, rule, policy, default, constraint or index calls runs with the rights of
the role that writes the row. So the table is used only where nobody but that role (and superusers)
can have added such a thing, and nobody has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.rows import class_row

from copyd.connection import only_row
from copyd.errors import CopydError
from copyd.names import TableName, quote
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.connection import Connection

NAME = "ledger"
VERSION = 1
_TABLE = statement("copyd.loading", "ledger_table")
COLUMNS = dict(re.findall(r"^ +(\w+) (pg_catalog\..*),$", _TABLE.as_string(), re.MULTILINE))
"""Every column of the ledger and its type, as `_FACTS` spells them."""

_SHAPE = [f"{name} {kind}" for name, kind in COLUMNS.items()]
_COMMENT = f"What copyd loaded into the tables of this database (ledger version {VERSION})"
_CREATION = 0x636F707964
"""The advisory lock of whoever creates it: "copyd" in ASCII."""

_FACTS = statement("copyd.loading", "ledger_facts")


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """The ledger in the catalogs. No owner: it does not exist. A writer of None is PUBLIC."""

    role: str
    database: str
    may_create: bool
    schema_owner: str | None
    schema_writers: Sequence[str | None]
    table_owner: str | None
    table_writers: Sequence[str | None]
    is_plain: bool | None
    has_relatives: bool
    has_trigger: bool
    has_rule: bool
    has_policy: bool | None
    has_constraint: bool
    has_statistics: bool
    indexes: Sequence[bool]
    columns: Sequence[str]
    comment: str | None


def prepare(connection: Connection, schema: str) -> bool:
    """Check, in one query, that the table in `schema` can be trusted; create it if it is missing.

    True if it was created: commit soon, as others who would create it wait. Raises CopydError if
    it may not be created, or cannot be trusted.
    """
    if _checked(connection, schema).table_owner is not None:
        return False
    connection.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", [_CREATION])
    facts = _checked(connection, schema)  # another run may have been faster
    if facts.table_owner is not None:
        return False
    if facts.schema_owner is None:
        _create_schema(connection, schema)
    _create_table(connection, schema)
    if _checked(connection, schema).table_owner is None:
        raise CopydError(f"{quote(schema)} is no name for the ledger's schema: use a shorter one")
    return True


def creation(connection: Connection, schema: str) -> tuple[sql.Composed, ...]:
    """Return the statements that would create the ledger; none if it exists.

    Without those that take back what default privileges would grant.
    """
    facts = look(connection, schema)
    if facts.table_owner is not None:
        return ()
    made = () if facts.schema_owner is not None else (_schema_statement(schema),)
    return (*made, *_table_statements(schema))


def refusal(facts: LedgerFacts, schema: str) -> str | None:
    """Say why the ledger cannot be used, or created, and what to do; None if it can."""
    return next(refusals(facts, schema), None)


def refusals(facts: LedgerFacts, schema: str) -> Iterator[str]:
    """Say why the ledger cannot be used, or created; a sentence for each reason."""
    table = TableName(schema, NAME)
    ours, where = quote(schema), f"in database {quote(facts.database)}"
    if facts.schema_owner is None and not facts.may_create:
        yield (
            f"the ledger needs a schema {ours} {where} and role {quote(facts.role)} may not create"
            f" it; have an administrator run there: "
            f"CREATE SCHEMA {ours} AUTHORIZATION {quote(facts.role)}"
        )
    if facts.schema_owner is not None:
        for problem in _problems_of_schema(facts, ours):
            yield f"schema {ours} {where} cannot hold the ledger: {problem}"
    if facts.table_owner is not None:
        for problem in _problems_of_table(facts, table):
            yield f"{table} {where} cannot be the ledger: {problem}"


def _problems_of_schema(facts: LedgerFacts, schema: str) -> Iterator[str]:
    if facts.schema_owner != facts.role:
        yield (
            f"it belongs to role {quote(str(facts.schema_owner))}; where it is meant for copyd, "
            f"run there: ALTER SCHEMA {schema} OWNER TO {quote(facts.role)}"
        )
    if facts.schema_writers:
        yield (
            "others can create objects in it; run there: "
            f"REVOKE CREATE ON SCHEMA {schema} FROM {_roles(facts.schema_writers)}"
        )


def _problems_of_table(facts: LedgerFacts, table: TableName) -> Iterator[str]:
    if facts.table_owner != facts.role:
        yield (
            f"it belongs to role {quote(str(facts.table_owner))}; where it is copyd's own, "
            f"run there: ALTER TABLE {table} OWNER TO {quote(facts.role)}"
        )
    if not facts.is_plain:
        yield "it is no ordinary, permanent table; drop it or give the ledger another schema"
    if facts.table_writers:
        yield (
            "others can change it; run there: "
            f"REVOKE ALL ON TABLE {table} FROM {_roles(facts.table_writers)}"
        )
    for is_there, what in (
        (facts.has_relatives, "it inherits, is a partition, or has children"),
        (facts.has_trigger, "it has a trigger or is referenced by a foreign key"),
        (facts.has_rule, "it has a rule"),
        (facts.has_policy, "it has row security"),
        (facts.has_constraint, "it has a constraint beyond its primary key"),
        (facts.has_statistics, "it has extended statistics"),
        (list(facts.indexes) != [True], "its only index must be PRIMARY KEY (schema, name)"),
    ):
        if is_there:
            yield f"{what}, which copyd did not make; undo that or give the ledger another schema"
    if list(facts.columns) != _SHAPE:
        yield _other_columns(facts)


def _other_columns(facts: LedgerFacts) -> str:
    version = re.search(r"\(ledger version (\d{1,9})\)$", facts.comment or "")
    if version is not None and int(version[1]) != VERSION:
        return (
            f"it is of version {version[1]} and this copyd knows version {VERSION}; "
            "use the copyd that made it or give the ledger another schema"
        )
    lacking = [column for column in _SHAPE if column not in facts.columns]
    added = [column for column in facts.columns if column not in _SHAPE]
    said = [f"lacks {', '.join(lacking)}"] if lacking else []
    said += [f"has {', '.join(added)} too"] if added else []
    what = " and ".join(said) or "has its columns in another order"
    return f"it {what}; undo that or give the ledger another schema"


def _checked(connection: Connection, schema: str) -> LedgerFacts:
    facts = look(connection, schema)
    reason = refusal(facts, schema)
    if reason is not None:
        raise CopydError(reason)
    return facts


def look(connection: Connection, schema: str) -> LedgerFacts:
    """Look the ledger up in the catalogs."""
    with connection.cursor(row_factory=class_row(LedgerFacts)) as cursor:
        return only_row(cursor.execute(_FACTS, {"schema": schema, "name": NAME}))


def _create_schema(connection: Connection, schema: str) -> None:
    """Create it, and revoke what ALTER DEFAULT PRIVILEGES granted to others."""
    name = sql.Identifier(schema)
    connection.execute(_schema_statement(schema))
    for role in look(connection, schema).schema_writers:
        revoke = sql.SQL("REVOKE CREATE ON SCHEMA {} FROM {}")
        connection.execute(revoke.format(name, _grantee(role)))


def _create_table(connection: Connection, schema: str) -> None:
    """Create it, and revoke what default privileges granted, as with the schema."""
    table = sql.Identifier(schema, NAME)
    for query in _table_statements(schema):
        connection.execute(query)
    for role in look(connection, schema).table_writers:
        revoke = sql.SQL("REVOKE ALL ON TABLE {} FROM {}")
        connection.execute(revoke.format(table, _grantee(role)))


def _schema_statement(schema: str) -> sql.Composed:
    return sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema))


def _table_statements(schema: str) -> tuple[sql.Composed, ...]:
    table = sql.Identifier(schema, NAME)
    return (
        _TABLE.format(table=table),
        sql.SQL("COMMENT ON TABLE {} IS {}").format(table, _COMMENT),
    )


def _grantee(role: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if role is None else sql.Identifier(role)


def _roles(writers: Sequence[str | None]) -> str:
    return ", ".join(sorted({"PUBLIC" if role is None else quote(role) for role in writers}))
