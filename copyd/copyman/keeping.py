"""Rows that are kept until they are loaded, so that they can be sent again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from itertools import accumulate
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, NamedTuple

from copyd.copyman.chunk import WireChunk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


FETCHED = 4
"""Chunks of the file that are in memory as well: rows are looked at one after the other."""


class _Stored(NamedTuple):
    """A chunk in the file: where, and what `WireChunk.of` must be told of it."""

    offset: int
    length: int
    messages: int
    size: int
    owed: int
    resumed: int


class Tape:
    """Chunks in order: as many as fit into `memory` bytes there, the rest in a file without a name.

    Chunks are taken as they are: those of one cycle are shared by all who keep them.
    """

    def __init__(self, memory: int) -> None:
        self.rows = 0
        self.size = 0
        self._memory = memory
        self.entries: deque[WireChunk | _Stored] = deque()
        self._file: IO[bytes] | None = None
        self._fetched: dict[_Stored, WireChunk] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> WireChunk:
        chunk = self.entries[index]
        return self._fetch(chunk) if isinstance(chunk, _Stored) else chunk

    def __iter__(self) -> Iterator[WireChunk]:
        return (self[index] for index in range(len(self)))

    def append(self, chunk: WireChunk) -> None:
        """Keep a chunk whose memory is its own (see `Chunk.kept`).

        Raises OSError where the disk is full.
        """
        is_large = self.size + chunk.size > self._memory
        self.entries.append(self._store(chunk) if is_large and self.entries else chunk)
        self.rows += chunk.messages
        self.size += chunk.size

    def put_back(self, chunk: WireChunk) -> None:
        """Put `chunk` before all others."""
        self.entries.appendleft(chunk)
        self.rows += chunk.messages
        self.size += chunk.size

    def take(self) -> WireChunk:
        """Take the first chunk away; raises IndexError where there is none."""
        return self._forget(self.entries.popleft())

    def clear(self) -> None:
        """Let go of everything."""
        self.entries.clear()
        self._fetched.clear()
        self.rows = self.size = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _forget(self, kept: WireChunk | _Stored) -> WireChunk:
        chunk = self._fetch(kept) if isinstance(kept, _Stored) else kept
        self.rows -= chunk.messages
        self.size -= chunk.size
        if not self.entries:
            self.clear()
        return chunk

    def _store(self, chunk: WireChunk) -> _Stored:
        if self._file is None:
            self._file = TemporaryFile(prefix="copyd-")  # noqa: SIM115 - `clear` closes it
        offset = self._file.seek(0, 2)
        self._file.writelines(chunk.framed)
        length = self._file.tell() - offset
        return _Stored(offset, length, chunk.messages, chunk.size, chunk.owed, chunk.resumed)

    def _fetch(self, stored: _Stored) -> WireChunk:
        if stored not in self._fetched:
            if len(self._fetched) >= FETCHED:
                del self._fetched[next(iter(self._fetched))]
            self._fetched[stored] = self._read(stored)
        return self._fetched[stored]

    def _read(self, stored: _Stored) -> WireChunk:
        assert self._file is not None  # noqa: S101 - it was stored there
        self._file.seek(stored.offset)
        return WireChunk.of(
            self._file.read(stored.length),
            messages=stored.messages,
            size=stored.size,
            owed=stored.owed,
            resumed=stored.resumed,
        )


class Rows:
    """The rows of a tape by number, from 0: each is one message, as servers and iterators give them."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._ended = list(accumulate(chunk.messages for chunk in tape.entries))

    def __len__(self) -> int:
        return self._ended[-1] if self._ended else 0

    def data(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the payload of the rows from `start` up to `stop`, in pieces."""
        if start >= stop:
            return
        first, begin = self._find(start)
        last, end = self._find(stop)
        for index in range(first, last + 1):
            chunk = self._tape[index]
            piece = chunk.data(begin if index == first else 0, end if index == last else None)
            if piece:
                yield piece

    def row(self, number: int) -> bytes:
        """Return one row as it was received."""
        return b"".join(self.data(number, number + 1))

    def _find(self, row: int) -> tuple[int, int]:
        """Say in which chunk a row begins, and how many rows end there before it."""
        if row == 0:
            return 0, 0
        index = bisect_left(self._ended, row)
        return index, row - (self._ended[index - 1] if index else 0)


class Selection:
    """Rows without some of them, numbered anew from 0."""

    def __init__(self, rows: Rows, without: Sequence[int]) -> None:
        """`without`: numbers of rows, in order."""
        self._rows = rows
        self._without = without
        self._shifts = [row - index for index, row in enumerate(without)]

    def __len__(self) -> int:
        return len(self._rows) - len(self._without)

    def number(self, row: int) -> int:
        """Return the number that a row has among all."""
        return row + bisect_right(self._shifts, row)

    def spans(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield where the rows from `start` up to `stop` lie among all."""
        while start < stop:
            index = bisect_right(self._shifts, start)
            end = min(self._shifts[index], stop) if index < len(self._shifts) else stop
            yield start + index, end + index
            start = end

    def data(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the payload of the rows from `start` up to `stop`, in pieces."""
        return (piece for span in self.spans(start, stop) for piece in self._rows.data(*span))

    def row(self, number: int) -> bytes:
        """Return one row as it was received."""
        return self._rows.row(self.number(number))
