"""A server of protocol 3 that says exactly what a test scripts, cut where the test wants it.

It answers connecting, ordinary statements and cancel requests as a PostgreSQL without data
would. The answer to a statement with COPY is the script.
"""

from __future__ import annotations

import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from tests.support.listener import Listener, shut

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

DEADLINE = 20.0
CANCEL, ENCRYPTION = 80877102, (80877103, 80877104)


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def row(body: bytes) -> bytes:
    return message(b"d", body)


def fields(severity: str, sqlstate: str, text: str) -> bytes:
    parts = {"S": severity, "V": severity, "C": sqlstate, "M": text}
    return b"".join(f"{code}{said}\0".encode() for code, said in parts.items()) + b"\0"


def notice(text: str) -> bytes:
    return message(b"N", fields("NOTICE", "00000", text))


def error(sqlstate: str, text: str) -> bytes:
    return message(b"E", fields("ERROR", sqlstate, text))


def parameter(name: str, value: str) -> bytes:
    return message(b"S", f"{name}\0{value}\0".encode())


def notification(channel: str, payload: str) -> bytes:
    return message(b"A", struct.pack("!I", 7) + f"{channel}\0{payload}\0".encode())


READY = message(b"Z", b"I")
DONE = message(b"c")
COPY_OUT = message(b"H", b"\0\0\1\0\0")
COPY_IN = message(b"G", b"\0\0\1\0\0")


def complete(tag: str) -> bytes:
    return message(b"C", tag.encode() + b"\0")


class _Closed(Exception):
    """The client has gone."""


class ScriptedServer(Listener):
    """Serves one client at a time on ``port``.

    ``script`` is sent, in these pieces, when a statement with COPY arrives; an event among them is
    waited for. Where it enters COPY IN, ``epilogue`` is sent once the client has sent CopyDone or
    CopyFail.
    """

    def __init__(self, script: Iterable[bytes | threading.Event], epilogue: bytes = b"") -> None:
        super().__init__()
        self.script = list(script)
        self.epilogue = epilogue
        self.received: list[bytes] = []
        self.last_words = b""
        self.cancelled = threading.Event()

    @property
    def conninfo(self) -> str:
        return make_conninfo(
            host="127.0.0.1", port=self.port, user="tester", dbname="none",
            sslmode="disable", gssencmode="disable",
        )  # fmt: skip

    def serve(self, peer: socket.socket) -> None:
        self.spawn(self._serve, peer)

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError, _Closed):
            size, code = struct.unpack("!II", _read(peer, 8))
            _read(peer, size - 8)
            if code == CANCEL:
                self.cancelled.set()
                shut(peer)
                return
            settings = {"client_encoding": "UTF8", "server_version": "17.0", "TimeZone": "UTC"}
            greeting = message(b"R", struct.pack("!I", 0))
            greeting += b"".join(parameter(name, value) for name, value in settings.items())
            peer.sendall(greeting + message(b"K", struct.pack("!II", 1, 2)) + READY)
            while True:
                self._answer(peer, *_read_message(peer))

    def _answer(self, peer: socket.socket, kind: bytes, body: bytes) -> None:
        self.received.append(kind)
        if kind == b"X":
            raise _Closed
        if kind in (b"c", b"f"):
            self.last_words = body
            peer.sendall(self.epilogue)
        elif kind != b"Q":
            return
        elif body.startswith(b"COPY"):
            for piece in self.script:
                if isinstance(piece, bytes):
                    peer.sendall(piece)
                else:
                    piece.wait(DEADLINE)
        elif body == b"\0":
            peer.sendall(message(b"I") + READY)
        else:
            peer.sendall(_answer_statement(body))


def _answer_statement(statement: bytes) -> bytes:
    """Answer a question for two counts with 0 and 0, anything else with its first word."""
    if statement.split()[0] == b"SELECT":
        column = b"count\0" + struct.pack("!IhIhih", 0, 0, 20, 8, -1, 0)
        described = message(b"T", struct.pack("!h", 2) + column * 2)
        value = message(b"D", struct.pack("!h", 2) + (struct.pack("!i", 1) + b"0") * 2)
        return described + value + complete("SELECT 1") + READY
    return complete(statement.split()[0].decode()) + READY


def _read_message(peer: socket.socket) -> tuple[bytes, bytes]:
    kind, size = struct.unpack("!cI", _read(peer, 5))
    return kind, _read(peer, size - 4)


def _read(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        if not more:
            raise _Closed
        data += more
    return data
