"""One cycle's COPY data in the forms that receivers need; each form is made at most once."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from copyd.wire import HEADER_SIZE, Cut, data_header

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    @property
    def kept(self) -> Chunk:
        """The same data in memory of its own, which stays when the producer is read again."""

    def boundary(self, sent: int) -> int:
        """Where the message ends in which the first `sent` framed bytes end.

        An offset into the framed data; past its end by ``owed`` where the message goes on.
        """

    def split(self, messages: int | None = None) -> tuple[Chunk | None, Chunk | None]:
        """Return the part up to the end of so many `messages`, and what comes after it.

        None is all that end in it. A part that would be empty is None.
        """


class WireChunk:
    """CopyData as a server sent it, in the block where it was received."""

    def __init__(self, block: memoryview, cut: Cut, *, resumed: int) -> None:
        """Take the spans of `cut`; `resumed` bytes at the start finish an earlier message."""
        self.framed = [block[start:stop] for start, stop in cut.spans]
        self.messages = cut.messages
        self.size = cut.size
        self.owed = cut.owed
        self.resumed = resumed

    @classmethod
    def of(cls, framed: bytes, *, messages: int, size: int, owed: int, resumed: int) -> WireChunk:
        """Take framed data that lies in memory of its own."""
        cut = Cut(((0, len(framed)),), messages, size, owed, (), 0)
        return cls(memoryview(framed), cut, resumed=resumed)

    @cached_property
    def kept(self) -> WireChunk:
        framed = b"".join(self.framed)
        return WireChunk.of(
            framed, messages=self.messages, size=self.size, owed=self.owed, resumed=self.resumed
        )

    def split(self, messages: int | None = None) -> tuple[WireChunk | None, WireChunk | None]:
        wanted = self.messages if messages is None else min(messages, self.messages)
        if wanted == self.messages and not self.owed:
            return self, None
        if not wanted:
            return None, self
        edges = self._edges()
        headers = wanted - bool(self.resumed)
        begin = edges[headers]
        data, size = bytes(self._contiguous), begin - headers * HEADER_SIZE
        left = self.messages - wanted
        head = WireChunk.of(data[:begin], messages=wanted, size=size, owed=0, resumed=self.resumed)
        tail = WireChunk.of(
            data[begin:], messages=left, size=self.size - size, owed=self.owed, resumed=0
        )
        return head, tail

    @cached_property
    def payload(self) -> bytes:
        return b"".join(self._bodies())  # of chunks that are kept, nothing else is to be

    @cached_property
    def pieces(self) -> list[bytes]:
        return list(map(bytes, self._bodies()))

    def boundary(self, sent: int) -> int:
        return next(edge for edge in self._edges() if edge >= sent)

    def _bodies(self) -> list[memoryview]:
        data = self._contiguous
        edges = self._edges()
        first = [data[: edges[0]]] if edges[0] else []
        return first + [data[start + HEADER_SIZE : stop] for start, stop in pairwise(edges)]

    @cached_property
    def _contiguous(self) -> memoryview:
        return self.framed[0] if len(self.framed) == 1 else memoryview(b"".join(self.framed))

    def _edges(self) -> list[int]:
        """Where each message begins, and where the last one ends (``owed`` past the data)."""
        data = self._contiguous
        edges = [self.resumed]
        while edges[-1] < len(data):
            start = edges[-1]
            edges.append(start + 1 + int.from_bytes(data[start + 1 : start + 5], "big"))
        return edges


class PayloadChunk:
    """COPY data that came without framing: from libpq or from an iterator."""

    owed = 0

    def __init__(self, pieces: Sequence[bytes], *, messages: int | None = None) -> None:
        """Take whole lines or messages, one each unless it is said how many `messages`.

        Raises TypeError where a piece is not bytes.
        """
        self.pieces = pieces
        self.payload = b"".join(pieces)
        self.messages = len(pieces) if messages is None else messages
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

    @property
    def kept(self) -> PayloadChunk:
        return self

    def split(self, messages: int | None = None) -> tuple[PayloadChunk | None, PayloadChunk | None]:
        if messages is None or messages >= self.messages:
            return self, None
        if not messages:
            return None, self
        return PayloadChunk(self.pieces[:messages]), PayloadChunk(self.pieces[messages:])
