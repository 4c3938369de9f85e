"""Rows that are kept, in memory and in files, come out as they went in, however they are cut."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.copyman.batching.spool import Rows, Selection, Spool
from copyd.copyman.chunk import WireChunk
from copyd.errors import CopydError
from copyd.wire import data_header
from tests.unit.copyman.test_chunk import chunks_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

lines = st.lists(
    st.binary(max_size=12).map(lambda body: body.replace(b"\n", b"") + b"\n"), max_size=25
)
memories = st.sampled_from([1, 10, 40, 10_000])


def cut(rows: Sequence[bytes], places: Sequence[int]) -> list[WireChunk]:
    """The rows as a server sends them, in chunks that end at `places`."""
    stream = b"".join(data_header(len(row)) + row for row in rows)
    edges = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    parts = [stream[start:stop] for start, stop in pairwise(edges)]
    return [chunk.kept for chunk in chunks_of(*filter(None, parts))]


places = st.lists(st.integers(0, 500), max_size=10)


def spool_of(chunks: Sequence[WireChunk], memory: int) -> Spool:
    spool = Spool(memory)
    for chunk in chunks:
        spool.append(chunk)
    return spool


@given(rows=lines, places=places, memory=memories, data=st.data())
def test_any_rows_of_a_tape_are_those_that_were_put_there(
    rows: list[bytes], places: list[int], memory: int, data: st.DataObject
) -> None:
    spool = spool_of(cut(rows, places), memory)
    assert (spool.rows, spool.size) == (len(rows), len(b"".join(rows)))
    kept = Rows(spool)
    assert len(kept) == len(rows)
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(0, len(rows)))
    assert b"".join(kept.data(start, stop)) == b"".join(rows[start:stop])
    assert [kept.row(number) for number in range(len(rows))] == rows
    spool.clear()


@given(rows=lines, places=places, memory=memories, data=st.data())
def test_a_selection_is_the_rows_without_those_left_out(
    rows: list[bytes], places: list[int], memory: int, data: st.DataObject
) -> None:
    without = sorted(data.draw(st.sets(st.integers(0, max(len(rows) - 1, 0)))) if rows else ())
    spool = spool_of(cut(rows, places), memory)
    selection = Selection(Rows(spool), without)
    left = [number for number in range(len(rows)) if number not in without]
    assert len(selection) == len(left)
    assert [selection.number(row) for row in range(len(left))] == left
    assert [selection.row(row) for row in range(len(left))] == [rows[number] for number in left]
    start, stop = data.draw(st.integers(0, len(left))), data.draw(st.integers(0, len(left)))
    assert b"".join(selection.data(start, stop)) == b"".join(rows[n] for n in left[start:stop])
    spans = list(selection.spans(start, stop))
    assert [n for begin, end in spans for n in range(begin, end)] == left[start:stop]
    spool.clear()


@given(
    rows=lines,
    places=places,
    memory=memories,
    steps=st.lists(st.sampled_from(["append", "take", "take in part"]), max_size=60),
)
def test_what_is_taken_and_put_back_in_part_comes_in_order_and_once(
    rows: list[bytes], places: list[int], memory: int, steps: list[str]
) -> None:
    coming, spool, taken = cut(rows, places), Spool(memory), list[WireChunk]()
    for step in [*steps, *["append"] * len(coming)]:
        if step == "append":
            if coming:
                spool.append(coming.pop(0))
        elif len(spool):
            chunk = spool.take()
            middle = chunk.messages // 2
            head, tail = chunk.part(0, middle), chunk.part(middle)
            if step == "take" or head is None or tail is None:
                taken.append(chunk)
            else:
                spool.put_back(tail)
                taken.append(head)
    assert spool.size == sum(chunk.size for chunk in spool)
    while len(spool):
        taken.append(spool.take())
    assert b"".join(chunk.payload for chunk in taken) == b"".join(rows)
    assert sum(chunk.messages for chunk in taken) == len(rows)
    assert (spool.rows, spool.size) == (0, 0)


@given(rows=lines, places=places, data=st.data())
def test_a_part_of_a_chunk_is_what_lies_between_the_ends_of_messages(
    rows: list[bytes], places: list[int], data: st.DataObject
) -> None:
    for chunk in cut(rows, places):
        framed = b"".join(chunk.framed)
        ends, edge = [0], chunk.resumed
        while len(ends) <= chunk.messages:
            if edge > 0:
                ends.append(edge)
            edge += 1 + int.from_bytes(framed[edge + 1 : edge + 5], "big")
        start = data.draw(st.integers(0, chunk.messages))
        stop = data.draw(st.none() | st.integers(start, chunk.messages))
        expected = framed[ends[start] : len(framed) if stop is None else ends[stop]]
        part = chunk.part(start, stop)
        if part is None:
            assert not expected
            continue
        assert b"".join(part.framed) == expected
        assert bytes(chunk.data(start, stop)) == part.payload
        assert part.size == len(part.payload)
        assert part.messages == (chunk.messages if stop is None else stop) - start
        goes_on = stop is None or (stop == chunk.messages and not chunk.owed)
        assert part.owed == (chunk.owed if goes_on else 0)
        assert part.resumed == (0 if start else chunk.resumed)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, no paths


def test_files_are_closed_as_soon_as_what_is_in_them_was_taken() -> None:
    before = open_files()
    spool = Spool(100)
    for number in range(50):
        spool.append(WireChunk.of_rows([b"%060d\n" % number]))
    most = open_files() - before
    assert 4 < most < 20
    opened = []
    for number in range(50):
        assert spool.take().payload == b"%060d\n" % number
        opened.append(open_files() - before)
    assert opened == sorted(opened, reverse=True)
    assert opened[-1] == 0


def test_a_tape_that_is_never_empty_gives_back_the_disk_that_it_used() -> None:
    before = open_files()
    spool = Spool(100)
    for number in range(500):
        spool.append(WireChunk.of_rows([b"%060d\n" % number]))
        if number >= 8:
            assert spool.take().payload == b"%060d\n" % (number - 8)
            assert open_files() - before <= 6
    spool.clear()
    assert open_files() == before


def test_a_tape_that_is_forgotten_leaves_no_file_open() -> None:
    before = open_files()
    spool = Spool(1)
    for _ in range(3):
        spool.append(WireChunk.of_rows([b"row\n"]))
    assert open_files() > before
    del spool
    assert open_files() == before


def test_where_no_file_can_be_made_the_error_says_where_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    spool = Spool(1)
    spool.append(WireChunk.of_rows([b"in memory\n"]))
    with pytest.raises(CopydError, match=r"cannot be kept in .*missing: .*or set TMPDIR"):
        spool.append(WireChunk.of_rows([b"too much\n"]))
    assert spool.rows == 1
