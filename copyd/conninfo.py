"""Connection strings, parsed by libpq; never quoted in errors: they may contain a password."""

from __future__ import annotations

from typing import Any

from copyd.errors import CopydError


def parse(conninfo: str) -> dict[str, Any]:
    """Return the parameters of `conninfo`, which is keywords or a URI.

    Raises CopydError if libpq cannot parse it, or mistakes a part of a password with a raw ``@`` or
    ``/`` for a host, port or database.
    """
    import psycopg  # noqa: PLC0415 - slow to import, and not always needed
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - as above

    try:
        given = conninfo_to_dict(conninfo) if "\0" not in conninfo else None
    except psycopg.Error:
        given = None
    if given is None or _is_misread(given):
        # Decision: Text that a server wrote is not quoted where a secret may hide
        raise CopydError(
            'the connection string cannot be read; write it as "host=... dbname=..." or as '
            "postgresql://user@host:port/dbname, with special characters percent-encoded"
        ) from None
    return given


def _is_misread(given: dict[str, Any]) -> bool:
    """Whether part of a password with a raw ``@`` or ``/`` is taken for host, port or database."""
    host, port, dbname = (str(given.get(key, "")) for key in ("host", "port", "dbname"))
    is_port = all(part.isdecimal() for part in port.split(",") if part)
    return "@" in host.lstrip("@") or "@" in dbname or "://" in dbname or not is_port
