"""Rows kept until they are loaded, in memory and temporary files; nothing here touches a socket."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import accumulate
from tempfile import TemporaryFile, gettempdir
from typing import TYPE_CHECKING, NamedTuple
from weakref import finalize

from copyd.copyman.chunk import WireChunk
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from copyd.copyman.batching.isolation import Span
    from copyd.copyman.batching.refusal import Refusal
    from copyd.wire import Cut


FETCHED = 4  # chunks of the files that are cached in memory: rows are probed in order
LOOSE_ROWS, LOOSE_SIZE = 512, 256 * 1024
"""Rows, and their bytes, that are held before they become a chunk."""


class _SpoolFile:
    """An unnamed file, closed with the last chunk in it."""

    def __init__(self) -> None:
        # Unbuffered, so that a full disk is an error of the write, not of the close.
        self._file = TemporaryFile(prefix="copyd-", buffering=0)  # noqa: SIM115
        self._close = finalize(self, self._file.close)
        self._chunks = 0
        self.size = 0

    def put(self, views: Iterable[memoryview]) -> int:
        """Append `views`; returns their offset."""
        offset = self._file.seek(self.size)  # a read may have moved the position
        for view in views:
            left = view
            while left:
                left = left[self._file.write(left) :]
        self.size = self._file.tell()
        self._chunks += 1
        return offset

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def release(self) -> bool:
        """Discard a chunk; True if this was the last and the file is closed."""
        self._chunks -= 1
        if not self._chunks:
            self._close()
        return not self._chunks


class _Stored(NamedTuple):
    """A chunk in a file: the arguments of `WireChunk`."""

    file: _SpoolFile
    offset: int
    cut: Cut
    resumed: int

    def read(self) -> WireChunk:
        (_, length) = self.cut.spans[0]
        block = memoryview(self.file.read(self.offset, length))
        return WireChunk(block, self.cut, resumed=self.resumed)


class Spool:
    """Chunks in order: up to `memory` bytes in memory, the rest in unnamed files.

    Chunks are not copied: all receivers share the chunks of a cycle.
    """

    def __init__(self, memory: int) -> None:
        self.rows = 0
        self.size = 0
        self._memory = memory
        self.entries: deque[WireChunk | _Stored] = deque()
        self._file: _SpoolFile | None = None  # the file that new chunks are written to
        self._fetched: dict[_Stored, WireChunk] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> WireChunk:
        chunk = self.entries[index]
        return self._fetch(chunk) if isinstance(chunk, _Stored) else chunk

    def __iter__(self) -> Iterator[WireChunk]:
        return (self[index] for index in range(len(self)))

    def append(self, chunk: WireChunk) -> None:
        """Add a chunk with its own memory (see `Chunk.kept`); raises CopydError on a full disk."""
        is_full = self.size >= self._memory
        self.entries.append(self._store(chunk) if is_full and self.entries else chunk)
        self.rows += chunk.messages
        self.size += chunk.size

    def put_back(self, chunk: WireChunk) -> None:
        """Add `chunk` before all others."""
        self.entries.appendleft(chunk)
        self.rows += chunk.messages
        self.size += chunk.size

    def take(self) -> WireChunk:
        """Remove and return the first chunk; raises IndexError if there is none."""
        kept = self.entries.popleft()
        chunk = kept.read() if isinstance(kept, _Stored) else kept
        self._forget(kept)
        self.rows -= chunk.messages
        self.size -= chunk.size
        return chunk

    def clear(self) -> None:
        """Discard all chunks."""
        while self.entries:
            self._forget(self.entries.popleft())
        self.rows = self.size = 0

    def _forget(self, kept: WireChunk | _Stored) -> None:
        if isinstance(kept, _Stored):
            self._fetched.pop(kept, None)
            if kept.file.release() and kept.file is self._file:
                self._file = None

    def _store(self, chunk: WireChunk) -> _Stored:
        try:
            # Several files, because a file frees its space only as a whole; not too many, because
            # each needs a descriptor.
            if self._file is None or self._file.size >= max(self._memory, self.size // 4):
                self._file = _SpoolFile()
            offset = self._file.put(chunk.framed)
        except OSError as error:
            raise CopydError(
                f"rows that wait for their server cannot be kept in {gettempdir()}: "
                f"{error.strerror}; make room there, or set TMPDIR"
            ) from error
        cut = replace(chunk.cut, spans=((0, self._file.size - offset),))
        return _Stored(self._file, offset, cut, chunk.resumed)

    def _fetch(self, stored: _Stored) -> WireChunk:
        if stored not in self._fetched:
            if len(self._fetched) >= FETCHED:
                del self._fetched[next(iter(self._fetched))]
            self._fetched[stored] = stored.read()
        return self._fetched[stored]


class Rows:
    """The rows of a spool by number, from 0; servers and iterators send each row as a message."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._ended = list(accumulate(chunk.cut.messages for chunk in spool.entries))

    def __len__(self) -> int:
        return self._ended[-1] if self._ended else 0

    @property
    def size(self) -> int:
        """Bytes of payload."""
        return self._spool.size

    def data(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the payload of rows `start` up to `stop`, in pieces."""
        if start >= stop:
            return
        first, begin = self._find(start)
        last, end = self._find(stop)
        for index in range(first, last + 1):
            chunk = self._spool[index]
            piece = chunk.data(begin if index == first else 0, end if index == last else None)
            if piece:
                yield piece

    def row(self, number: int) -> bytes:
        """Return a row as received."""
        return b"".join(self.data(number, number + 1))

    def _find(self, row: int) -> tuple[int, int]:
        if row == 0:
            return 0, 0
        index = bisect_left(self._ended, row)
        return index, row - (self._ended[index - 1] if index else 0)


class Selection:
    """Rows without the rows `without` (in ascending order), renumbered from 0."""

    def __init__(self, rows: Rows, without: Sequence[int]) -> None:
        self._rows = rows
        self._without = without
        self._shifts = [row - index for index, row in enumerate(without)]

    def __len__(self) -> int:
        return len(self._rows) - len(self._without)

    def number(self, row: int) -> int:
        """Return a row's number among all rows."""
        return row + bisect_right(self._shifts, row)

    def spans(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the spans, among all rows, of rows `start` up to `stop`."""
        while start < stop:
            index = bisect_right(self._shifts, start)
            end = min(self._shifts[index], stop) if index < len(self._shifts) else stop
            yield start + index, end + index
            start = end

    def data(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the payload of rows `start` up to `stop`, in pieces."""
        return (piece for span in self.spans(start, stop) for piece in self._rows.data(*span))

    def row(self, number: int) -> bytes:
        """Return a row as received."""
        return self._rows.row(self.number(number))


@dataclass
class HeldRows:
    """Rows refused so far by a foreign key, with the origin of each."""

    spool: Spool
    starts: list[int] = field(default_factory=list)  # in the spool, of each span
    spans: list[tuple[int, int, Refusal]] = field(default_factory=list)  # ordinal, batch, why
    loose: list[bytes] = field(default_factory=list)  # rows that are not in the spool yet
    loose_size: int = 0

    def __len__(self) -> int:
        return self.spool.rows + len(self.loose)

    def add(self, rows: Rows, span: Span, ordinal: int, batch: int, refusal: Refusal) -> None:
        """Add the rows of `span`; `ordinal` is the first row's number in the copy."""
        self.starts.append(len(self))
        self.spans.append((ordinal, batch, refusal))
        for row in range(span.start, span.stop):
            self.loose.append(rows.row(row))
            self.loose_size += len(self.loose[-1])
            if len(self.loose) >= LOOSE_ROWS or self.loose_size >= LOOSE_SIZE:
                self.pack()

    def pack(self) -> Rows:
        """Move all rows into the spool."""
        if self.loose:
            self.spool.append(WireChunk.of_rows(self.loose))
            self.loose.clear()
            self.loose_size = 0
        return Rows(self.spool)

    def origin(self, row: int) -> tuple[int, int, Refusal]:
        """Return a row's ordinal in the copy, its batch, and its refusal."""
        index = bisect_right(self.starts, row) - 1
        ordinal, batch, refusal = self.spans[index]
        return ordinal + row - self.starts[index], batch, refusal
