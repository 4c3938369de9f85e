"""Staged rows that the table refuses are rejected, and all others applied.

The server refuses the statement that applies staged rows as a whole. Bisection finds the bad rows:
it applies parts of the rows, each from a second staging table; see `copyd.copyman.batching.isolation`.
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

TRIALS = 1_000_000
"""What is added to a target's number for its second staging table."""
MOST_PIECES = 4
"""Parts that stay as they were applied; more are applied again as one, as each is a savepoint."""
BATCH = 0
"""The batch of rows that were staged: they are not loaded in batches."""


class Bisection:
    """Applies the staged rows of one table but for the bad ones; ``applied`` counts them.

    `apply` applies all rows of a target's staging table. `left_out`: ordinals of rows, in order,
    that were rejected before they reached the staging table.
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
        """Count the rows that a foreign key refused and that are to be tried again."""
        return sum(span.rows for span, _ in self._held)

    def run(self) -> None:
        """Apply all rows, or all good ones.

        Raises psycopg.Error for what no row is to blame for, CopydError as `apply` does.
        """
        outcome = self._attempt(lambda: self._apply(self._target))
        if isinstance(outcome, Applied):
            self.applied = outcome
            return
        rows = self._number()
        if self._try([]) is not None:
            raise outcome  # no row is to blame: none at all is refused as well
        # All that a foreign key refuses waits for the other tables.
        found = self._bisect(Span(0, rows), Refusal.of(outcome), patience=0)
        self._take(found)

    def retry(self) -> int:
        """Try the rows again that a foreign key refused; returns how many are taken now."""
        held, self._held = sorted(self._held, reverse=True, key=lambda each: each[0]), []
        before = sum(span.rows for span, _ in held)
        for span, _ in held:
            self._take(self._bisect(span, None, patience=inf))
        return before - self.held

    def refuse(self) -> None:
        """Reject the rows that a foreign key still refuses."""
        held, self._held = self._held, []
        for span, refusal in held:
            for row in range(span.start, span.stop):
                self._reject(row, refusal)

    def _take(self, found: Found) -> None:
        for row, refusal in found.rejects:
            self._reject(row, refusal)
        self._held += found.held

    def _reject(self, row: int, refusal: Refusal) -> None:
        """`row`: its number in the staging table, from 0."""
        ordinal = row + 1
        for left_out in self._left_out:
            ordinal += left_out <= ordinal
        query = staged_rows.copy_out_row(self._target, row)
        with self._connection.cursor().copy(query) as copy:
            data = b"".join(bytes(block) for block in copy)
        self._on_reject(Reject(ordinal, BATCH, data, refusal))

    # -- parts ------------------------------------------------------------------------------------

    def _bisect(self, whole: Span, refusal: Refusal | None, *, patience: float) -> Found:
        """Apply the good rows of `whole`; returns the others."""
        before = self.applied
        self._pieces = 0
        with self._connection.transaction() as whole_of_it:
            found = self._search(whole, refusal, patience)
            whole_of_it.force_rollback = self._pieces > MOST_PIECES
        if not whole_of_it.force_rollback:
            return found
        self.applied = before
        if self._try(list(found.rest(whole))) is None:
            return found
        return self._search(whole, refusal, patience)

    def _search(self, whole: Span, refusal: Refusal | None, patience: float) -> Found:
        isolation = Isolation(whole, refusal, patience=patience, backwards=patience == inf)
        for span in isolation:
            isolation.outcome = self._try([span])
            self._pieces += isolation.outcome is None
        return isolation.found

    def _try(self, spans: Sequence[Span]) -> Refusal | None:
        """Apply rows, all or none; returns why they were refused."""

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
        """Take `step` in a savepoint; returns the error where a row is to blame for it."""
        try:
            with self._connection.transaction():
                return step()
        except psycopg.Error as error:
            if self._connection.closed or not is_about_a_row(error):
                raise
            return error

    def _number(self) -> int:
        """Number the staged rows and make the second staging table; returns how many there are."""
        if not self._is_numbered:
            for statement in staged_rows.number_rows(self._target, self._trial):
                self._connection.execute(statement)
            self._is_numbered = True
        row = one_row(self._connection, staged_rows.count_numbered(self._target))
        return int(row[0])
