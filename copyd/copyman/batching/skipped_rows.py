"""Rows skipped by COPY itself on PostgreSQL 17 and later; pure.

COPY with ON_ERROR ignore skips a row with an invalid value and reports its line, but not the reason.
A query afterwards returns the reasons of all skipped rows. Source: PostgreSQL documentation, "COPY"
and ``pg_input_error_info``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.copyman.batching.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from psycopg.pq.abc import PGresult

    from copyd.connection import Connection

FIRST_VERSION = 170000
_TAIL = re.compile(rb"(?is)\bfrom\s+stdin\b\s*(?:with\s*)?(?:\((?P<options>.*)\))?\s*\Z")
_UNFIT = re.compile(
    rb"(?i)\b(?:csv|binary|on_error|log_verbosity|delimiter|null|header|default|encoding)\b"
)
_SKIPS = b"ON_ERROR ignore, LOG_VERBOSITY verbose"
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ASK = """
SELECT v.row, v.name, e.sql_error_code, e.message, e.detail, e.hint
  FROM ROWS FROM (pg_catalog.unnest({rows}::pg_catalog.int4[]),
                  pg_catalog.unnest({names}::pg_catalog.text[]),
                  pg_catalog.unnest({values}::pg_catalog.text[]),
                  pg_catalog.unnest({types}::pg_catalog.text[])) AS v (row, name, value, type),
       LATERAL pg_catalog.pg_input_error_info(v.value, v.type) AS e
 WHERE e.sql_error_code IS NOT NULL
"""


def skipping_copy(statement: bytes) -> bytes | None:
    """Add ON_ERROR ignore to a COPY `statement`; None if its options do not allow this."""
    found = _TAIL.search(statement)
    if found is None:
        return None
    options = found["options"]
    if options is None:
        return statement.rstrip() + b" (" + _SKIPS + b")"
    if _UNFIT.search(options):
        return None
    return statement[: found.start("options")] + options + b", " + _SKIPS + b")"


def reasons_query(
    connection: Connection,
    skipped: Iterable[tuple[int, bytes, str]],
    columns: Mapping[str, str],
) -> bytes:
    """Return the query for the reasons of `skipped` rows.

    `skipped`: each row's number, the row as sent, and the server's notice. `columns`: types by
    column name, in the order of the fields.
    """
    asked = [
        (number, *value)
        for number, row, said in skipped
        for value in _values(row.decode(connection.info.encoding), said, columns)
    ]
    names = ("rows", "names", "values", "types")
    parts = {name: sql.Literal([each[i] for each in asked]) for i, name in enumerate(names)}
    return sql.SQL(_ASK).format(**parts).as_bytes(connection)


def read_reasons(result: PGresult, encoding: str) -> dict[int, Refusal]:
    """Read the query's result: by row number, the Refusal for the first invalid column."""
    found: dict[int, Refusal] = {}
    for index in range(result.ntuples):
        number, name, state, message, detail, hint = (
            None if (value := result.get_value(index, field)) is None else value.decode(encoding)
            for field in range(6)
        )
        refusal = Refusal(state or "22000", message or "", detail, hint, column=name)
        found.setdefault(int(number or 0), refusal)
    return found


def _values(row: str, said: str, columns: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    fields = row.removesuffix("\n").split("\t")
    named = [name for name in columns if name in said]
    for (name, type_), field in zip(columns.items(), fields):  # noqa: B905 - the row may be short
        if field != r"\N" and (not named or name in named):
            yield name, unescape(field), type_


def unescape(field: str) -> str:
    """Return the value of a field in COPY's text format."""
    return _ESCAPE.sub(_unescape_one, field) if "\\" in field else field


def _unescape_one(found: re.Match[str]) -> str:
    body = found[1]
    if body[0] == "x" and len(body) > 1:
        return chr(int(body[1:], 16))
    if body[0] in "01234567":
        return chr(int(body, 8) & 0xFF)
    return _CONTROLS.get(body, body)
