"""Which rows of a refused batch are found bad, against servers whose judgement is a plain function."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from copyd.copyman.batching.isolation import Found, Isolation, NamedRows, Probe, Span, narrow
from copyd.copyman.batching.refusal import Refusal
from copyd.server_errors import FOREIGN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECK = "23514"
UNIQUE = "23505"
HINTS = ("right", "absent", "wrong", "out of range")


@dataclass(frozen=True)
class Row:
    """``key``: must not be there yet. ``needs``: a key that must be there at the statement's end."""

    key: int
    is_bad: bool = False
    needs: int | None = None


@dataclass
class Judge:
    """A server: takes a span of rows or none of it, and says which line was wrong as it pleases."""

    rows: list[Row]
    hint: str = "right"
    keys: set[int] = field(default_factory=set)
    loaded: list[int] = field(default_factory=list)
    asked: int = 0

    def load(self, span: Span, *, keeps: bool = True) -> Refusal | None:
        self.asked += 1
        fault = self._fault(span)
        if fault is None and keeps:
            self.loaded += range(span.start, span.stop)
            self.keys |= {row.key for row in self.rows[span.start : span.stop]}
        return fault

    def _fault(self, span: Span) -> Refusal | None:
        keys = set(self.keys)
        for line, row in enumerate(self.rows[span.start : span.stop], start=1):
            if row.is_bad or row.key in keys:
                return Refusal(CHECK if row.is_bad else UNIQUE, "", line=self._said(line, span))
            keys.add(row.key)
        needed = {row.needs for row in self.rows[span.start : span.stop]} - {None}
        return None if needed <= keys else Refusal(FOREIGN_KEY, "")

    def _said(self, line: int, span: Span) -> int | None:
        said = {"right": line, "absent": None, "wrong": line % span.rows + 1, "out of range": 10**6}
        return said[self.hint]


def found_by(judge: Judge, *, patience: float = inf, is_tried: bool = False) -> Found:
    """Let an `Isolation` ask the judge until it knows."""
    whole = Span(0, len(judge.rows))
    search = Isolation(whole, judge.load(whole) if is_tried else None, patience=patience)
    for span in search:
        search.outcome = judge.load(span)
    return search.found


def row_by_row(rows: list[Row]) -> tuple[list[int], list[int], list[int]]:
    """What is loaded, rejected and held where each row is tried alone, in order."""
    judge = Judge(rows)
    outcomes = [judge.load(Span(number, number + 1)) for number in range(len(rows))]
    rejected = [n for n, why in enumerate(outcomes) if why is not None and not why.may_pass]
    held = [n for n, why in enumerate(outcomes) if why is not None and why.may_pass]
    return judge.loaded, rejected, held


hints = st.sampled_from(HINTS)
plain_rows = st.lists(st.builds(Row, key=st.integers(0, 30), is_bad=st.booleans()), max_size=40)


@given(rows=plain_rows, hint=hints, is_tried=st.booleans())
def test_the_rows_found_bad_are_those_that_are_refused_row_by_row(
    rows: list[Row], hint: str, is_tried: bool
) -> None:
    judge = Judge(rows, hint)
    if is_tried and judge.load(Span(0, len(rows)), keeps=False) is None:
        is_tried = False
    found = found_by(judge, is_tried=is_tried)
    loaded, rejected, _ = row_by_row(rows)
    assert [row for row, _ in found.rejects] == rejected
    assert judge.loaded == loaded
    assert not found.held


@st.composite
def families(draw: st.DrawFn) -> list[Row]:
    """Keys that are all different; some rows need one another, or what is nowhere."""
    keys = draw(st.permutations(range(draw(st.integers(0, 20)))))
    needs = st.none() | st.integers(0, 25)
    return [
        Row(key, is_bad=draw(st.booleans()) and key % 3 == 0, needs=draw(needs)) for key in keys
    ]


@given(rows=families(), hint=hints)
def test_rows_that_need_others_are_held_and_no_row_is_lost_or_there_twice(
    rows: list[Row], hint: str
) -> None:
    judge = Judge(rows, hint)
    found = found_by(judge)
    held = [row for span, _ in found.held for row in range(span.start, span.stop)]
    rejected = [row for row, _ in found.rejects]
    assert sorted(judge.loaded + held + rejected) == list(range(len(rows)))
    assert rejected == [number for number, row in enumerate(rows) if row.is_bad]
    assert {rows[number].needs for number in judge.loaded} - {None} <= judge.keys
    assert all(span.rows == 1 and why.may_pass for span, why in found.held)


@given(rows=families(), hint=hints)
def test_held_rows_tried_again_leave_out_none_that_could_be_there(
    rows: list[Row], hint: str
) -> None:
    judge, left, before = Judge(rows, hint), list(range(len(rows))), -1
    rejected: set[int] = set()
    while len(left) != before:
        before = len(left)
        again = Judge([rows[number] for number in left], hint, judge.keys)
        found = found_by(again)
        rejected |= {left[row] for row, _ in found.rejects}
        left = [left[row] for span, _ in found.held for row in range(span.start, span.stop)]
    assert rejected == {number for number, row in enumerate(rows) if row.is_bad}
    assert all(rows[number].needs not in {None, *judge.keys} for number in left)
    assert len(judge.keys) + len(left) + len(rejected) == len(rows)


