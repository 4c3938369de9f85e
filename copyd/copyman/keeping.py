"""Rows that are kept until they are loaded, so that they can be sent again."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, NamedTuple

from copyd.copyman.chunk import WireChunk
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.copyman.chunk import Chunk


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
        self._chunks: deque[Chunk | _Stored] = deque()
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, index: int) -> Chunk:
        chunk = self._chunks[index]
        return self._fetch(chunk) if isinstance(chunk, _Stored) else chunk

    def __iter__(self) -> Iterator[Chunk]:
        return (self[index] for index in range(len(self)))

    def append(self, chunk: Chunk) -> None:
        """Keep a chunk whose memory is its own (see `Chunk.kept`).

        Raises OSError where the disk is full.
        """
        is_large = self.size + chunk.size > self._memory
        self._chunks.append(self._store(chunk) if is_large and self._chunks else chunk)
        self.rows += chunk.messages
        self.size += chunk.size

    def put_back(self, chunk: Chunk) -> None:
        """Put `chunk` before all others."""
        self._chunks.appendleft(chunk)
        self.rows += chunk.messages
        self.size += chunk.size

    def take(self) -> Chunk:
        """Take the first chunk away; raises IndexError where there is none."""
        return self._forget(self._chunks.popleft())

    def cut(self) -> list[Chunk]:
        """Take away what comes after the end of the last whole row; returns it, last chunk first."""
        taken: list[Chunk] = []
        while self._chunks:
            head, tail = self._forget(self._chunks.pop()).split()
            taken += [tail] if tail is not None else []
            if head is not None:
                self.append(head)
                break
        return taken

    def clear(self) -> None:
        """Let go of everything."""
        self._chunks.clear()
        self.rows = self.size = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _forget(self, kept: Chunk | _Stored) -> Chunk:
        chunk = self._fetch(kept) if isinstance(kept, _Stored) else kept
        self.rows -= chunk.messages
        self.size -= chunk.size
        if not self._chunks:
            self.clear()
        return chunk

    def _store(self, chunk: Chunk) -> _Stored:
        if self._file is None:
            self._file = TemporaryFile(prefix="copyd-")  # noqa: SIM115 - `clear` closes it
        offset = self._file.seek(0, 2)
        self._file.writelines(chunk.framed)
        length = self._file.tell() - offset
        resumed = chunk.resumed if isinstance(chunk, WireChunk) else 0
        return _Stored(offset, length, chunk.messages, chunk.size, chunk.owed, resumed)

    def _fetch(self, stored: _Stored) -> Chunk:
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
    """The rows of a tape by number, from 0; in text format, where each ends in its only newline.

    One row is one message, as servers and iterators give them.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._ended = list(accumulate(chunk.messages for chunk in tape))
        self._looked_at: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return self._ended[-1] if self._ended else 0

    def payload(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the data of the rows from `start` up to `stop`, in pieces."""
        if start >= stop:
            return
        first, begin = self._find(start)
        last, end = self._find(stop)
        for index in range(first, last + 1):
            data = self._tape[index].payload
            piece = data[begin if index == first else 0 : end if index == last else None]
            if piece:
                yield piece

    def row(self, number: int) -> bytes:
        """Return one row, with its newline."""
        return b"".join(self.payload(number, number + 1))

    def _find(self, row: int) -> tuple[int, int]:
        """Say in which chunk a row begins, and where in its payload."""
        if row == 0:
            return 0, 0
        index = bisect_left(self._ended, row)
        before = self._ended[index - 1] if index else 0
        return index, self._look_at(index)[row - before - 1]

    def _look_at(self, index: int) -> list[int]:
        """Return where in a chunk's payload each row ends that ends there.

        Raises CopydError where rows and messages are not the same.
        """
        if index not in self._looked_at:
            if len(self._looked_at) >= 2:  # where a span begins and where it ends
                del self._looked_at[next(iter(self._looked_at))]
            payload = self._tape[index].payload
            lines = payload.split(b"\n")
            ends = list(accumulate(len(line) + 1 for line in lines[:-1]))
            if len(ends) != self._tape[index].messages:
                raise CopydError("a message of the COPY data is not one row and its newline")
            self._looked_at[index] = ends
        return self._looked_at[index]
