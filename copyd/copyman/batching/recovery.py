"""Loading the good rows of a refused batch, around the bad ones.

A batch that was refused is rolled back to its savepoint and tried in parts, as `isolation` decides. A
server that skips rows by itself (see `skipped_rows`) is let do so. Servers do not always repeat what
they did before: each tactic expects less of them than the one before it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from copyd.copyman.batching.isolation import Found, Isolation, NamedRows, Probe, Span
from copyd.copyman.batching.refusal import Refusal
from copyd.copyman.batching.skipped_rows import skipping_copy
from copyd.copyman.batching.spool import Rows, Selection
from copyd.copyman.chunk import PayloadChunk
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copyd.copyman.batching.refusal import Rejects
    from copyd.copyman.batching.session import Session, Steps

ROWS = b"copyd_rows"
MOST_PIECES = 4
"""Savepoints that a refused batch may leave behind beside its own; beyond that it is loaded once
more, which leaves none: savepoints slow down every reader of the table."""
PIECES_IN_ALL = 8
"""Savepoints that all refused batches together may leave behind beside their own."""
FEW_ROWS, FEW_BYTES = 500, 32 * 1024
"""Rows that a probe checks without inserting any, at least one. A server inserts what it has checked once that is
1,000 rows or 64 KiB: MAX_BUFFERED_TUPLES and MAX_BUFFERED_BYTES in PostgreSQL's copyfrom.c."""
PATIENCE = 64
"""Refusals by a foreign key that are narrowed down in one batch; see `Isolation`."""


class _Tactic(NamedTuple):
    """A way to isolate.

    ``is_bold``: rows that the server took before are loaded without a savepoint of their own.
    ``gathers``: rows that were loaded in many pieces are loaded once more, as one.
    """

    skips: bool
    is_bold: bool
    gathers: bool


_TACTICS = (
    _Tactic(skips=True, is_bold=True, gathers=True),
    _Tactic(skips=False, is_bold=True, gathers=True),
    _Tactic(skips=False, is_bold=False, gathers=True),
    _Tactic(skips=False, is_bold=False, gathers=False),
)


class _NotRepeatedError(Exception):
    """The server did not repeat what it had done before: try the next tactic."""


