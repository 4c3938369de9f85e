r"""Find the CopyData messages in a server's byte stream; nothing here touches a socket.

A `Scanner` takes the stream block by block. For each block it returns the ranges of CopyData, which
can be relayed unchanged, and the other messages between them. It never guesses a boundary.

Messages of one length are followed many at a time (`stride`), in any format.

In text format the rest of a block is scanned at memory speed. A row ends in a newline and contains
no NUL byte; the next message starts with ``d`` and, below 16 MiB, a NUL. So a block in which ``d\0``
follows every newline contains only CopyData (`leap`). `sift` proves the same faster: reduced to the
bytes NUL, newline and d, such a block is one short pattern, repeated. A newline right after a NUL
byte belongs to a length, never to a row. If neither proof holds (an embedded newline in CSV, a
notice, a length byte that equals a newline, the end of the COPY), and in binary format, the scanner
follows the lengths message by message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from copyd.wire.messages import Message, ProtocolError

HEADER_SIZE = 5
_HEADER = struct.Struct("!BI")
_COPY_DATA = ord("d")
ROW_STARTS = (b"\nd\0\0\0", b"\nd\0\0", b"\nd\0")
"""The end of a row and the start of the next, below 252 bytes, 64 KiB and 16 MiB.

A longer pattern is found faster, because the search can skip more bytes.
"""
SIFTED = b"d\0\0\0\n"
"""The bytes that `sift` keeps of a header and a row below 252 bytes without the letter d."""
_OTHERS = bytes(set(range(256)) - set(SIFTED))
SIFT_AGAIN = 16  # after a block that could not be sifted: the number of blocks before the next try
STRIDE_AGAIN = 512  # messages to follow one by one before the next try for messages of one length
FIRST_STRIDE, LONGER = 16, 8
"""Messages to compare at once, and the factor for the next comparison after all were alike."""
# Below 680,960, the length that contains the shortest row start itself: see `leap`.
BLOCK_LIMIT = 512 * 1024


@dataclass(frozen=True, slots=True)
class Cut:
    """The contents of one block.

    ``spans``: offsets (start, stop) of framed CopyData in the block, in order. ``messages``: number
    of CopyData messages that end in the block. ``size``: payload bytes in the spans, without
    headers. ``owed``: bytes of the last message's body still to arrive. ``others``: the other
    messages that end in the block. ``rest``: bytes at the block's end (0 to 4, part of a header) to
    put in front of the next block.
    """

    spans: tuple[tuple[int, int], ...]
    messages: int
    size: int
    owed: int
    others: tuple[Message, ...]
    rest: int


class _Tally:
    """The contents of a block, as far as they are known."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self.messages = 0
        self.headers = 0
        self.others: list[Message] = []

    def add(self, start: int, stop: int) -> None:
        """Add ``start:stop`` as framed CopyData, adjacent to the last span or after it."""
        if start == stop:
            return
        if self.spans and self.spans[-1][1] == start:
            start = self.spans.pop()[0]
        self.spans.append((start, stop))

    def cut(self, owed: int, rest: int) -> Cut:
        size = sum(stop - start for start, stop in self.spans) - HEADER_SIZE * self.headers
        return Cut(tuple(self.spans), self.messages, size, owed, tuple(self.others), rest)


