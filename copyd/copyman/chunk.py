"""COPY data of a cycle, in each form needed by a receiver; a form is made at most once."""

from __future__ import annotations

from array import array
from functools import cached_property
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Protocol

from copyd.wire import HEADER_SIZE, Cut, data_header

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH = Struct(">I")
_LARGEST_MESSAGE = 256 * 1024 * 1024  # PostgreSQL refuses messages from 1 GiB on


class Chunk(Protocol):
    """COPY data, valid until its producer is read again.

    A chunk may begin and end inside a message's body, never inside a header. ``messages``: number
    of messages with their end in the chunk. ``size``: payload bytes. ``owed``: bytes of the last
    message's body in later chunks.
    """

    @property
    def messages(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def owed(self) -> int: ...

    @property
    def framed(self) -> Sequence[memoryview]:
        """The data as CopyData messages, ready for the wire."""

    @property
    def payload(self) -> bytes:
        """The data without message headers."""

    @property
    def pieces(self) -> Sequence[bytes]:
        """The payload of each message, or the part of it in this chunk."""

    @property
    def kept(self) -> WireChunk:
        """The same data in its own memory, unaffected by the producer's next read."""

    def boundary(self, sent: int) -> int:
        """Return the end of the message in which the first `sent` framed bytes end.

        An offset into the framed data; ``owed`` beyond its end if the message continues.
        """


class WireChunk:
    """CopyData as a server sent it, in the block where it was received.

    ``resumed``: bytes at the start, the end of an earlier message.
    """

    def __init__(self, block: memoryview, cut: Cut, *, resumed: int) -> None:
        self.cut = cut
        self.framed = [block[start:stop] for start, stop in cut.spans]
        self.messages = cut.messages
        self.size = cut.size
        self.owed = cut.owed
        self.resumed = resumed

    @classmethod
    def of(
        cls,
        framed: bytes | memoryview,
        messages: int,
        size: int,
        *,
        owed: int = 0,
        resumed: int = 0,
    ) -> WireChunk:
        """Return a chunk of contiguous framed data."""
        cut = Cut(((0, len(framed)),), messages, size, owed, (), 0)
        return cls(memoryview(framed), cut, resumed=resumed)

    @classmethod
    def of_rows(cls, rows: Sequence[bytes]) -> WireChunk:
        """Return a chunk with a message for each of `rows`."""
        framed = b"".join([part for row in rows for part in (data_header(len(row)), row)])
        return cls.of(framed, len(rows), len(framed) - HEADER_SIZE * len(rows))

    @cached_property
    def kept(self) -> WireChunk:
        framed = b"".join(self.framed)
        return self.of(framed, self.messages, self.size, owed=self.owed, resumed=self.resumed)

    def part(self, start: int, stop: int | None = None) -> WireChunk | None:
        """Return the data from the end of message `start` to the end of message `stop`.

        Messages count from 1; 0 is the chunk's start. A `stop` of None is the chunk's end, which may
        be inside a message. Returns None if there is no data in between.
        """
        (begin, before), (end, until) = self._end_of(start), self._end_of(stop)
        if begin == end:
            return None
        return self.of(
            self._contiguous[begin:end],
            (self.messages if stop is None else stop) - start,
            end - begin - HEADER_SIZE * (until - before),
            owed=self.owed if stop is None else 0,
            resumed=0 if start else self.resumed,
        )

    def data(self, start: int, stop: int | None = None) -> memoryview:
        """Return the payload of `part`."""
        (begin, before), (end, until) = self._end_of(start), self._end_of(stop)
        return memoryview(self.payload)[begin - HEADER_SIZE * before : end - HEADER_SIZE * until]

    def _end_of(self, message: int | None) -> tuple[int, int]:
        """Return the framed offset of the end of `message`, and the number of headers before."""
        if message is None:
            return len(self._contiguous), len(self._edges) - 1
        if not message:
            return 0, 0
        headers = message - bool(self.resumed)  # a resumed message has none in this chunk
        return self._edges[headers], headers

    @cached_property
    def payload(self) -> bytes:
        return b"".join(self._bodies())

    @cached_property
    def pieces(self) -> list[bytes]:
        return self._bodies()

    def boundary(self, sent: int) -> int:
        return next(edge for edge in self._edges if edge >= sent)

    def _bodies(self) -> list[bytes]:
        data = bytes(self._contiguous)  # slicing bytes costs less than half of slicing a view
        edges = self._edges
        first = [data[: edges[0]]] if edges[0] else []
        return first + [data[start + HEADER_SIZE : stop] for start, stop in pairwise(edges)]

    @cached_property
    def _contiguous(self) -> memoryview:
        return self.framed[0] if len(self.framed) == 1 else memoryview(b"".join(self.framed))

    @cached_property
    def _edges(self) -> Sequence[int]:
        data = self._contiguous
        stop, edge = len(data), self.resumed
        edges = array("Q", [edge])
        while edge < stop:
            edge += 1 + _LENGTH.unpack_from(data, edge + 1)[0]
            edges.append(edge)
        return edges


class PayloadChunk:
    """Unframed COPY data, from libpq or an iterator; each piece is a whole line or message.

    Raises TypeError if a piece is not bytes.
    """

    owed = 0

    def __init__(self, pieces: Sequence[bytes]) -> None:
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

    @cached_property
    def kept(self) -> WireChunk:
        return WireChunk.of_rows(self.pieces)
