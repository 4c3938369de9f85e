"""Connection strings, as libpq takes them; never repeated in an error: they may hold a password."""

from __future__ import annotations

from typing import Any

from copyd.errors import CopydError


def parse(conninfo: str) -> dict[str, Any]:
    """Return the parameters that `conninfo`, keywords or a URI, gives.

    Raises CopydError, without repeating any of it, where libpq cannot read it, or reads a
    password with a raw ``@`` or ``/`` as a host, port or database.
    """
    import psycopg  # noqa: PLC0415 - who only reads a configuration's form does without
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - as above

    try:
        given = conninfo_to_dict(conninfo) if "\0" not in conninfo else None
    except psycopg.Error:
        given = None
    if given is None or _is_misread(given):
        # Not libpq's message: it may quote a part of the password. Not the cause either.
        raise CopydError(
            'the connection string cannot be read; write it as "host=... dbname=..." or as '
            "postgresql://user@host:port/dbname, with special characters percent-encoded"
        ) from None
    return given


def _is_misread(given: dict[str, Any]) -> bool:
    """Whether a password with a raw ``@`` or ``/`` was taken for a host, port or database."""
    host, port, dbname = (str(given.get(key, "")) for key in ("host", "port", "dbname"))
    is_port = all(part.isdecimal() for part in port.split(",") if part)
    return "@" in host.lstrip("@") or "@" in dbname or "://" in dbname or not is_port
