"""The choice of the link for a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from copyd.copyman.links.libpq import LibpqCopyIn, LibpqCopyOut
from copyd.copyman.links.stream import PlainStream
from copyd.copyman.links.tls import TlsStream, why_not
from copyd.copyman.links.wire import WireCopyIn, WireCopyOut
from copyd.copyman.ports import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.connection import Connection
    from copyd.copyman.links.stream import Stream
    from copyd.copyman.ports import CopyOut

LinkName = Literal["auto", "wire", "libpq"]
"""The links that a user can choose; ``wire`` is the connection's own byte stream, plain or TLS."""
_STREAMS: dict[str, Callable[[Connection], Stream]] = {"plain": PlainStream, "tls": TlsStream}


def open_copy_out(link: Link, connection: Connection, statement: bytes) -> CopyOut:
    """Prepare ``COPY ... TO STDOUT`` on `link`, which `choose` returned."""
    if link.name == "libpq":
        return LibpqCopyOut(connection, statement)
    return WireCopyOut(connection, statement, _STREAMS[link.name](connection))


def open_copy_in(link: Link, connection: Connection, statement: bytes) -> LibpqCopyIn | WireCopyIn:
    """Prepare ``COPY ... FROM STDIN`` on `link`, which `choose` returned."""
    if link.name == "libpq":
        return LibpqCopyIn(connection, statement)
    return WireCopyIn(connection, statement, _STREAMS[link.name](connection))


def choose(
    connection: Connection, wanted: LinkName, *, is_listening: bool, has_gssapi_encryption: bool
) -> Link:
    """Return the link for `connection`, ``plain``, ``tls`` or ``libpq``, and the reason.

    Raises ValueError if ``wire`` is wanted and cannot be used.
    """
    # Decision: A COPY on the connection's own byte stream, TLS included
    if wanted == "libpq":
        return Link("libpq", "asked for")
    has_tls = connection.pgconn.ssl_in_use
    obstacle = why_not(connection) if has_tls else None
    if is_listening:
        obstacle = "the connection LISTENs, and only libpq keeps its notifications"
    elif has_gssapi_encryption:
        obstacle = "the connection has GSSAPI encryption"
    if obstacle is None:
        reason = "TLS through libpq's own session" if has_tls else "no encryption"
        return Link("tls" if has_tls else "plain", reason)
    if wanted == "wire":
        raise ValueError(f'link "wire" cannot serve this connection: {obstacle}')
    return Link("libpq", obstacle)
