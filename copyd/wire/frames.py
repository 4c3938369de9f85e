r"""The boundaries of CopyData in a server's stream; nothing here touches a socket.

A `Scanner` takes blocks of the stream and returns for each its spans of CopyData, which can be sent
on unchanged, and the other messages between them. It never guesses a boundary.

Messages of one length are followed many at a time (`stride`), whatever the format.

In text format the rest of a block is scanned at memory speed, in one of two ways. A row ends in a
newline and holds no NUL byte, and the next message begins with ``d`` and, below 16 MiB, a NUL. So
a block in which every newline is followed by ``d\0`` holds nothing but CopyData (`leap`). `sift`
finds that sooner: it deletes all bytes but these three and compares the rest with a repeated
pattern. A newline right after a NUL byte is part of a length, never of a row. Where the counts do
not add up (an embedded newline in CSV, a notice, a length byte that looks like a newline, the end),
and in binary format, the chain of lengths is followed message by message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from copyd.wire.messages import Message, ProtocolError

HEADER_SIZE = 5
_HEADER = struct.Struct("!BI")
_COPY_DATA = ord("d")
ROW_STARTS = (b"\nd\0\0\0", b"\nd\0\0", b"\nd\0")
"""The end of a row and the beginning of the next one of less than 252 bytes, 64 KiB, 16 MiB.

A longer pattern is found faster: it lets the search skip more.
"""
SIFTED = b"d\0\0\0\n"
"""What is left of a row of less than 252 bytes with its header, without a letter d in it, once all
other bytes are taken out."""
_OTHERS = bytes(set(range(256)) - set(SIFTED))
SIFT_AGAIN = 16
"""Blocks after one that could not be sifted, until one is tried again."""
STRIDE_AGAIN = 512
"""Messages that are followed one by one before `stride` is tried again."""
FIRST_STRIDE, LONGER = 16, 8
"""Messages that are compared together, and the factor for the next ones if all were alike."""
BLOCK_LIMIT = 512 * 1024


@dataclass(frozen=True, slots=True)
class Cut:
    """The content of one block.

    ``spans``: offsets (start, stop) of framed CopyData in the block, in order. ``messages``:
    CopyData messages that end in the block. ``size``: bytes of payload in the spans, headers not
    counted. ``owed``: bytes of the last message's body that later blocks will bring. ``others``:
    the other messages that end in the block. ``rest``: bytes at the block's end (0 to 4, a header
    cut in two) that must stand at the front of the next block.
    """

    spans: tuple[tuple[int, int], ...]
    messages: int
    size: int
    owed: int
    others: tuple[Message, ...]
    rest: int


class _Tally:
    """The content of a block so far."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self.messages = 0
        self.headers = 0
        self.others: list[Message] = []

    def add(self, start: int, stop: int) -> None:
        """Take in ``start:stop`` as framed CopyData, next to or behind what is there."""
        if start == stop:
            return
        if self.spans and self.spans[-1][1] == start:
            start = self.spans.pop()[0]
        self.spans.append((start, stop))

    def cut(self, owed: int, rest: int) -> Cut:
        size = sum(stop - start for start, stop in self.spans) - HEADER_SIZE * self.headers
        return Cut(tuple(self.spans), self.messages, size, owed, tuple(self.others), rest)


