"""Bisection of staged rows: bad rows are rejected, all others applied.

A bad row fails the whole statement which applies the staging table. So parts of the rows are applied
from a second staging table; see `copyd.copyman.batching.isolation`.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import psycopg

from copyd.connection import one_row
from copyd.copyman import Found, Isolation, Refusal, Reject, Span, is_about_a_row
from copyd.loading import staged_rows
from copyd.loading.strategies import Applied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from copyd.connection import Connection
    from copyd.loading.target import Target

TRIALS = 1_000_000  # added to a target's number for its second staging table
MOST_PIECES = 4  # savepoints that a search may leave behind; see `_bisect`
BATCH = 0  # staged rows are not loaded in batches


class Bisection:
    """Applies the good staged rows of a table; ``applied`` counts them.

    `apply` applies all rows of a target's staging table. `left_out`: sorted ordinals of rows
    rejected before they reached the staging table.
    """

    def __init__(
        self,
        connection: Connection,
        target: Target,
        apply: Callable[[Target], Applied],
        on_reject: Callable[[Reject], object],
        *,
        left_out: Sequence[int] = (),
    ) -> None:
        self.applied = Applied()
        self._connection = connection
        self._target = target
        self._trial = replace(target, number=target.number + TRIALS)
        self._apply = apply
        self._on_reject = on_reject
        self._left_out = left_out
        self._held: list[tuple[Span, Refusal]] = []
        self._is_numbered = False
        self._pieces = 0

    @property
    def held(self) -> int:
        """The number of rows refused by a foreign key, to be tried again."""
        return sum(span.rows for span, _ in self._held)

    def run(self) -> None:
        """Apply all good rows; raises errors which no row causes."""
        outcome = self._attempt(lambda: self._apply(self._target))
        if isinstance(outcome, Applied):
            self.applied = outcome
            return
        rows = self._number()
        if self._try([]) is not None:
            raise outcome  # even without rows it fails, so no row is to blame
        # Patience 0: rows refused by a foreign key wait until the other tables are applied.
        found = self._bisect(Span(0, rows), Refusal.of(outcome), patience=0)
        self._take(found)

    def retry(self) -> int:
        """Try rows refused by a foreign key again; returns the number accepted now."""
        held, self._held = sorted(self._held, reverse=True, key=lambda each: each[0]), []
        before = sum(span.rows for span, _ in held)
        for span, _ in held:
            self._take(self._bisect(span, None, patience=inf))
        return before - self.held

    def refuse(self) -> None:
        """Reject the rows still refused by a foreign key."""
        held, self._held = self._held, []
        for span, refusal in held:
            for row in range(span.start, span.stop):
                self._reject(row, refusal)

    def _take(self, found: Found) -> None:
        for row, refusal in found.rejects:
            self._reject(row, refusal)
        self._held += found.held

    def _reject(self, row: int, refusal: Refusal) -> None:
        ordinal = row + 1  # staged rows are numbered from 0, rows of the scan from 1
        for left_out in self._left_out:
            ordinal += left_out <= ordinal
        query = staged_rows.copy_out_row(self._target, row)
        with self._connection.cursor().copy(query) as copy:
            data = b"".join(bytes(block) for block in copy)
        self._on_reject(Reject(ordinal, BATCH, data, refusal))

    # -- parts ------------------------------------------------------------------------------------

    def _bisect(self, whole: Span, refusal: Refusal | None, *, patience: float) -> Found:
        # Decision: Bad rows are taken out first, the rest is loaded as one
        # Each piece that was applied is a subtransaction, and more than 64 slow a backend down: many
        # pieces are rolled back and applied again as one.
        before = self.applied
        self._pieces = 0
        with self._connection.transaction() as search:
            found = self._search(whole, refusal, patience)
            search.force_rollback = self._pieces > MOST_PIECES
        if not search.force_rollback:
            return found
        self.applied = before
        if self._try(list(found.rest(whole))) is None:
            return found
        # Together they are refused although each was accepted: keep the pieces after all.
        return self._search(whole, refusal, patience)

    def _search(self, whole: Span, refusal: Refusal | None, patience: float) -> Found:
        isolation = Isolation(whole, refusal, patience=patience, backwards=patience == inf)
        for span in isolation:
            isolation.outcome = self._try([span])
            self._pieces += isolation.outcome is None
        return isolation.found

    def _try(self, spans: Sequence[Span]) -> Refusal | None:
        def apply() -> Applied:
            self._connection.execute(staged_rows.empty(self._trial))
            for span in spans:
                fill = staged_rows.fill(self._trial, self._target, span.start, span.stop)
                self._connection.execute(fill)
            return self._apply(self._trial)

        outcome = self._attempt(apply)
        if isinstance(outcome, psycopg.Error):
            return Refusal.of(outcome)
        self.applied += outcome
        return None

    def _attempt(self, step: Callable[[], Applied]) -> Applied | psycopg.Error:
        try:
            with self._connection.transaction():
                return step()
        except psycopg.Error as error:
            if self._connection.closed or not is_about_a_row(error):
                raise
            return error

    def _number(self) -> int:
        if not self._is_numbered:
            for statement in staged_rows.number_rows(self._target, self._trial):
                self._connection.execute(statement)
            self._is_numbered = True
        row = one_row(self._connection, staged_rows.count_numbered(self._target))
        return int(row[0])
