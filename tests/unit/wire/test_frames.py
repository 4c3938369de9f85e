"""The scanner against a walk of the whole stream, cut at every place."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copyd.wire import BLOCK_LIMIT, HEADER_SIZE, Message, ProtocolError, Scanner, data_header
from copyd.wire.frames import ROW_STARTS, leap, sift, stride

TRICKY_SIZES = [5, 6, 10, 251, 252, 262, 266, 2_556, 2_656, 2_660, 65_531, 65_532]


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def row(body: bytes) -> bytes:
    return data_header(len(body)) + body


def text_row(size: int, letter: bytes = b"d") -> bytes:
    return row(letter * (size - 1) + b"\n")


texts = st.binary(max_size=12).map(
    lambda b: row(b.replace(b"\0", b"0").replace(b"\n", b"d") + b"\n")
)
sized = st.builds(text_row, st.sampled_from(TRICKY_SIZES), st.sampled_from([b"d", b"x"]))
numbers = st.integers(0, 10**9).map(lambda number: row(b"%d\n" % number))
csvs = st.lists(st.sampled_from([b"\n", b"d", b",", b'"', b"\nd"]), max_size=6).map(
    lambda parts: row(b"".join(parts) + b"\n")
)
quoted = st.lists(st.sampled_from([b"\n", b"x", b",", b'"']), max_size=6).map(
    lambda parts: row(b"".join(parts) + b"\n")
)
asides = st.builds(message, st.sampled_from([b"N", b"A", b"S"]), st.binary(max_size=9))
alike_rows = st.builds(
    lambda part, count: part * count, st.one_of(texts, sized), st.integers(1, 40)
)
streams = st.one_of(
    st.lists(st.one_of(texts, sized, csvs, asides), max_size=30),
    st.lists(st.one_of(texts, alike_rows, asides), max_size=30),
    st.lists(st.one_of(numbers, numbers, asides), max_size=30),
    st.lists(numbers, max_size=30),
    st.lists(st.one_of(numbers, numbers, quoted), max_size=30),
)
alike = st.builds(lambda body, count: row(body) * count, st.binary(max_size=9), st.integers(1, 300))
binary_streams = st.lists(st.one_of(st.binary(max_size=20).map(row), alike, asides), max_size=30)


def walk(stream: bytes) -> tuple[bytes, int, int, list[Message]]:
    """The plain reference: framed data, messages, payload bytes, other messages."""
    data, count, size, others, position = [], 0, 0, [], 0
    while position < len(stream):
        end = position + 1 + int.from_bytes(stream[position + 1 : position + 5], "big")
        if stream[position : position + 1] == b"d":
            data.append(stream[position:end])
            count += 1
            size += end - position - 5
        else:
            others.append(Message(stream[position : position + 1], stream[position + 5 : end]))
        position = end
    return b"".join(data), count, size, others


def scan(stream: bytes, cuts: list[int], *, is_text: bool) -> tuple[bytes, int, int, list[Message]]:
    """Feed `stream` in pieces that end at `cuts`, and where a block must end."""
    scanner = Scanner()
    scanner.is_text = is_text
    data, count, size, rest = bytearray(), 0, 0, b""
    others: list[Message] = []
    whole_blocks = range(0, len(stream), BLOCK_LIMIT - HEADER_SIZE)
    edges = sorted({min(cut, len(stream)) for cut in cuts} | {*whole_blocks, len(stream)})
    for start, stop in pairwise(edges):
        block = bytearray(rest + stream[start:stop])
        cut = scanner.feed(block, len(block))
        for first, last in cut.spans:
            data += block[first:last]
        count += cut.messages
        size += cut.size
        others += cut.others
        rest = bytes(block[len(block) - cut.rest :])
    assert rest == b""
    assert scanner.is_between_messages
    return bytes(data), count, size, others


cut_places = st.lists(st.one_of(st.integers(0, 400), st.integers(0, 4_000)), max_size=12)


@given(streams, cut_places)
@example([text_row(6)] * 20, [])
@example([text_row(8)] * 20 + [text_row(9), text_row(7)], [])
@example([text_row(2_656), text_row(2_660)], [3, 2_661])
@example([text_row(1), message(b"N", b"\0\n"), text_row(1), text_row(1)], [])
@example([text_row(1), message(b"S", b"DateStyle\0\nd\0"), text_row(1), text_row(1)], [])
def test_text_cut_anywhere_scans_like_a_walk(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    assert scan(stream, cuts, is_text=True) == walk(stream)


@given(binary_streams, cut_places)
def test_binary_cut_anywhere_scans_like_a_walk(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    assert scan(stream, cuts, is_text=False) == walk(stream)


def test_text_of_many_blocks_scans_like_a_walk() -> None:
    stream = text_row(65_532) * 20 + message(b"N", b"careful") + text_row(8) * 100_000
    assert scan(stream, [], is_text=True) == walk(stream)


def test_a_stream_fed_byte_by_byte_scans_like_a_walk() -> None:
    stream = text_row(6) * 3 + message(b"N", b"careful") + text_row(262) + message(b"c", b"")
    assert scan(stream, list(range(len(stream))), is_text=True) == walk(stream)


@pytest.mark.parametrize("size", [680_956, 0x000A6400 + 1, 0x010A6400 - 4, 0x0A6400AA - 4])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_length_that_looks_like_a_row_end_is_not_taken_for_one(size: int, before: int) -> None:
    block = bytearray(text_row(8) * before + data_header(size) + b"d" * 1_000)
    scanner = Scanner()
    scanner.is_text = True
    cut = scanner.feed(block, len(block))
    assert cut.messages == before
    assert cut.owed == size - 1_000
    assert cut.spans == ((0, len(block)),)


def test_rows_of_six_bytes_are_skipped_at_once_though_their_length_is_a_newline() -> None:
    block = bytearray(text_row(6) * 100)
    for row_start in ROW_STARTS:
        assert leap(block, 0, len(block), row_start) == (99, 99 * 11)


def test_each_pattern_skips_rows_up_to_its_size_and_no_larger_ones() -> None:
    for row_start, size in zip(ROW_STARTS, (251, 65_531, 100_000), strict=True):
        fitting = bytearray(text_row(size) * 3)
        assert leap(fitting, 0, len(fitting), row_start) == (2, 2 * (size + 5))
    too_large = bytearray(text_row(252) * 3)
    assert leap(too_large, 0, len(too_large), ROW_STARTS[0]) == (0, 0)


def test_rows_without_the_letter_of_a_header_are_sifted() -> None:
    block = bytearray(b"".join(text_row(size, b"x") for size in (1, 2, 5, 7, 95, 97, 251)))
    last = len(text_row(251, b"x"))
    assert sift(block, 0, len(block)) == (6, len(block) - last)
    cut_short = block + text_row(8, b"x")[:-1]
    assert sift(cut_short, 0, len(cut_short)) == (7, len(block))


@pytest.mark.parametrize("end", range(1, 14))
@pytest.mark.parametrize("size", [6, 8])
def test_a_block_that_ends_inside_a_quoted_line_is_not_taken_for_its_end(
    size: int, end: int
) -> None:
    line = row(b'1,"x\n\nx"\n')
    block = bytearray(text_row(size, b"x") * 20 + text_row(9, b"x") * 2 + line[:end])
    scanner = Scanner()
    scanner.is_text = True
    cut = scanner.feed(block, len(block))
    assert cut.messages == 22
    assert (cut.rest, cut.owed) == ((end, 0) if end < HEADER_SIZE else (0, len(line) - end))


@pytest.mark.parametrize(
    "odd",
    [
        text_row(8, b"d"),
        text_row(6, b"x"),  # its length is a newline
        text_row(96, b"x"),  # and this one a d
        text_row(253, b"x"),
        row(b"x\nx\n"),
        message(b"N", b"x"),
        message(b"N", b"d\n"),
        message(b"S", b"a\0b\0\0"),
        message(b"A", b"d\0\0\0\n"),
    ],
)
def test_anything_else_between_two_rows_is_not_sifted(odd: bytes) -> None:
    block = bytearray(text_row(8, b"x") * 3 + odd + text_row(8, b"x") * 3)
    assert sift(block, 0, len(block)) == (0, 0)
    ends_in_a_length = bytearray(text_row(8, b"x") * 3 + data_header(680_956))
    assert sift(ends_in_a_length, 0, len(ends_in_a_length)) == (0, 0)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 143, 144, 145, 5_000])
@pytest.mark.parametrize(
    "behind", [b"", b"d\0\0", row(b"12345678"), message(b"N", b"1234567"), row(b"1234567")[:-1]]
)
def test_messages_of_one_length_are_skipped_and_nothing_else(count: int, behind: bytes) -> None:
    alike = row(b"d\0\0\0\x0b12") * count
    block = bytearray(alike + behind)
    assert stride(block, 0, len(block)) == (count, len(alike))


@pytest.mark.parametrize("start", [b"N\0\0\0\5x", b"d\0\0\0\3", b"d\x7f\xff\xff\xffx"])
def test_what_is_no_whole_row_is_not_skipped(start: bytes) -> None:
    block = bytearray(start * 3)
    assert stride(block, 0, len(block)) == (0, 0)


def test_a_notice_between_two_rows_stops_the_leap() -> None:
    block = bytearray(text_row(8) * 3 + message(b"N", b"x") + text_row(8) * 3)
    for row_start in ROW_STARTS:
        assert leap(block, 0, len(block), row_start) == (0, 0)


def test_an_impossible_length_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="impossible length 3"):
        Scanner().feed(bytearray(b"d\0\0\0\3xxx"), 8)


def test_a_block_too_large_for_the_scan_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        Scanner().feed(bytearray(BLOCK_LIMIT + 1), BLOCK_LIMIT + 1)


def test_a_notice_larger_than_many_blocks_is_put_together() -> None:
    body = b"n" * 100_000
    stream = message(b"N", body) + text_row(7)
    data, count, _, others = scan(stream, list(range(0, len(stream), 4_096)), is_text=True)
    assert (data, count, others) == (text_row(7), 1, [Message(b"N", body)])