@given(rows=families(), patience=st.integers(0, 5))
def test_no_more_foreign_keys_are_narrowed_down_than_patience_allows(
    rows: list[Row], patience: int
) -> None:
    judge = Judge(rows, "right")
    found = found_by(judge, patience=patience)
    held = [row for span, _ in found.held for row in range(span.start, span.stop)]
    rejected = [row for row, _ in found.rejects]
    assert sorted(judge.loaded + held + rejected) == list(range(len(rows)))
    bad = sum(row.is_bad for row in rows)
    assert judge.asked <= 1 + 3 * bad + 2 * patience + 2 * len(found.held)


def test_one_bad_row_costs_three_tries_where_its_line_is_named() -> None:
    rows = [Row(key, is_bad=key == 700) for key in range(10_000)]
    judge = Judge(rows)
    assert [row for row, _ in found_by(judge).rejects] == [700]
    assert judge.asked == 4


FEW = 100


def named_by(
    judge: Judge, refusal: Refusal | None
) -> tuple[list[tuple[int, Refusal]], list[Probe]]:
    """Let `NamedRows` ask the judge until they are found; also returns the probes."""
    search = NamedRows(len(judge.rows), refusal, FEW)
    probes: list[Probe] = []
    for probe in search:
        probes.append(probe)
        server = judge if probe.inserts else Judge(judge.rows, judge.hint)
        search.outcome = server.load(probe.span, keeps=False)
    return search.found, probes


@given(
    bad=st.sets(st.integers(0, 4_999), max_size=20),
    rows=st.integers(1, 5_000),
    is_tried=st.booleans(),
)
def test_every_row_that_is_bad_as_it_stands_is_named(
    bad: set[int], rows: int, is_tried: bool
) -> None:
    judge = Judge([Row(key, is_bad=key in bad) for key in range(rows)])
    refusal = judge.load(Span(0, rows), keeps=False) if is_tried else None
    found, probes = named_by(judge, refusal)
    assert [row for row, _ in found] == sorted(row for row in bad if row < rows)
    assert {why.sqlstate for _, why in found} <= {CHECK}
    assert not any(probe.inserts for probe in probes)
    assert all(probe.span.rows <= FEW for probe in probes)


@given(there=st.sets(st.integers(0, 999)), bad=st.sets(st.integers(0, 999)))
def test_probes_insert_once_a_row_was_in_the_way(there: set[int], bad: set[int]) -> None:
    judge = Judge([Row(key, is_bad=key in bad) for key in range(1_000)], keys=there)
    refusal = judge.load(Span(0, 1_000), keeps=False)
    found, probes = named_by(judge, refusal)
    inserts = refusal is not None and refusal.is_conflict
    assert [row for row, _ in found] == sorted(bad | there if inserts else bad)
    assert {probe.inserts for probe in probes} <= {inserts}


@given(hint=st.sampled_from(["absent", "out of range"]), rows=plain_rows)
def test_probes_end_where_no_row_is_named(hint: str, rows: list[Row]) -> None:
    judge = Judge(rows, hint)
    refusal = judge.load(Span(0, len(rows)), keeps=False)
    if refusal is not None:
        search = NamedRows(len(rows), refusal, FEW)
        assert (list(search), search.found) == ([], [])


@given(start=st.integers(0, 50), rows=st.integers(2, 50), line=st.none() | st.integers(-2, 60))
def test_narrowing_cuts_a_span_into_smaller_ones_and_loses_no_row(
    start: int, rows: int, line: int | None
) -> None:
    span = Span(start, start + rows)
    parts = narrow(span, line)
    assert [row for part in parts for row in range(part.start, part.stop)] == [
        *range(start, start + rows)
    ]
    assert all(0 < part.rows < rows for part in parts)
    if line is not None and 1 <= line <= rows:
        assert Span(start + line - 1, start + line) in parts


@st.composite
def findings(draw: st.DrawFn) -> tuple[Found, int, set[int]]:
    """What was found in so many rows, and the rows that it speaks of."""
    kinds = draw(st.lists(st.sampled_from(["good", "rejected", "held"]), max_size=30))
    found = Found()
    refusal = Refusal(CHECK, "")
    row, out = 0, set[int]()
    for kind in kinds:
        size = draw(st.integers(1, 4)) if kind == "held" else 1
        if kind == "rejected":
            found.rejects.append((row, refusal))
        elif kind == "held":
            found.held.append((Span(row, row + size), refusal))
        out |= set(range(row, row + size)) if kind != "good" else set()
        row += size
    return found, row, out


@given(findings())
def test_the_rest_is_every_row_of_which_nothing_was_found(
    case: tuple[Found, int, set[int]],
) -> None:
    found, rows, out = case
    rest: Iterator[Span] = found.rest(Span(0, rows))
    spans = list(rest)
    assert [row for span in spans for row in range(span.start, span.stop)] == [
        row for row in range(rows) if row not in out
    ]
    assert all(one.stop < other.start for one, other in pairwise(spans))
    assert found.rows == len(out)
