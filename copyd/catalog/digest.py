"""Digests: the rows of a table as two numbers that every server computes alike; it only reads.

A row is hashed as the text of its values, the one that COPY sends, in ROW(...)::text, which tells
NULL from '' and quotes punctuation. The hashes are added up, so that the order of rows does not
matter and a row that is there twice counts twice. On both sides the settings of
`copyd.catalog.session` make equal values equal texts.

SHA-256, because MD5 is missing where OpenSSL follows FIPS 140; 64 bits of it are enough, because
they find differences and need not stop an attacker.
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

_CONVERTED = frozenset(
    {"bool", "int2", "int4", "int8", "numeric", "float4", "float8", "oid", "uuid", "jsonb"}
    | {"date", "time", "timetz", "timestamp", "timestamptz", "interval"}
    | {"inet", "cidr", "macaddr", "macaddr8"}
)
"""Types of pg_catalog with a spelling of their own. Not bit and char types: a cast truncates a value
that does not fit, and COPY refuses it."""
_MODIFIER = re.compile(r"\(([0-9]+(?:,-?[0-9]+)?)\)")

# concat calls the output function, as COPY does; a cast to text spells bool, inet and char(n)
# differently. num_nonnulls, because IS NULL of a composite looks at its fields.
_TEXT = """
CASE WHEN pg_catalog.num_nonnulls({0})::pg_catalog.bool THEN pg_catalog.concat({0}) END
"""
# textsend gives UTF-8, whatever the server's encoding.
_DIGEST = """
pg_catalog.count(*), COALESCE(pg_catalog.sum(
    ('x' OPERATOR(pg_catalog.||) pg_catalog.encode(pg_catalog.substring(pg_catalog.sha256(
        pg_catalog.textsend(ROW({})::pg_catalog.text)), 1, 8), 'hex')
    )::pg_catalog.bit(64)::pg_catalog.int8), 0)::pg_catalog.text
"""


@dataclass(frozen=True, slots=True)
class Digest:
    """How many rows, and the sum of their hashes."""

    rows: int
    hash: int


@dataclass(frozen=True, slots=True)
class Form:
    """How to spell a column's values as text.

    ``as_type``: the type of pg_catalog, as SQL, that spells them. ``is_trimmed``: without the
    blanks that ``char(n)`` adds.
    """

    column: str
    as_type: str | None = None
    is_trimmed: bool = False


def forms(
    given: Sequence[Column], stored: Sequence[Column]
) -> tuple[tuple[Form, ...], tuple[Form, ...]]:
    """Return how to spell the `given` columns, and the columns that they are `stored` in; pure.

    Where types differ, a given value is spelled as it would be stored: 1 as numeric(10,2) is 1.00.
    """
    pairs = [_forms(*pair) for pair in zip(given, stored, strict=True)]
    return tuple(there for there, _ in pairs), tuple(here for _, here in pairs)


def digest_of(spelled: Sequence[Form]) -> sql.Composed:
    """Return the expressions to SELECT for a digest."""
    return sql.SQL(_DIGEST).format(sql.SQL(", ").join(_expression(form) for form in spelled))


def compute(connection: Connection, query: sql.Composed) -> Digest:
    """Run a `query` that selects a digest.

    Raises psycopg.Error where the server refuses.
    """
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
    """Return the type to cast to, as SQL; None where values are compared as they are.

    Only a name out of `_CONVERTED` and digits: no server may inject SQL into another.
    """
    item = stored.signature.removesuffix("[]")
    is_users = "." in stored.type  # a domain, which only its own server knows
    has_fields = stored.type.startswith("interval ")
    if item not in _CONVERTED or is_users or has_fields:
        return None
    modifier = _MODIFIER.search(stored.type)
    brackets = stored.signature[len(item) :]
    # An interval takes its precision only where it is a keyword, which no search path changes.
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
