"""Constant SQL, read from files: ``sql/NAME.sql`` in the package that uses the statement.

The comment at the head of a file describes the statement: name, rows, reasons. It is not sent to the
server. Composed statements stay in Python.
"""

from __future__ import annotations

from importlib.resources import files

from psycopg import sql


def statement(package: str, name: str) -> sql.SQL:
    """Read ``sql/NAME.sql`` of `package`; the caller formats placeholders (``{}``)."""
    lines = (files(package) / "sql" / f"{name}.sql").read_text("utf-8").splitlines()
    head = next(at for at, line in enumerate(lines) if not line.startswith("--"))
    # sql.SQL wants a LiteralString, so that no input becomes SQL; a file of the package is as safe.
    return sql.SQL("\n".join(lines[head:]).strip())
