"""The ledger's table: creation, and the refusal of a table which could run code as us.

A function called by a trigger, rule, policy, default, constraint or index runs with the rights of the
writing role. So only this role and superusers may be able to add them, and none may exist.
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

    from typing_extensions import LiteralString

    from copyd.connection import Connection

NAME = "ledger"
VERSION = 1
_TABLE = statement("copyd.loading", "ledger_table")
COLUMNS = dict(re.findall(r"^ +(\w+) (pg_catalog\..*),$", _TABLE.as_string(), re.MULTILINE))
"""The columns of the ledger, each with its type as `_FACTS` spells types."""

_SHAPE = [f"{name} {kind}" for name, kind in COLUMNS.items()]
_COMMENT = f"What copyd loaded into the tables of this database (ledger version {VERSION})"
_CREATION = 0x636F707964  # the advisory lock for its creation: "copyd" in ASCII
_FACTS = statement("copyd.loading", "ledger_facts")


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """The ledger in the catalogs. Owners are None if missing; a writer of None is PUBLIC."""

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
    """Check, in one query, that the table in `schema` can be trusted; create a missing table.

    True if created: then commit soon, because other runs wait. Raises CopydError if the table cannot
    be trusted, or the role may not create it.
    """
    # Decision: The ledger decides, and is not trusted blindly
    if _checked(connection, schema).table_owner is not None:
        return False
    connection.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", [_CREATION])
    facts = _checked(connection, schema)  # another run may have created it meanwhile
    if facts.table_owner is not None:
        return False
    # ALTER DEFAULT PRIVILEGES may have granted others rights on new schemas and tables.
    if facts.schema_owner is None:
        connection.execute(_schema_statement(schema))
        granted = look(connection, schema).schema_writers
        _revoke(connection, "CREATE ON SCHEMA", sql.Identifier(schema), granted)
    for query in _table_statements(schema):
        connection.execute(query)
    granted = look(connection, schema).table_writers
    _revoke(connection, "ALL ON TABLE", sql.Identifier(schema, NAME), granted)
    if _checked(connection, schema).table_owner is None:
        raise CopydError(f"{quote(schema)} is no name for the ledger's schema: use a shorter one")
    return True


def creation(connection: Connection, schema: str) -> tuple[sql.Composed, ...]:
    """Return the statements to create the ledger; none if it exists.

    `prepare` adds REVOKE if default privileges grant rights to others.
    """
    facts = look(connection, schema)
    if facts.table_owner is not None:
        return ()
    made = () if facts.schema_owner is not None else (_schema_statement(schema),)
    return (*made, *_table_statements(schema))


def refusals(facts: LedgerFacts, schema: str) -> Iterator[str]:
    """Say why the ledger cannot be used or created, and what to do; a sentence for each reason."""
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
            f"it belongs to role {quote(str(facts.schema_owner))}; if it is meant for copyd, "
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
            f"it belongs to role {quote(str(facts.table_owner))}; if it is copyd's own, "
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
    for reason in refusals(facts, schema):
        raise CopydError(reason)
    return facts


def look(connection: Connection, schema: str) -> LedgerFacts:
    """Look up the ledger in the catalogs."""
    with connection.cursor(row_factory=class_row(LedgerFacts)) as cursor:
        return only_row(cursor.execute(_FACTS, {"schema": schema, "name": NAME}))


def _revoke(
    connection: Connection, what: LiteralString, of: sql.Identifier, roles: Sequence[str | None]
) -> None:
    for role in roles:
        grantee = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
        connection.execute(sql.SQL("REVOKE {} {} FROM {}").format(sql.SQL(what), of, grantee))


def _schema_statement(schema: str) -> sql.Composed:
    return sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema))


def _table_statements(schema: str) -> tuple[sql.Composed, ...]:
    table = sql.Identifier(schema, NAME)
    comment = sql.SQL("COMMENT ON TABLE {} IS {}").format(table, _COMMENT)
    return _TABLE.format(table=table), comment


def _roles(writers: Sequence[str | None]) -> str:
    return ", ".join(sorted({"PUBLIC" if role is None else quote(role) for role in writers}))
