"""Constant SQL stands in files: ``sql/NAME.sql`` of the package that uses it, one statement each.

The head of a file, its first comment, describes the statement: its name, its rows, why it is written
so. The head stays here; the server gets what follows. Statements composed of parts stay in Python.
"""

from __future__ import annotations

from importlib.resources import files

from psycopg import sql


def statement(package: str, name: str) -> sql.SQL:
    """Read ``sql/NAME.sql`` of `package`, for a constant of a module; ``{}`` is left to format."""
    lines = (files(package) / "sql" / f"{name}.sql").read_text("utf-8").splitlines()
    head = next(at for at, line in enumerate(lines) if not line.startswith("--"))
    # sql.SQL asks for a LiteralString so that no input becomes SQL. A file that we ship is a literal.
    return sql.SQL("\n".join(lines[head:]).strip())