class Scanner:
    """Follows the messages of one server from block to block."""

    def __init__(self) -> None:
        self.is_text = False
        """True for text and CSV format: whole blocks can be scanned at once."""
        self._row_start = 0
        self._unsifted = 0
        self._owed = 0
        self._other: tuple[int, bytearray] | None = None

    @property
    def owed(self) -> int:
        """Bytes of the unfinished CopyData message's body still to arrive."""
        return self._owed

    @property
    def is_between_messages(self) -> bool:
        """Whether the stream so far ends with a whole message."""
        return self._owed == 0 and self._other is None

    def feed(self, block: bytearray, stop: int) -> Cut:
        """Cut ``block[:stop]``; the caller puts the last `Cut.rest` bytes before the next block.

        Raises ProtocolError if a length is impossible, ValueError if the block is larger than
        `BLOCK_LIMIT`.
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
        """Continue the message that the last block left unfinished."""
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
        """Skip as many whole rows as are certain: rows of one length, then all others."""
        # Decision: The newline scan counts certainties
        rows, end = stride(block, position, stop)
        if block.find(b"\n", end, stop - HEADER_SIZE) >= 0:
            varied, end = self._leap_varied(block, end, stop)
            rows += varied
        tally.messages += rows
        tally.headers += rows
        tally.add(position, end)
        return end

    def _leap_varied(self, block: bytearray, position: int, stop: int) -> tuple[int, int]:
        """Skip rows of any length, by the fastest method that worked on recent blocks."""
        self._unsifted -= self._unsifted > 0
        rows, end = (0, position) if self._unsifted else sift(block, position, stop)
        if not rows:
            self._unsifted = self._unsifted or SIFT_AGAIN
            rows, end = self._leap_by_pattern(block, position, stop)
        return rows, end

    def _leap_by_pattern(self, block: bytearray, position: int, stop: int) -> tuple[int, int]:
        """Leap by the longest pattern that still works; later rows tend to be of the same size."""
        rows, end = leap(block, position, stop, ROW_STARTS[self._row_start])
        while not rows and self._row_start < len(ROW_STARTS) - 1:
            self._row_start += 1
            rows, end = leap(block, position, stop, ROW_STARTS[self._row_start])
        return rows, end

    def _walk(self, block: bytearray, position: int, stop: int, tally: _Tally) -> int:
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
        """Keep a message other than CopyData, or the part of it that has arrived."""
        if missing:
            self._other = (missing, text)
        else:
            self._other = None
            tally.others.append(Message(bytes(text[:1]), bytes(text[HEADER_SIZE:])))


def sift(block: bytearray, start: int, stop: int) -> tuple[int, int]:
    """Skip whole text rows as `leap` does, in less than half the time if it succeeds.

    If only `SIFTED` remains of each row, no other message is among them: it would start with another
    letter and, below 16 MiB, a NUL, which breaks the pattern.
    """
    # Up to the last visible start of a row: the block's last newline may be inside a line of CSV.
    end = block.rfind(ROW_STARTS[-1], start, stop) + 1
    if not end:
        return 0, start
    sifted = block[start:end].translate(None, _OTHERS)
    rows = len(sifted) // len(SIFTED)
    return (rows, end) if sifted == SIFTED * rows else (0, start)


def stride(block: bytearray, start: int, stop: int) -> tuple[int, int]:
    """Skip CopyData messages of one length, such as rows of numbers in binary format.

    Returns the number of messages skipped and the start of the next one. Every header is still
    checked, many at a time: each must equal the header of the first message.
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
    """Count the bytes equal to `byte` at the start of `column`."""
    size, same = len(column), bytes((byte,))
    return size if column == same * size else size - len(column.lstrip(same))


def leap(block: bytearray, start: int, stop: int, row_start: bytes) -> tuple[int, int]:
    """Skip the whole text rows of ``block[start:stop]``, which starts at a message.

    `row_start` is one of `ROW_STARTS`. Returns the number of messages skipped and the start of the
    next one: (0, `start`) unless `row_start` certainly follows every row.
    """
    unsure = 0, start
    if not block.startswith(row_start[1:], start, stop):
        return unsure
    rows = block.count(row_start, start, stop)
    last = block.rfind(row_start, start, stop)
    # One length, 680,960 (0x000A6400), contains the shortest pattern itself. Its row is larger than
    # a block, so it can only be the last match.
    false = last > 0 and block[last - 1] == 0
    if false:
        rows -= 1
        last = block.rfind(row_start, start, last)
    if last < 0:
        return unsure
    judged = stop - len(row_start) + 1  # a later newline has too few bytes after it
    newlines = block.count(b"\n", start, judged)
    if newlines - false != rows:
        if block.find(b"\0" + row_start, start, stop) >= 0:
            return unsure  # this newline would count both as part of a length and as a row's end
        newlines -= block.count(b"\0\n", start, judged)
        false = False
    return (rows, last + 1) if newlines - false == rows else unsure
