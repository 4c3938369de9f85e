"""Chunks cut at every place: the forms that receivers need say the same."""

from __future__ import annotations

from itertools import accumulate

import pytest

from copyd.copyman import CallReceiver
from copyd.copyman.chunk import PayloadChunk, WireChunk
from copyd.wire import HEADER_SIZE, Scanner, data_header

LINES = [b"one\n", b"\n", b"four\n", b"x" * 30 + b"\n"]
STREAM = b"".join(data_header(len(line)) + line for line in LINES)
EDGES = [0, *accumulate(HEADER_SIZE + len(line) for line in LINES)]


def chunks_of(*parts: bytes) -> list[WireChunk]:
    """Feed `parts` as blocks, with what a block leaves over put before the next one."""
    scanner, rest, chunks = Scanner(), b"", []
    for part in parts:
        block = bytearray(rest + part)
        resumed = scanner.owed
        cut = scanner.feed(block, len(block))
        rest = bytes(block[len(block) - cut.rest :])
        if cut.spans:
            chunks.append(WireChunk(memoryview(block), cut, resumed=resumed))
    return chunks


@pytest.mark.parametrize("place", range(len(STREAM)))
def test_a_callable_gets_whole_lines_wherever_the_blocks_are_cut(place: int) -> None:
    got: list[bytes] = []
    receiver = CallReceiver(got.extend)
    for chunk in chunks_of(STREAM[:place], STREAM[place:]):
        receiver.offer(chunk)
        assert receiver.pump()
    assert got == LINES


@pytest.mark.parametrize("place", range(1, len(STREAM)))
def test_payload_pieces_and_frames_of_a_cut_stream_hold_the_same_bytes(place: int) -> None:
    chunks = chunks_of(STREAM[:place], STREAM[place:])
    assert b"".join(chunk.payload for chunk in chunks) == b"".join(LINES)
    assert b"".join(bytes(view) for chunk in chunks for view in chunk.framed) == STREAM
    assert sum(chunk.messages for chunk in chunks) == len(LINES)
    assert [chunk.size for chunk in chunks] == [len(chunk.payload) for chunk in chunks]


@pytest.mark.parametrize("sent", range(len(STREAM) + 1))
def test_the_boundary_is_the_end_of_the_message_that_was_begun(sent: int) -> None:
    (chunk,) = chunks_of(STREAM)
    assert chunk.boundary(sent) == next(edge for edge in EDGES if edge >= sent)


@pytest.mark.parametrize("place", range(HEADER_SIZE + 1, len(STREAM)))
def test_the_boundary_of_a_message_that_goes_on_lies_beyond_the_chunk(place: int) -> None:
    first = chunks_of(STREAM[:place])[0]
    size = sum(map(len, first.framed))
    end = next(edge for edge in EDGES if edge >= size)
    assert first.boundary(size) == end
    assert first.owed == end - size


def test_lines_without_framing_are_framed_as_one_message() -> None:
    chunk = PayloadChunk(LINES)
    payload = b"".join(LINES)
    assert b"".join(chunk.framed) == data_header(len(payload)) + payload
    assert [chunk.boundary(sent) for sent in (0, 1, 9, HEADER_SIZE + len(payload))] == [
        0,
        *[HEADER_SIZE + len(payload)] * 3,
    ]
    assert (chunk.messages, chunk.size, chunk.owed) == (4, len(payload), 0)


def test_no_lines_are_no_bytes_to_send() -> None:
    assert PayloadChunk([]).framed == []
