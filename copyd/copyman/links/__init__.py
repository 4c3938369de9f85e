"""How COPY data travels on a connection: on its own byte stream, or through libpq."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import psycopg

from copyd.copyman.links.libpq import LibpqCopyIn, LibpqCopyOut
from copyd.copyman.links.wire import WireCopyIn, WireCopyOut
from copyd.copyman.ports import Link

if TYPE_CHECKING:
    from copyd.copyman.ports import CopyIn, CopyOut

LinkName = Literal["auto", "wire", "libpq"]


def open_copy_out(
    connection: psycopg.Connection[Any], statement: bytes, wanted: LinkName
) -> tuple[Link, CopyOut]:
    """Prepare ``COPY ... TO STDOUT`` on the link that `choose` picks."""
    link = choose(connection, wanted)
    return link, (WireCopyOut if link.name == "wire" else LibpqCopyOut)(connection, statement)


def open_copy_in(
    connection: psycopg.Connection[Any], statement: bytes, wanted: LinkName
) -> tuple[Link, CopyIn]:
    """Prepare ``COPY ... FROM STDIN`` on the link that `choose` picks."""
    link = choose(connection, wanted)
    return link, (WireCopyIn if link.name == "wire" else LibpqCopyIn)(connection, statement)


def choose(connection: psycopg.Connection[Any], wanted: LinkName = "auto") -> Link:
    """Say which link serves `connection`, and why.

    Raises ValueError where the wanted link cannot serve it, psycopg.OperationalError where the
    connection is closed.
    """
    if connection.closed:
        raise psycopg.OperationalError("the connection is closed")
    encryption = _encryption(connection)
    if wanted == "libpq":
        return Link("libpq", "asked for")
    if encryption is None:
        return Link("wire", "asked for" if wanted == "wire" else "the connection is not encrypted")
    if wanted == "wire":
        raise ValueError(f'link "wire" cannot serve a connection with {encryption} encryption')
    return Link("libpq", f"the connection has {encryption} encryption")


def _encryption(connection: psycopg.Connection[Any]) -> str | None:
    if connection.pgconn.ssl_in_use:
        return "TLS"
    # libpq does not tell whether GSSAPI only authenticated or encrypts as well.
    return "GSSAPI" if connection.pgconn.used_gssapi else None
