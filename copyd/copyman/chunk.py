"""One cycle's COPY data in the forms that receivers need; each form is made at most once."""

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
    def kept(self) -> WireChunk:
        """The same data in memory of its own, which stays when the producer is read again."""

    def boundary(self, sent: int) -> int:
        """Return the end of the message in which the first `sent` framed bytes end.

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
        self.resumed = resumed

    @classmethod
    def of(
        cls, framed: bytes | memoryview, *, messages: int, size: int, owed: int, resumed: int
    ) -> WireChunk:
        """Take framed data that lies in memory of its own."""
        cut = Cut(((0, len(framed)),), messages, size, owed, (), 0)
        return cls(memoryview(framed), cut, resumed=resumed)

    @classmethod
    def of_rows(cls, rows: Sequence[bytes]) -> WireChunk:
        """Frame `rows`, each as a message."""
        framed = b"".join([part for row in rows for part in (data_header(len(row)), row)])
        size = len(framed) - HEADER_SIZE * len(rows)
        return cls.of(framed, messages=len(rows), size=size, owed=0, resumed=0)

    @cached_property
    def kept(self) -> WireChunk:
        framed = b"".join(self.framed)
        return WireChunk.of(
            framed, messages=self.messages, size=self.size, owed=self.owed, resumed=self.resumed
        )

    def part(self, start: int, stop: int | None = None) -> WireChunk | None:
        """Return the data behind the end of its `start`-th message, up to that of its `stop`-th.

        0 is where the chunk begins, None where it ends, be it inside a message; nothing is None.
        """
        stop = None if stop == self.messages and not self.owed else stop
        begin, end = self._end_of(start), len(self._contiguous)
        headers = len(self._edges) - 1 - self._headers_before(start)
        if stop is not None:
            end = self._end_of(stop)
            headers = self._headers_before(stop) - self._headers_before(start)
        if begin == end:
            return None
        return WireChunk.of(
            self._contiguous[begin:end],
            messages=(self.messages if stop is None else stop) - start,
            size=end - begin - HEADER_SIZE * headers,
            owed=self.owed if stop is None else 0,
            resumed=0 if start else self.resumed,
        )

    def data(self, start: int, stop: int | None = None) -> memoryview:
        """Return the payload of `part`."""
        payload = memoryview(self.payload)
        begin = self._end_of(start) - HEADER_SIZE * self._headers_before(start)
        if stop is None:
            return payload[begin:]
        return payload[begin : self._end_of(stop) - HEADER_SIZE * self._headers_before(stop)]

    def _end_of(self, message: int) -> int:
        return self._edges[self._headers_before(message)] if message else 0

    def _headers_before(self, message: int) -> int:
        """Count the messages that begin before the end of the `message`-th that ends here."""
        return message - bool(self.resumed) if message else 0

    @cached_property
    def payload(self) -> bytes:
        return b"".join(self._bodies())

    @cached_property
    def pieces(self) -> list[bytes]:
        return self._bodies()

    def boundary(self, sent: int) -> int:
        return next(edge for edge in self._edges if edge >= sent)

    def _bodies(self) -> list[bytes]:
        data = bytes(self._contiguous)  # slices of it cost less than half of a view's
        edges = self._edges
        first = [data[: edges[0]]] if edges[0] else []
        return first + [data[start + HEADER_SIZE : stop] for start, stop in pairwise(edges)]

    @cached_property
    def _contiguous(self) -> memoryview:
        return self.framed[0] if len(self.framed) == 1 else memoryview(b"".join(self.framed))

    @cached_property
    def _edges(self) -> Sequence[int]:
        """Where each message begins, and where the last one ends (``owed`` past the data)."""
        data = self._contiguous
        stop, edge = len(data), self.resumed
        edges = array("Q", [edge])
        while edge < stop:
            edge += 1 + _LENGTH.unpack_from(data, edge + 1)[0]
            edges.append(edge)
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

    @cached_property
    def kept(self) -> WireChunk:
        return WireChunk.of_rows(self.pieces)