class Scanner:
    """Follows one server's messages through the blocks they arrive in."""

    def __init__(self) -> None:
        self.is_text = False
        """True lets whole blocks be scanned at once: the format is text or CSV."""
        self._row_start = 0
        self._unsifted = 0
        self._owed = 0
        self._other: tuple[int, bytearray] | None = None

    @property
    def owed(self) -> int:
        """Bytes of body that the unfinished CopyData message still owes."""
        return self._owed

    @property
    def is_between_messages(self) -> bool:
        """Whether all that was fed so far ended with a whole message."""
        return self._owed == 0 and self._other is None

    def feed(self, block: bytearray, stop: int) -> Cut:
        """Cut ``block[:stop]``; what `Cut.rest` counts must come again with the next block.

        Raises ProtocolError where a length is impossible, ValueError for a block that is too
        large (`BLOCK_LIMIT`).
        """
        if stop > BLOCK_LIMIT:
            raise ValueError(f"a block has at most {BLOCK_LIMIT} bytes, not {stop}")
        tally = _Tally()
        position = self._resume(block, stop, tally)
        if self.is_text and stop - position > HEADER_SIZE:
            position = self._leap(block, position, stop, tally)
        position = self._walk(block, position, stop, tally)
        return tally.cut(self._owed, stop - position)

    def _resume(self, block: bytearray, stop: int, tally: _Tally) -> int:
        """Go on with the message that the last block left unfinished."""
        if self._other is not None:
            missing, text = self._other
            taken = min(missing, stop)
            text += block[:taken]
            self._keep_other(missing - taken, text, tally)
            return taken
        taken = min(self._owed, stop)
        if taken:
            self._owed -= taken
            tally.messages += self._owed == 0
            tally.add(0, taken)
        return taken

    def _leap(self, block: bytearray, position: int, stop: int, tally: _Tally) -> int:
        """Pass over whole rows as far as they are certain: those of one length, then any others."""
        rows, end = stride(block, position, stop)
        if block.find(b"\n", end, stop - HEADER_SIZE) >= 0:
            varied, end = self._leap_varied(block, end, stop)
            rows += varied
        tally.messages += rows
        tally.headers += rows
        tally.add(position, end)
        return end

    def _leap_varied(self, block: bytearray, position: int, stop: int) -> tuple[int, int]:
        """Pass over rows of any length, in the fastest way that has worked recently."""
        self._unsifted -= self._unsifted > 0
        rows, end = (0, position) if self._unsifted else sift(block, position, stop)
        if not rows:
            self._unsifted = self._unsifted or SIFT_AGAIN
            rows, end = self._leap_by_pattern(block, position, stop)
        return rows, end

    def _leap_by_pattern(self, block: bytearray, position: int, stop: int) -> tuple[int, int]:
        """Leap by the longest pattern that has worked so far: row sizes tend to stay."""
        rows, end = leap(block, position, stop, ROW_STARTS[self._row_start])
        while not rows and self._row_start < len(ROW_STARTS) - 1:
            self._row_start += 1
            rows, end = leap(block, position, stop, ROW_STARTS[self._row_start])
        return rows, end

    def _walk(self, block: bytearray, position: int, stop: int, tally: _Tally) -> int:
        """Follow the chain of lengths to the block's end."""
        while stop - position >= HEADER_SIZE:
            alike, end = stride(block, position, stop)
            tally.messages += alike
            tally.headers += alike
            tally.add(position, end)
            single = 1 if alike >= FIRST_STRIDE else STRIDE_AGAIN
            position = self._step(block, end, stop, single, tally)
        return position

    def _step(
        self, block: bytearray, position: int, stop: int, messages: int, tally: _Tally
    ) -> int:
        """Follow the chain of lengths one by one for so many messages."""
        begin = position
        for _ in range(messages):
            if stop - position < HEADER_SIZE:
                break
            kind, length = _HEADER.unpack_from(block, position)
            if length < 4:
                raise ProtocolError(f"message {bytes([kind])!r} has impossible length {length}")
            end = position + 1 + length
            if kind == _COPY_DATA:
                tally.headers += 1
                if end > stop:
                    self._owed = end - stop
                    end = stop
                else:
                    tally.messages += 1
            else:
                tally.add(begin, position)
                text = block[position : min(end, stop)]
                self._keep_other(max(end - stop, 0), text, tally)
                begin = end = min(end, stop)
            position = end
        tally.add(begin, position)
        return position

    def _keep_other(self, missing: int, text: bytearray, tally: _Tally) -> None:
        """Keep a message that is not CopyData, or the part of it that has come."""
        if missing:
            self._other = (missing, text)
        else:
            self._other = None
            tally.others.append(Message(bytes(text[:1]), bytes(text[HEADER_SIZE:])))


def sift(block: bytearray, start: int, stop: int) -> tuple[int, int]:
    """Skip whole text rows as `leap` does, in less than half of its time where it succeeds.

    Only a row stands between two newlines where nothing but `SIFTED` is left of it: another message
    begins with another letter and has, below 16 MiB, a NUL right behind it. The last row is the last
    one that is followed by the start of the next: a newline at the block's end may stand inside a
    line of CSV.
    """
    end = block.rfind(ROW_STARTS[-1], start, stop) + 1
    if not end:
        return 0, start
    sifted = block[start:end].translate(None, _OTHERS)
    rows = len(sifted) // len(SIFTED)
    return (rows, end) if sifted == SIFTED * rows else (0, start)


def stride(block: bytearray, start: int, stop: int) -> tuple[int, int]:
    """Skip CopyData messages of one length, as rows of numbers in binary format are.

    Returns how many were skipped and where the next message begins. The lengths are followed all
    the same, many at a time: each header is seen to be that of the first message.
    """
    header = block[start : start + HEADER_SIZE]
    kind, length = _HEADER.unpack(header)
    if kind != _COPY_DATA or length < 4:
        return 0, start
    size, end, window = 1 + length, start, FIRST_STRIDE
    while True:
        reach = end + min(window, (stop - end) // size) * size
        columns = (block[end + index : reach : size] for index in range(HEADER_SIZE))
        alike = min(map(_beginning_with, columns, header))
        end += alike * size
        if alike < window:
            return (end - start) // size, end
        window *= LONGER


def _beginning_with(column: bytearray, byte: int) -> int:
    """Count the bytes at the start of `column` that are `byte`."""
    size, same = len(column), bytes((byte,))
    return size if column == same * size else size - len(column.lstrip(same))


def leap(block: bytearray, start: int, stop: int, row_start: bytes) -> tuple[int, int]:
    """Skip the whole text rows of ``block[start:stop]``, which begins at a message.

    `row_start` is one of `ROW_STARTS`. Returns how many messages were skipped and where the next
    one begins: (0, `start`) where it is not certain that every row is followed by `row_start`.
    """
    unsure = 0, start
    if not block.startswith(row_start[1:], start, stop):
        return unsure
    rows = block.count(row_start, start, stop)
    last = block.rfind(row_start, start, stop)
    # One length, 680,960 (0x000A6400), holds the shortest pattern itself. Its row is larger than
    # a block, so it can only be the last match.
    false = last > 0 and block[last - 1] == 0
    if false:
        rows -= 1
        last = block.rfind(row_start, start, last)
    if last < 0:
        return unsure
    judged = stop - len(row_start) + 1  # a newline behind has too few bytes after it
    newlines = block.count(b"\n", start, judged)
    if newlines - false != rows:
        if block.find(b"\0" + row_start, start, stop) >= 0:
            return unsure  # it would count both as part of a length and as the end of a row
        newlines -= block.count(b"\0\n", start, judged)
        false = False
    return (rows, last + 1) if newlines - false == rows else unsure
