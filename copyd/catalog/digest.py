"""Digests: the number of a table's rows and the sum of their hashes, equal on every server.

The hashed text is ROW(...)::text of the values as COPY sends them, where NULL differs from '' and
punctuation is quoted. A sum does not depend on the order of rows, and counts duplicates. The settings of
`copyd.catalog.session` make equal values equal texts on both sides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.connection import one_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.catalog.relations import Column
    from copyd.connection import Connection

# Types of pg_catalog with a spelling of their own. Not bit and char types: a cast truncates a value
# that does not fit, and COPY refuses it.
_CONVERTED = frozenset(
    {"bool", "int2", "int4", "int8", "numeric", "float4", "float8", "oid", "uuid", "jsonb"}
    | {"date", "time", "timetz", "timestamp", "timestamptz", "interval"}
    | {"inet", "cidr", "macaddr", "macaddr8"}
)
_MODIFIER = re.compile(r"\(([0-9]+(?:,-?[0-9]+)?)\)")

# concat calls the output function, as COPY does; a cast to text spells bool, inet and char(n)
# differently. num_nonnulls, because IS NULL of a composite looks at its fields.
_TEXT = """
CASE WHEN pg_catalog.num_nonnulls({0})::pg_catalog.bool THEN pg_catalog.concat({0}) END
"""
# textsend returns UTF-8, whatever the server's encoding. SHA-256, because MD5 is missing where OpenSSL
# follows FIPS 140; 64 bits are enough to find differences, and need not stop an attacker.
_DIGEST = """
pg_catalog.count(*), COALESCE(pg_catalog.sum(
    ('x' OPERATOR(pg_catalog.||) pg_catalog.encode(pg_catalog.substring(pg_catalog.sha256(
        pg_catalog.textsend(ROW({})::pg_catalog.text)), 1, 8), 'hex')
    )::pg_catalog.bit(64)::pg_catalog.int8), 0)::pg_catalog.text
"""


@dataclass(frozen=True, slots=True)
class Digest:
    """The number of rows, and the sum of their hashes."""

    rows: int
    hash: int


@dataclass(frozen=True, slots=True)
class Form:
    """How to spell a column's values as text.

    ``as_type``: the type of pg_catalog to cast to, as SQL. ``is_trimmed``: without the
    blanks that ``char(n)`` adds.
    """

    column: str
    as_type: str | None = None
    is_trimmed: bool = False


def forms(
    given: Sequence[Column], stored: Sequence[Column]
) -> tuple[tuple[Form, ...], tuple[Form, ...]]:
    """Return the forms of the `given` columns, and of the columns they are `stored` in; pure.

    If types differ, a given value is spelled as it would be stored: 1 as numeric(10,2) is 1.00.
    """
    pairs = [_forms(*pair) for pair in zip(given, stored, strict=True)]
    return tuple(there for there, _ in pairs), tuple(here for _, here in pairs)


def digest_of(spelled: Sequence[Form]) -> sql.Composed:
    """Return the expressions to SELECT for a digest."""
    return sql.SQL(_DIGEST).format(sql.SQL(", ").join(_expression(form) for form in spelled))


def compute(connection: Connection, query: sql.Composed) -> Digest:
    """Run a `query` that selects a digest."""
    row = one_row(connection, query)
    return Digest(row[0], int(row[1]))


def _forms(given: Column, stored: Column) -> tuple[Form, Form]:
    plain = Form(given.name), Form(stored.name)
    if given.type == stored.type:
        return plain
    if "bpchar" in (given.signature, stored.signature):
        return Form(given.name, is_trimmed=True), Form(stored.name, is_trimmed=True)
    return Form(given.name, as_type=_converted(stored)), plain[1]


def _converted(stored: Column) -> str | None:
    # Only names from `_CONVERTED` and digits, so that no server can inject SQL into another.
    item = stored.signature.removesuffix("[]")
    is_users = "." in stored.type  # a domain, which exists on its own server only
    has_fields = stored.type.startswith("interval ")
    if item not in _CONVERTED or is_users or has_fields:
        return None
    modifier = _MODIFIER.search(stored.type)
    brackets = stored.signature[len(item) :]
    # interval accepts a precision only as a keyword; no search path changes a keyword.
    schema = "" if item == "interval" else "pg_catalog."
    return f"{schema}{item}{modifier[0] if modifier else ''}{brackets}"


def _expression(form: Form) -> sql.Composable:
    name = sql.Identifier(form.column)
    text = sql.SQL(_TEXT).format(name)
    if form.is_trimmed:
        return sql.SQL("pg_catalog.rtrim({}, ' ')").format(text)
    if form.as_type is not None:
        return sql.SQL("({})::{}").format(text, sql.SQL(form.as_type))
    return name
