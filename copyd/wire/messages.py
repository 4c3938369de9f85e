"""The protocol messages of a COPY, built and parsed as pure bytes.

A message is a type byte, a length (4 bytes, big endian, including itself) and a body.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from copyd.errors import CopydError

_LENGTH = struct.Struct("!I")

COPY_DONE = b"c\0\0\0\4"


class ProtocolError(CopydError):
    """The peer violated protocol 3; its connection must be closed."""


class Message(NamedTuple):
    """A whole message other than CopyData."""

    kind: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class CopyResponse:
    """CopyInResponse or CopyOutResponse: the server has entered COPY; CSV counts as text."""

    is_binary: bool
    columns: int


@dataclass(frozen=True, slots=True)
class CommandTag:
    """CommandComplete, such as ``COPY 42``; ``rows`` is None if the tag has no number."""

    text: str
    rows: int | None

    @classmethod
    def parse(cls, body: bytes) -> CommandTag:
        """Parse the body of a CommandComplete message."""
        text = body.rstrip(b"\0").decode("ascii", "replace")
        last = text.rpartition(" ")[2]
        return cls(text, int(last) if last.isdecimal() else None)


def query(statement: bytes) -> bytes:
    """Build a simple Query message; raises ValueError if the statement contains a NUL byte."""
    if b"\0" in statement:  # the server would end the statement there
        raise ValueError("a statement cannot contain a NUL byte")
    return b"Q" + _LENGTH.pack(len(statement) + 5) + statement + b"\0"


def data_header(size: int) -> bytes:
    """Build the 5-byte header of `size` bytes of COPY payload."""
    return b"d" + _LENGTH.pack(size + 4)


def copy_fail(reason: str) -> bytes:
    """Build CopyFail: the server ends the COPY with an error that contains `reason`."""
    text = reason.encode("utf-8", "replace").replace(b"\0", b"?")
    return b"f" + _LENGTH.pack(len(text) + 5) + text + b"\0"


def copy_response(body: bytes) -> CopyResponse:
    """Parse the body of CopyInResponse or CopyOutResponse; raises ProtocolError if too short."""
    if len(body) < 3:
        raise ProtocolError("the server's response to COPY is too short")
    return CopyResponse(is_binary=body[0] == 1, columns=int.from_bytes(body[1:3], "big"))


def error_fields(body: bytes) -> dict[int, bytes]:
    """Parse ErrorResponse or NoticeResponse: field codes (such as ``ord("C")``) to raw text."""
    return {part[0]: part[1:] for part in body.split(b"\0") if part}
