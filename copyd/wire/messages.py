"""The few protocol messages that a COPY consists of: built and read as pure bytes.

A message is one type byte, a length (4 bytes, big endian, itself included) and a body.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from copyd.errors import CopydError

_LENGTH = struct.Struct("!I")

COPY_DONE = b"c\0\0\0\4"


class ProtocolError(CopydError):
    """The peer sent what protocol 3 does not allow here; its connection must be closed."""


class Message(NamedTuple):
    """One whole message that is not CopyData."""

    kind: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class CopyResponse:
    """CopyInResponse or CopyOutResponse: the server is in COPY now.

    ``is_binary`` is the overall format; CSV counts as text here.
    """

    is_binary: bool
    columns: int


@dataclass(frozen=True, slots=True)
class CommandTag:
    """CommandComplete, such as ``COPY 42``; ``rows`` is None where the tag has no number."""

    text: str
    rows: int | None

    @classmethod
    def parse(cls, body: bytes) -> CommandTag:
        """Read the body of a CommandComplete message."""
        text = body.rstrip(b"\0").decode("ascii", "replace")
        last = text.rpartition(" ")[2]
        return cls(text, int(last) if last.isdecimal() else None)


def query(statement: bytes) -> bytes:
    """Build a simple Query message.

    Raises ValueError for a statement with a NUL byte, which would end it early.
    """
    if b"\0" in statement:
        raise ValueError("a statement cannot hold a NUL byte")
    return b"Q" + _LENGTH.pack(len(statement) + 5) + statement + b"\0"


def data_header(size: int) -> bytes:
    """Build the 5 bytes that stand before `size` bytes of COPY payload."""
    return b"d" + _LENGTH.pack(size + 4)


def copy_fail(reason: str) -> bytes:
    """Build the message that makes the server fail the COPY and repeat `reason` in its error."""
    text = reason.encode("utf-8", "replace").replace(b"\0", b"?")
    return b"f" + _LENGTH.pack(len(text) + 5) + text + b"\0"


def copy_response(body: bytes) -> CopyResponse:
    """Read the body of CopyInResponse or CopyOutResponse.

    Raises ProtocolError where the body is too short.
    """
    if len(body) < 3:
        raise ProtocolError("the server's answer to COPY is cut short")
    return CopyResponse(is_binary=body[0] == 1, columns=int.from_bytes(body[1:3], "big"))


def error_fields(body: bytes) -> dict[int, bytes]:
    """Read ErrorResponse or NoticeResponse: field code (such as ``ord("C")``) to raw text."""
    return {part[0]: part[1:] for part in body.split(b"\0") if part}
