"""One cycle's COPY data in the forms that receivers need; each form is made at most once."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from copyd.wire import HEADER_SIZE, data_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.wire import Cut

_LARGEST_MESSAGE = 256 * 1024 * 1024


class Chunk(Protocol):
    """COPY data that is valid until its producer is read again.

    A chunk may begin and end inside a message's body, never inside a header. ``messages`` counts
    the messages that end in it, ``size`` its payload bytes, ``owed`` the body bytes of its last
    message that later chunks will bring.
    """

    @property
    def messages(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def owed(self) -> int: ...

    @property
    def framed(self) -> Sequence[memoryview]:
        """The data as CopyData messages, to be sent on the wire as it stands."""

    @property
    def payload(self) -> bytes:
        """The data without message headers."""

    @property
    def pieces(self) -> Sequence[bytes]:
        """The payload of each message, or of as much of it as is in this chunk."""

    def boundary(self, sent: int) -> int:
        """Where the message ends in which the first `sent` framed bytes end.

        An offset into the framed data; past its end by ``owed`` where the message goes on.
        """


class WireChunk:
    """CopyData as a server sent it, in the block where it was received."""

    def __init__(self, block: memoryview, cut: Cut, *, resumed: int) -> None:
        """Take the spans of `cut`; `resumed` bytes at the start finish an earlier message."""
        self.framed = [block[start:stop] for start, stop in cut.spans]
        self.messages = cut.messages
        self.size = cut.size
        self.owed = cut.owed
        self._resumed = resumed

    @cached_property
    def payload(self) -> bytes:
        return b"".join(self.pieces)

    @cached_property
    def pieces(self) -> list[bytes]:
        data = self._contiguous
        edges = self._edges
        first = [bytes(data[: edges[0]])] if edges[0] else []
        return first + [bytes(data[start + HEADER_SIZE : stop]) for start, stop in pairwise(edges)]

    def boundary(self, sent: int) -> int:
        return next(edge for edge in self._edges if edge >= sent)

    @cached_property
    def _contiguous(self) -> memoryview:
        return self.framed[0] if len(self.framed) == 1 else memoryview(b"".join(self.framed))

    @cached_property
    def _edges(self) -> list[int]:
        """Where each message begins, and where the last one ends (``owed`` past the data)."""
        data = self._contiguous
        edges = [self._resumed]
        while edges[-1] < len(data):
            start = edges[-1]
            edges.append(start + 1 + int.from_bytes(data[start + 1 : start + 5], "big"))
        return edges


class PayloadChunk:
    """COPY data that came without framing: from libpq or from an iterator."""

    owed = 0

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """Take whole lines or messages.

        Raises TypeError where a piece is not bytes.
        """
        self.pieces = pieces
        self.payload = b"".join(pieces)
        self.messages = len(pieces)
        self.size = len(self.payload)

    @cached_property
    def framed(self) -> list[memoryview]:
        payload = memoryview(self.payload)
        parts = [
            payload[start : start + _LARGEST_MESSAGE]
            for start in range(0, self.size, _LARGEST_MESSAGE)
        ]
        return [view for part in parts for view in (memoryview(data_header(len(part))), part)]

    def boundary(self, sent: int) -> int:
        edge = 0
        for header, body in zip(self.framed[::2], self.framed[1::2], strict=True):
            if edge >= sent:
                break
            edge += len(header) + len(body)
        return edge
