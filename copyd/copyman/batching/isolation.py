"""The search for the bad rows of a refused batch: decides which rows to try next; pure.

The caller tries spans of rows and reports each outcome: the `Refusal`, or None if the server
accepted the span. A row is bad only if it was refused alone, after all good rows before it. The line
in a server's error is only a hint for the next try.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.copyman.batching.refusal import Refusal


class Span(NamedTuple):
    """Rows from ``start`` up to ``stop``; ``is_likely``: the server accepted them before."""

    start: int
    stop: int
    is_likely: bool = False

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start


class Probe(NamedTuple):
    """Rows to check without keeping them; ``inserts``: the server also inserts them."""

    span: Span
    inserts: bool


REACH = 2
"""Length of a probe in distances of the last bad row: rows after a bad row are sent in vain."""
NEAREST = 128  # the fewest rows of a probe
MORE = 16  # factor of the rows in a probe that inserts, against a probe that only checks


@dataclass
class Found:
    """Rows not loaded, each with its refusal.

    ``rejects``: row numbers. ``held``: spans that a foreign key refused, to be tried again later.
    """

    rejects: list[tuple[int, Refusal]] = field(default_factory=list)
    held: list[tuple[Span, Refusal]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Number of rows not loaded."""
        return len(self.rejects) + sum(span.rows for span, _ in self.held)

    def rest(self, whole: Span) -> Iterator[Span]:
        """Yield the good rows of `whole`."""
        out = [Span(row, row + 1) for row, _ in self.rejects] + [span for span, _ in self.held]
        start = whole.start
        for span in sorted(out):
            if start < span.start:
                yield Span(start, span.start)
            start = span.stop
        if start < whole.stop:
            yield Span(start, whole.stop)


class NamedRows:
    """Finds the bad rows named by the server, from the first to the last.

    Iterate, try each `Probe`, and set ``outcome`` to its refusal or None. `refusal` is the refusal of
    all `rows`, None if they were not tried. The search ends when a refusal names no row. Each row in
    ``found`` is only a suspect: it must be refused again after all other rows.

    The server checks up to `few` rows before it inserts any, so a probe leaves no dead rows behind.
    Conflicting rows are found only by inserting: probes insert after the first conflict.
    """

    def __init__(self, rows: int, refusal: Refusal | None, few: int) -> None:
        self.found: list[tuple[int, Refusal]] = []
        self.outcome = refusal
        self._rows = rows
        self._few = few

    def __iter__(self) -> Iterator[Probe]:
        span, inserts = Span(0, self._rows if self.outcome else 0), False
        while True:
            outcome = self.outcome
            if outcome is None:
                start, gap = span.stop, 2 * span.rows
            elif outcome.line is not None and 1 <= outcome.line <= span.rows:
                start, gap = span.start + outcome.line, outcome.line
                self.found.append((start - 1, outcome))
                inserts = inserts or outcome.is_conflict
            else:
                return
            if start == self._rows:
                return
            reach = min(max(REACH * gap, NEAREST), MORE * self._few if inserts else self._few)
            span = Span(start, min(start + reach, self._rows))
            yield Probe(span, inserts)


class Isolation:
    """Finds the bad rows of `whole`; `refusal` is its refusal, None if it was not tried.

    Iterate, load each span, and set ``outcome`` to its refusal or None. ``found`` is complete at the
    end.

    A foreign key may accept a row later, once the referenced row is loaded. After `patience` such
    refusals spans are held whole, so that children before their parents need no further search.
    `backwards`: try the last rows, which others may reference, first.
    """

    def __init__(
        self, whole: Span, refusal: Refusal | None, *, patience: float, backwards: bool = False
    ) -> None:
        self.found = Found()
        self.outcome: Refusal | None = None
        self._untried: list[tuple[Span, Refusal | None]] = [(whole, refusal)]
        self._patience = patience
        self._backwards = backwards

    def __iter__(self) -> Iterator[Span]:
        while self._untried:
            span, self.outcome = self._untried.pop()
            if self.outcome is None:
                yield span
            if self.outcome is not None:
                self._note(span, self.outcome)

    def _note(self, span: Span, refusal: Refusal) -> None:
        if refusal.may_pass:
            self._patience -= 1
            if span.rows == 1 or self._patience < 0:
                self.found.held.append((span, refusal))
                return
        elif span.rows == 1:
            self.found.rejects.append((span.start, refusal))
            return
        parts = narrow(span, refusal.line)
        if self._backwards:
            parts = [Span(part.start, part.stop) for part in reversed(parts)]
        self._untried += [(part, None) for part in reversed(parts)]


def narrow(span: Span, line: int | None) -> Sequence[Span]:
    """Cut `span` around `line`, counted from 1, or in halves if `line` is not in it."""
    if line is None or not 1 <= line <= span.rows:
        middle = span.start + span.rows // 2
        return Span(span.start, middle), Span(middle, span.stop)
    row = span.start + line - 1
    around = Span(span.start, row, is_likely=True), Span(row, row + 1), Span(row + 1, span.stop)
    return [part for part in around if part.rows]