class Recovery:
    """Recovers refused batches on one connection.

    `columns`: name and type of each column, in order, where the server may skip rows.
    """

    def __init__(
        self,
        session: Session,
        statement: bytes,
        columns: Mapping[str, str] | None,
        rejects: Rejects,
    ) -> None:
        self._session = session
        self._statement = statement
        self._columns = columns
        self._rejects = rejects
        self._skips = skipping_copy(statement) if columns is not None else None
        self._is_row_to_blame = False  # a COPY of no rows was taken, so that it must be the rows
        self._skipped: dict[int, str] = {}  # rows that the server skipped, and its notices
        self._has_loaded = False  # whether something of the batch in hand is loaded
        self._pieces = 0  # savepoints that it has left behind
        self._spare_pieces = PIECES_IN_ALL  # that further batches may leave behind
        self._bad = 0  # rows of it that were refused alone

    @property
    def statement(self) -> bytes:
        """The COPY statement to try first."""
        return self._skips or self._statement

    def confirm(self, rows: Rows, stored: int) -> Steps[Found | None]:
        """Check a batch of which no row was refused; returns its skipped rows.

        None where the server's count and its notices do not add up: the batch is to be recovered.
        """
        try:
            self._count(Span(0, len(rows)), stored, skips=self._skips is not None)
            return Found((yield from self._reasons(rows)))
        except _NotRepeatedError:
            return None

    def load(
        self, rows: Rows, refusal: Refusal | None, savepoint: bytes, *, is_retry: bool = False
    ) -> Steps[Found]:
        """Load the good rows behind `savepoint`; returns the others.

        Raises psycopg.Error where no row is to blame, CopydError where the rows do not add up.
        """
        yield from self._blame_rows(refusal)
        for tactic in _TACTICS:
            if tactic.skips and self._skips is None:
                continue
            try:
                found = yield from self._follow(tactic, rows, refusal, savepoint, is_retry=is_retry)
            except _NotRepeatedError:
                self._session.drop_queued()
                self._session.queue(b"ROLLBACK TO SAVEPOINT " + savepoint)
                refusal = None
            else:
                self._spare_pieces -= self._pieces
                return found
        raise CopydError("the server refuses rows differently each time it is asked")

    def _blame_rows(self, refusal: Refusal | None) -> Steps[None]:
        """Raise the error where the rows are not to blame: a COPY without rows is refused as well."""
        if refusal is None or self._is_row_to_blame:
            return
        error = self._session.error
        self._session.queue(b"SAVEPOINT " + ROWS)
        outcome = yield from self._session.copy(self._statement, ())
        if isinstance(outcome, Refusal):
            raise error
        self._take_back()
        self._is_row_to_blame = True

    def _follow(
        self,
        tactic: _Tactic,
        rows: Rows,
        refusal: Refusal | None,
        savepoint: bytes,
        *,
        is_retry: bool,
    ) -> Steps[Found]:
        self._skipped, self._has_loaded, self._pieces, self._bad = {}, False, 0, 0
        probes = tactic.is_bold and not is_retry
        suspects = (yield from self._find_suspects(tactic, rows, refusal)) if probes else []
        others = Selection(rows, [row for row, _ in suspects])
        isolation = Isolation(
            Span(0, len(others)),
            None if suspects else refusal,
            patience=inf if is_retry else PATIENCE,
            backwards=is_retry,
        )
        for span in isolation:
            isolation.outcome = yield from self._try(tactic, others, span, savepoint)
        found = isolation.found
        found.rejects += yield from self._reasons(others)
        if tactic.gathers and self._pieces > min(MOST_PIECES, self._spare_pieces):
            yield from self._gather(others, found, savepoint)
        yield from self._confirm_suspects(tactic, rows, suspects)
        return Found(
            suspects + [(others.number(row), why) for row, why in found.rejects],
            [
                (Span(*each), why)
                for span, why in found.held
                for each in others.spans(span.start, span.stop)
            ],
        )

    def _find_suspects(
        self, tactic: _Tactic, rows: Rows, refusal: Refusal | None
    ) -> Steps[list[tuple[int, Refusal]]]:
        """Find rows that are probably bad without loading any."""
        few = max(min(FEW_ROWS, FEW_BYTES * len(rows) // rows.size), 1)
        named = NamedRows(len(rows), refusal, few)
        for probe in named:
            named.outcome = yield from self._probe(tactic, rows, probe)
            self._bad += named.outcome is not None
            self._rejects.require_room(self._bad)
        self._bad = 0
        return named.found

    def _confirm_suspects(
        self, tactic: _Tactic, rows: Rows, suspects: list[tuple[int, Refusal]]
    ) -> Steps[None]:
        """Check that the server refuses each suspect alone, behind all good rows."""
        for row, why in suspects:
            outcome = yield from self._probe(tactic, rows, Probe(Span(row, row + 1), inserts=True))
            if outcome is None or outcome.sqlstate != why.sqlstate:
                raise _NotRepeatedError

    def _probe(self, tactic: _Tactic, rows: Rows, probe: Probe) -> Steps[Refusal | None]:
        chunk = PayloadChunk([b"".join(rows.data(probe.span.start, probe.span.stop))])
        self._session.queue(b"SAVEPOINT " + ROWS)
        outcome = yield from self._session.probe(
            self._statement_for(skips=tactic.skips), chunk, inserts=probe.inserts
        )
        self._take_back()
        return outcome if isinstance(outcome, Refusal) else None

    def _take_back(self) -> None:
        self._session.queue(b"ROLLBACK TO SAVEPOINT " + ROWS, b"RELEASE SAVEPOINT " + ROWS)

    def _try(
        self, tactic: _Tactic, rows: Selection, span: Span, savepoint: bytes
    ) -> Steps[Refusal | None]:
        """Load one span; rolled back where it is refused."""
        has_savepoint = self._has_loaded and not (tactic.is_bold and span.is_likely)
        if has_savepoint:
            self._session.queue(b"SAVEPOINT " + ROWS)
        outcome = yield from self._copy(rows, [span], skips=tactic.skips)
        if isinstance(outcome, Refusal):
            if has_savepoint:
                self._take_back()
            elif self._has_loaded:
                raise _NotRepeatedError
            else:
                self._session.queue(b"ROLLBACK TO SAVEPOINT " + savepoint)
            self._bad += span.rows == 1 and not outcome.may_pass
            self._rejects.require_room(self._bad)
            return outcome
        self._count(span, outcome, skips=tactic.skips)
        self._has_loaded = True
        if has_savepoint:
            self._pieces += 1
            self._session.queue(b"RELEASE SAVEPOINT " + ROWS)
        return None

    def _copy(self, rows: Selection, spans: list[Span], *, skips: bool) -> Steps[int | Refusal]:
        # Not as one message a row: a server that has refused one throws the others away singly.
        pieces = (piece for span in spans for piece in rows.data(span.start, span.stop))
        chunks = (PayloadChunk([bytes(each)]) for each in pieces)
        return (yield from self._session.copy(self._statement_for(skips=skips), chunks))

    def _statement_for(self, *, skips: bool) -> bytes:
        return self._skips if skips and self._skips is not None else self._statement

    def _count(self, span: Span, stored: int, *, skips: bool) -> None:
        """Check that the server stored or skipped every row of `span`; note the skipped ones."""
        skipped = dict(self._session.skipped)
        if skips:
            is_within = all(1 <= line <= span.rows for line in skipped)
            is_once = len(skipped) == len(self._session.skipped)
            if stored + len(skipped) != span.rows or not (is_within and is_once):
                raise _NotRepeatedError
            self._skipped |= {span.start + line - 1: said for line, said in skipped.items()}
        elif stored != span.rows:
            raise CopydError(
                f"the server stored {stored} rows of {span.rows} and refused none: a trigger, a rule "
                "or a condition keeps rows away, or a line is not one row"
            )

    def _gather(self, rows: Selection, found: Found, savepoint: bytes) -> Steps[None]:
        """Load the good rows once more, as one piece."""
        good = list(found.rest(Span(0, len(rows))))
        self._session.queue(b"ROLLBACK TO SAVEPOINT " + savepoint)
        self._pieces = 0
        outcome = yield from self._copy(rows, good, skips=False)
        if outcome != sum(span.rows for span in good):
            raise _NotRepeatedError

    def _reasons(self, rows: Rows | Selection) -> Steps[list[tuple[int, Refusal]]]:
        """Ask for the reasons of skipped rows; each must have one."""
        skipped, self._skipped = self._skipped, {}
        if not skipped or self._columns is None:
            return []
        self._rejects.require_room(len(skipped))
        asked = ((row, rows.row(row), said) for row, said in sorted(skipped.items()))
        reasons = yield from self._session.reasons(asked, self._columns)
        if reasons.keys() != skipped.keys():
            raise _NotRepeatedError
        return sorted(reasons.items())
