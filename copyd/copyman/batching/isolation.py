"""Which rows of a refused batch are bad; decides what to try next and touches nothing.

What is tried is a span of rows. Its outcome is None where the server took it, which it then keeps,
or the `Refusal`. A row is only found bad where it was refused alone, behind all rows before it
that are good; what the server says of a line is a hint where to look, no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from copyd.copyman.batching.refusal import Refusal


class Span(NamedTuple):
    """Rows from ``start`` up to ``stop``; ``is_likely``: they were taken before, and will be again."""

    start: int
    stop: int
    is_likely: bool = False

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start


class Probe(NamedTuple):
    """Rows of which none is to be kept; ``inserts``: not only checked, also inserted."""

    span: Span
    inserts: bool


REACH = 2
"""How much farther than the last bad row the next is looked for: what is sent behind it is lost."""
NEAREST = 128
"""Rows that are tried at once in any case."""
MORE = 16
"""Times as many rows as are only checked at once may be inserted at once."""


@dataclass
class Found:
    """What is not loaded, in the order of rows, and why.

    ``rejects`` are rows; ``held`` are spans that a foreign key refused, to be tried again when
    more is there.
    """

    rejects: list[tuple[int, Refusal]] = field(default_factory=list)
    held: list[tuple[Span, Refusal]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many are not loaded."""
        return len(self.rejects) + sum(span.rows for span, _ in self.held)

    def rest(self, whole: Span) -> Iterator[Span]:
        """Yield what is left of `whole`: the rows that are good."""
        out = [Span(row, row + 1) for row, _ in self.rejects] + [span for span, _ in self.held]
        start = whole.start
        for span in sorted(out):
            if start < span.start:
                yield Span(start, span.start)
            start = span.stop
        if start < whole.stop:
            yield Span(start, whole.stop)


def find_named(
    rows: int, refusal: Refusal | None, few: int
) -> Generator[Probe, Refusal | None, list[tuple[int, Refusal]]]:
    """Find rows that are bad as they stand: those that the server names, one after the other.

    Yields what to try next and is sent its outcome; `refusal` is that of all `rows`, if they were
    tried. Ends where no row is named. What is found is to be refused again behind all other rows.

    Up to `few` rows are checked before any of them is inserted: where that is all that is tried,
    nothing is left in the table that the rows would meet when they are loaded. Rows that are in
    the way of others are only found by inserting, which is done from the first such refusal on.
    """
    found: list[tuple[int, Refusal]] = []
    span, outcome, inserts = Span(0, rows if refusal else 0), refusal, False
    while True:
        if outcome is None:
            start, gap = span.stop, 2 * span.rows
        elif outcome.line is not None and 1 <= outcome.line <= span.rows:
            start, gap = span.start + outcome.line, outcome.line
            found.append((start - 1, outcome))
            inserts = inserts or outcome.is_conflict
        else:
            return found
        if start == rows:
            return found
        reach = min(max(REACH * gap, NEAREST), MORE * few if inserts else few)
        span = Span(start, min(start + reach, rows))
        outcome = yield Probe(span, inserts)


def isolate(
    whole: Span, refusal: Refusal | None, *, patience: float, backwards: bool = False
) -> Generator[Span, Refusal | None, Found]:
    """Find the bad rows of `whole`, which was refused for `refusal`; None where it was not tried.

    Yields the span to try next and is sent its outcome. A foreign key may refuse a row only until
    the one that it references is there: after `patience` such refusals the spans are held as they
    are, so that children which come before their parents do not have to be found one by one.
    `backwards`: the last rows are tried first, which the others may reference.
    """
    found = Found()
    waiting: list[tuple[Span, Refusal | None]] = [(whole, refusal)]
    while waiting:
        span, outcome = waiting.pop()
        if outcome is None:
            outcome = yield span
        if outcome is None:
            continue
        if outcome.may_pass:
            patience -= 1
            if span.rows == 1 or patience < 0:
                found.held.append((span, outcome))
                continue
        elif span.rows == 1:
            found.rejects.append((span.start, outcome))
            continue
        parts = narrow(span, outcome.line)
        if backwards:
            parts = [Span(part.start, part.stop) for part in reversed(parts)]
        waiting += [(part, None) for part in reversed(parts)]
    return found


def narrow(span: Span, line: int | None) -> Sequence[Span]:
    """Cut `span` around its `line`, which counts from 1, or in halves where that is none of it."""
    if line is None or not 1 <= line <= span.rows:
        middle = span.start + span.rows // 2
        return Span(span.start, middle), Span(middle, span.stop)
    row = span.start + line - 1
    around = (
        Span(span.start, row, is_likely=True),
        Span(row, row + 1),
        Span(row + 1, span.stop),
    )
    return [part for part in around if part.rows]
