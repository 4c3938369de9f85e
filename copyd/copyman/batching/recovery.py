"""Loads the good rows of a refused batch, around the bad rows.

A refused batch is rolled back to its savepoint and tried in parts, as `isolation` decides, with the
server's own skipping if possible (see `skipped_rows`). Servers do not always behave alike a second
time: each tactic relies on less repetition than the tactic before.
"""

# Decision: Bad rows are taken out first, the rest is loaded as one

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from copyd.copyman.batching.isolation import Found, Isolation, NamedRows, Probe, Span
from copyd.copyman.batching.refusal import Refusal
from copyd.copyman.batching.skipped_rows import FIRST_VERSION, skipping_copy
from copyd.copyman.batching.spool import Rows, Selection
from copyd.copyman.chunk import PayloadChunk
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copyd.copyman.batching.refusal import Rejects
    from copyd.copyman.batching.session import Session, Steps

ROWS = b"copyd_rows"
MOST_PIECES = 4
"""Extra savepoints that a refused batch may leave; beyond that the batch is loaded once more, which
leaves none: savepoints slow down every reader of the table."""
PIECES_IN_ALL = 8  # extra savepoints that all refused batches together may leave
FEW_ROWS, FEW_BYTES = 500, 32 * 1024
"""The most rows of a probe without inserts (at least one row). A server buffers up to 1,000 rows or
64 KiB before it inserts: MAX_BUFFERED_TUPLES and MAX_BUFFERED_BYTES in PostgreSQL's copyfrom.c."""
PATIENCE = 64  # foreign key violations that are narrowed down in each batch; see `Isolation`


class _Tactic(NamedTuple):
    """A way to isolate.

    ``skips``: the server skips bad rows. ``is_bold``: rows accepted before are loaded without a
    savepoint. ``gathers``: rows loaded in many pieces are loaded again, in a single piece.
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
    """The server did not repeat its earlier behaviour: try the next tactic."""


class Recovery:
    """Recovers refused batches on a connection; see `BatchReceiver` for `columns`."""

    def __init__(
        self,
        session: Session,
        statement: bytes,
        columns: Mapping[str, str] | None,
        rejects: Rejects,
    ) -> None:
        self._session = session
        has_skips = session.connection.info.server_version >= FIRST_VERSION
        skipping = skipping_copy(statement) if columns is not None and has_skips else None
        self.statement = skipping or statement
        """The COPY statement for the first try: the server skips bad rows if it can."""
        self._plain_statement = statement
        self._can_skip = skipping is not None
        self._columns = columns
        self._rejects = rejects
        self._is_row_to_blame = False  # the server has accepted a COPY of no rows
        self._skipped: dict[int, str] = {}  # the server's notice by skipped row
        self._has_loaded = False  # some rows of the current batch are loaded
        self._pieces = 0  # extra savepoints of the current batch
        self._spare_pieces = PIECES_IN_ALL  # for all further batches
        self._bad = 0  # rows of the current batch that were refused alone

    def confirm(self, rows: Rows, stored: int) -> Steps[Found | None]:
        """Check a batch without a refused row; returns its skipped rows.

        Returns None if the server's count and notices do not add up: the batch must be recovered.
        """
        try:
            self._count(Span(0, len(rows)), stored, skips=self._can_skip)
            return Found((yield from self._reasons(rows)))
        except _NotRepeatedError:
            return None

    def load(
        self, rows: Rows, refusal: Refusal | None, savepoint: bytes, *, is_retry: bool = False
    ) -> Steps[Found]:
        """Load the good rows after `savepoint`; returns the others.

        Raises psycopg.Error if no row is to blame, CopydError if the rows do not add up.
        """
        yield from self._blame_rows(refusal)
        for tactic in _TACTICS:
            if tactic.skips and not self._can_skip:
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
        """Raise the error if no row is to blame: a COPY without rows is refused as well."""
        if refusal is None or self._is_row_to_blame:
            return
        error = self._session.error
        self._session.queue(b"SAVEPOINT " + ROWS)
        outcome = yield from self._session.copy(self._plain_statement, ())
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
        for row, why in suspects:
            outcome = yield from self._probe(tactic, rows, Probe(Span(row, row + 1), inserts=True))
            if outcome is None or outcome.sqlstate != why.sqlstate:
                raise _NotRepeatedError

    def _probe(self, tactic: _Tactic, rows: Rows, probe: Probe) -> Steps[Refusal | None]:
        chunk = PayloadChunk([b"".join(rows.data(probe.span.start, probe.span.stop))])
        statement = self.statement if tactic.skips else self._plain_statement
        self._session.queue(b"SAVEPOINT " + ROWS)
        outcome = yield from self._session.probe(statement, chunk, inserts=probe.inserts)
        self._take_back()
        return outcome if isinstance(outcome, Refusal) else None

    def _take_back(self) -> None:
        self._session.queue(b"ROLLBACK TO SAVEPOINT " + ROWS, b"RELEASE SAVEPOINT " + ROWS)

    def _try(
        self, tactic: _Tactic, rows: Selection, span: Span, savepoint: bytes
    ) -> Steps[Refusal | None]:
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
        # Not a message for each row: after a refusal the server discards messages one by one.
        pieces = (piece for span in spans for piece in rows.data(span.start, span.stop))
        chunks = (PayloadChunk([bytes(each)]) for each in pieces)
        statement = self.statement if skips else self._plain_statement
        return (yield from self._session.copy(statement, chunks))

    def _count(self, span: Span, stored: int, *, skips: bool) -> None:
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
        good = list(found.rest(Span(0, len(rows))))
        self._session.queue(b"ROLLBACK TO SAVEPOINT " + savepoint)
        self._pieces = 0
        outcome = yield from self._copy(rows, good, skips=False)
        if outcome != sum(span.rows for span in good):
            raise _NotRepeatedError

    def _reasons(self, rows: Rows | Selection) -> Steps[list[tuple[int, Refusal]]]:
        skipped, self._skipped = self._skipped, {}
        if not skipped or self._columns is None:
            return []
        self._rejects.require_room(len(skipped))
        asked = ((row, rows.row(row), said) for row, said in sorted(skipped.items()))
        reasons = yield from self._session.reasons(asked, self._columns)
        if reasons.keys() != skipped.keys():
            raise _NotRepeatedError
        return sorted(reasons.items())
