"""How rows are loaded in batches of which each can be taken back: what is said to a server, and when.

Everything happens in the savepoint copyd_copy of the caller's transaction. A batch is one COPY that
is fed while data comes, and is kept until the server has taken it. A batch that is refused is rolled
back, and its rows are loaded again around the bad ones; see `isolation`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from copyd.copyman.batching import skipped_rows
from copyd.copyman.batching.isolation import Found, Probe, Span, find_named, isolate
from copyd.copyman.batching.refusal import Refusal, Reject
from copyd.copyman.batching.spool import Rows, Selection, Spool
from copyd.copyman.chunk import PayloadChunk, WireChunk
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from typing import TypeVar

    import psycopg

    from copyd.copyman.batching.session import Session
    from copyd.copyman.chunk import Chunk

    T = TypeVar("T")
    Search = Generator[Span, Refusal | None, Found]
    Steps = Generator[bool, None, T]
    """Yields while there is something to wait for: True for data, False for the server."""

COPY = b"copyd_copy"
BATCH = b"copyd_batch"
ROWS = b"copyd_rows"
UNGROWN = 32
"""Batches of the size that was asked for; then it doubles with every second one, so that a copy
has no more than 64 of them: more savepoints slow down whoever reads beside it."""
MOST_PIECES = 4
"""Savepoints that a refused batch may leave behind beside its own; of more, none are left by loading
it once more."""
PIECES_IN_ALL = 8
"""Savepoints that all refused batches together may leave behind beside their own."""
FEW_ROWS, FEW_BYTES = 500, 32 * 1024
"""Rows that are looked at without inserting any, at least one. A server inserts what it has checked once that is
1,000 rows or 64 KiB: MAX_BUFFERED_TUPLES and MAX_BUFFERED_BYTES in PostgreSQL's copyfrom.c."""
LOOSE_ROWS, LOOSE_SIZE = 512, 256 * 1024
"""Rows, and bytes of them, that are held one by one before they are kept as a chunk."""
PATIENCE = 64
"""Refusals by a foreign key that are narrowed down in one batch; see `isolate`."""


@dataclass(frozen=True)
class Options:
    """What a loader is to do. A batch of ``batch_size`` bytes is kept in memory, more in a file.

    ``columns``: name and type of each column, in order, where the rows may be skipped in one pass.
    ``immediately``: statements that have constraints checked at the end of each COPY;
    ``afterwards``: those that undo it. ``keeps_held``: what a foreign key refuses is kept for
    `Loader.retry`, and not tried again at the end of the data.
    """

    statement: bytes
    batch_rows: int
    batch_size: int
    on_reject: Callable[[Reject], object]
    columns: Mapping[str, str] | None = None
    immediately: tuple[bytes, ...] = ()
    afterwards: tuple[bytes, ...] = ()
    max_rejects: int | None = None
    keeps_held: bool = False


class _Plan(NamedTuple):
    """A way to isolate.

    ``is_bold``: rows that were taken before are loaded without a savepoint of their own.
    ``gathers``: what was left in many pieces is loaded once more, as one.
    """

    skips: bool
    is_bold: bool
    gathers: bool


_PLANS = (
    _Plan(skips=True, is_bold=True, gathers=True),
    _Plan(skips=False, is_bold=True, gathers=True),
    _Plan(skips=False, is_bold=False, gathers=True),
    _Plan(skips=False, is_bold=False, gathers=False),
)


class _SpoiledError(Exception):
    """The server did not do again what it had done before: the next plan expects less of it."""


@dataclass
class _Held:
    """Rows that a foreign key has refused until now, and where each came from."""

    spool: Spool
    starts: list[int] = field(default_factory=list)  # in the spool, of each span
    spans: list[tuple[int, int, Refusal]] = field(default_factory=list)  # ordinal, batch, why
    loose: list[bytes] = field(default_factory=list)  # rows that are not in the spool yet
    loose_size: int = 0

    def add(self, rows: Rows, span: Span, ordinal: int, batch: int, refusal: Refusal) -> None:
        self.starts.append(self.spool.rows + len(self.loose))
        self.spans.append((ordinal, batch, refusal))
        for row in range(span.start, span.stop):
            self.loose.append(rows.row(row))
            self.loose_size += len(self.loose[-1])
            if len(self.loose) >= LOOSE_ROWS or self.loose_size >= LOOSE_SIZE:
                self.pack()

    def pack(self) -> Rows:
        """Bring all rows into the spool."""
        if self.loose:
            self.spool.append(WireChunk.of_rows(self.loose))
            self.loose.clear()
            self.loose_size = 0
        return Rows(self.spool)

    def __len__(self) -> int:
        return self.spool.rows + len(self.loose)

    def origin(self, row: int) -> tuple[int, int, Refusal]:
        """Say which row of the copy a row of the spool is, of which batch, and why it was refused."""
        index = bisect_right(self.starts, row) - 1
        ordinal, batch, refusal = self.spans[index]
        return ordinal + row - self.starts[index], batch, refusal


class Loader:
    """One copy on one connection. ``read``, ``loaded`` and ``rejected`` count rows.

    ``waiting``: what has come and is not sent. ``is_behind``: a batch was refused, and what has
    come since is not all sent.
    """

    def __init__(self, session: Session, options: Options) -> None:
        self.waiting = Spool(options.batch_size)
        self.is_ending = False
        self.is_behind = False
        self.is_begun = False
        self.read = self.loaded = self.rejected = 0
        self._session = session
        self._options = options
        self._skips = (
            skipped_rows.skipping_copy(options.statement) if options.columns is not None else None
        )
        self._batch = Spool(options.batch_size)
        self._is_full = False
        self._number = 0
        self._held = _Held(Spool(options.batch_size))
        self._is_row_to_blame = False  # a COPY of no rows was taken, so that it must be the rows
        self._skipped: dict[int, str] = {}  # rows that were skipped, and what the server said
        self._has_loaded = False  # whether something of the batch in hand is loaded
        self._pieces = 0  # savepoints that it has left behind
        self._spare_pieces = PIECES_IN_ALL  # that further ones may leave behind
        self._bad = 0  # rows of it that were refused alone

    @property
    def held(self) -> int:
        """Rows that a foreign key has refused and that are to be tried again."""
        return len(self._held)

    @property
    def rollback(self) -> tuple[bytes, ...]:
        """Statements that take back what was done so far, or at least have the server heard."""
        if not self.is_begun:
            return (b"",)
        back = b"ROLLBACK TO SAVEPOINT " + COPY, b"RELEASE SAVEPOINT " + COPY
        return (*back, *self._options.afterwards)

    def close(self) -> None:
        """Let go of all that is kept."""
        for spool in (self.waiting, self._batch, self._held.spool):
            spool.clear()

    def run(self) -> Steps[None]:
        """Load everything that comes until ``is_ending``.

        Raises psycopg.Error for what no row is to blame for, and CopydError where rows do not add
        up. What was loaded is then to be rolled back.
        """
        self._session.queue(*self._options.immediately, b"SAVEPOINT " + COPY)
        yield from self._session.flush()
        self.is_begun = True
        yield from self._load_batch()
        while (yield from self._await_data()):
            self._session.queue(b"SAVEPOINT " + BATCH)
            yield from self._load_batch()
            self._session.queue(b"RELEASE SAVEPOINT " + BATCH)
        if not self._options.keeps_held:
            while (yield from self.retry()):
                pass
            self.refuse()
        yield from self._session.flush()
        self._session.queue(b"RELEASE SAVEPOINT " + COPY, *self._options.afterwards)
        yield from self._session.flush()
        self.is_begun = False

    def retry(self) -> Steps[int]:
        """Try the rows again that a foreign key refused; returns how many are taken now."""
        if not self.held:
            return 0
        held, self._held = self._held, _Held(Spool(self._options.batch_size))
        self._session.queue(*self._options.immediately, b"SAVEPOINT " + BATCH)
        yield from self._session.flush()
        rows = held.pack()
        found = yield from self._settle(rows, None, BATCH, is_retry=True)
        self._session.queue(b"RELEASE SAVEPOINT " + BATCH, *self._options.afterwards)
        yield from self._session.flush()
        for row, refusal in found.rejects:
            self._reject(rows, row, held.origin(row), refusal)
        for span, refusal in sorted(found.held, key=lambda each: each[0]):
            ordinal, batch, _ = held.origin(span.start)
            self._held.add(rows, span, ordinal, batch, refusal)
        accepted = len(rows) - found.rows
        self.loaded += accepted
        held.spool.clear()
        return accepted

    def refuse(self) -> None:
        """Reject the rows that a foreign key still refuses."""
        rows = self._held.pack()
        for row in range(len(rows)):
            *_, refusal = origin = self._held.origin(row)
            self._reject(rows, row, origin, refusal)
        self._held = _Held(self._held.spool)
        self._held.spool.clear()

    # -- a batch while it comes -------------------------------------------------------------------

    def _await_data(self) -> Steps[bool]:
        while not self.waiting and not self.is_ending:
            self.is_behind = False
            yield from self._wait()
        return bool(self.waiting)

    def _wait(self) -> Steps[None]:
        """Wait for data, and hear meanwhile if the connection is lost."""
        yield True
        if not self.waiting:
            self._session.listen()

    def _load_batch(self) -> Steps[None]:
        self._number += 1
        mark = COPY if self._number == 1 else BATCH
        self._batch.clear()
        self._is_full = False
        statement = self._skips or self._options.statement
        outcome = yield from self._session.attempt(statement, self._feed())
        if isinstance(outcome, Refusal):
            yield from self._fill_batch()
            yield from self._isolate_batch(outcome, mark)
            return
        rows = Rows(self._batch)
        try:
            self._check(Span(0, len(rows)), outcome, skips=self._skips is not None)
            found = Found((yield from self._reasons(rows)))
        except _SpoiledError:
            yield from self._isolate_batch(None, mark)
        else:
            self._account(rows, found)

    def _feed(self) -> Iterator[Chunk | None]:
        """Yield the chunks of one batch as they come, and keep them."""
        growth = 2 ** (max(self._number - UNGROWN, 0) // 2)
        while not self._is_full:
            while not self.waiting:
                if self.is_ending:
                    return
                self.is_behind = False
                yield None
            chunk, self._is_full = self._cut_to_fit(self.waiting.take(), growth)
            self._batch.append(chunk)
            yield chunk

    def _cut_to_fit(self, chunk: WireChunk, growth: int) -> tuple[WireChunk, bool]:
        """Return as much of a chunk as goes into the batch, and whether it is full then."""
        left = self._options.batch_rows * growth - self._batch.rows
        is_large = self._batch.size + chunk.size >= self._options.batch_size * growth
        if chunk.messages < left and not is_large:
            return chunk, False
        return self._cut(chunk, left)

    def _cut(self, chunk: WireChunk, rows: int) -> tuple[WireChunk, bool]:
        """Return up to so many whole rows of a chunk, if one ends in it; the rest waits."""
        rows = min(rows, chunk.messages)
        head, tail = chunk.part(0, rows), chunk.part(rows)
        if head is None:
            return chunk, False
        if tail is not None:
            self.waiting.put_back(tail)
        return head, True

    def _fill_batch(self) -> Steps[None]:
        """Wait for the rest of a batch that is refused already; raises the error where it is empty."""
        if not len(self._batch):
            raise self._error
        for chunk in self._feed():
            if chunk is None:
                yield from self._wait()
        if not self._batch.rows:
            raise self._error

    @property
    def _error(self) -> psycopg.Error:
        error = self._session.error
        assert error is not None  # noqa: S101 - asked for after a refusal only
        return error

    def _isolate_batch(self, refusal: Refusal | None, mark: bytes) -> Steps[None]:
        self.is_behind = True  # what comes from now on waits
        rows = Rows(self._batch)
        self._session.queue(b"ROLLBACK TO SAVEPOINT " + mark)
        found = yield from self._settle(rows, refusal, mark)
        self._account(rows, found)

    def _account(self, rows: Rows, found: Found) -> None:
        """Count a batch that was taken, but for what was found."""
        before, self.read = self.read, self.read + len(rows)
        self.loaded += len(rows) - found.rows
        for row, refusal in sorted(found.rejects, key=lambda reject: reject[0]):
            self._reject(rows, row, (before + row + 1, self._number, refusal), refusal)
        for span, refusal in found.held:
            self._held.add(rows, span, before + span.start + 1, self._number, refusal)
        self._batch.clear()
        if self.loaded + self.rejected + self.held != self.read:
            raise CopydError(
                f"rows do not add up: {self.read} read, {self.loaded} loaded, "
                f"{self.rejected} rejected, {self.held} held"
            )

    def _reject(self, rows: Rows, row: int, origin: tuple[int, int, Refusal], why: Refusal) -> None:
        ordinal, batch, _ = origin
        self.rejected += 1
        self._require_few(self.rejected)
        self._options.on_reject(Reject(ordinal, batch, rows.row(row), why))

    def _require_few(self, rejected: int) -> None:
        most = self._options.max_rejects
        if most is not None and rejected > most:
            raise CopydError(f"more than {most} rows were rejected (max_rejects)")

    # -- a batch that was refused -----------------------------------------------------------------

    def _settle(
        self, rows: Rows, refusal: Refusal | None, mark: bytes, *, is_retry: bool = False
    ) -> Steps[Found]:
        """Load what is good of `rows` behind the savepoint `mark`; returns what is not."""
        yield from self._blame_rows(refusal)
        for plan in _PLANS:
            if plan.skips and self._skips is None:
                continue
            try:
                found = yield from self._follow(plan, rows, refusal, mark, is_retry=is_retry)
            except _SpoiledError:
                self._session.unqueue()
                self._session.queue(b"ROLLBACK TO SAVEPOINT " + mark)
                refusal = None
            else:
                self._spare_pieces -= self._pieces
                return found
        raise CopydError("the server refuses rows differently each time it is asked")

    def _blame_rows(self, refusal: Refusal | None) -> Steps[None]:
        """Raise the error where it is not the rows: a COPY without any is refused as well."""
        if refusal is None or self._is_row_to_blame:
            return
        error = self._error
        self._session.queue(b"SAVEPOINT " + ROWS)
        outcome = yield from self._session.attempt(self._options.statement, ())
        if isinstance(outcome, Refusal):
            raise error
        self._take_back()
        self._is_row_to_blame = True

    def _follow(
        self, plan: _Plan, rows: Rows, refusal: Refusal | None, mark: bytes, *, is_retry: bool
    ) -> Steps[Found]:
        self._skipped, self._has_loaded, self._pieces, self._bad = {}, False, 0, 0
        finds_named = plan.is_bold and not is_retry
        suspects = (yield from self._find_named(plan, rows, refusal)) if finds_named else []
        others = Selection(rows, [row for row, _ in suspects])
        whole = Span(0, len(others))
        search = isolate(
            whole,
            None if suspects else refusal,
            patience=inf if is_retry else PATIENCE,
            backwards=is_retry,
        )
        found = yield from self._search(search, plan, others, mark)
        found.rejects += yield from self._reasons(others)
        if plan.gathers and self._pieces > min(MOST_PIECES, self._spare_pieces):
            yield from self._gather(others, found, mark)
        yield from self._confirm(plan, rows, suspects)
        return Found(
            suspects + [(others.number(row), why) for row, why in found.rejects],
            [
                (Span(*each), why)
                for span, why in found.held
                for each in others.spans(span.start, span.stop)
            ],
        )

    def _find_named(
        self, plan: _Plan, rows: Rows, refusal: Refusal | None
    ) -> Steps[list[tuple[int, Refusal]]]:
        """Find rows that are surely bad without loading any."""
        few = max(min(FEW_ROWS, FEW_BYTES * len(rows) // self._batch.size), 1)
        search = find_named(len(rows), refusal, few)
        outcome: Refusal | None = None
        while True:
            try:
                look = search.send(outcome)
            except StopIteration as end:
                self._bad = 0
                suspects: list[tuple[int, Refusal]] = end.value
                return suspects
            outcome = yield from self._probe(plan, rows, look)
            self._bad += outcome is not None
            self._require_few(self.rejected + self._bad)

    def _confirm(self, plan: _Plan, rows: Rows, suspects: list[tuple[int, Refusal]]) -> Steps[None]:
        """See that each of `suspects` is refused alone, behind all rows that are good."""
        for row, why in suspects:
            outcome = yield from self._probe(plan, rows, Probe(Span(row, row + 1), inserts=True))
            if outcome is None or outcome.sqlstate != why.sqlstate:
                raise _SpoiledError

    def _probe(self, plan: _Plan, rows: Rows, look: Probe) -> Steps[Refusal | None]:
        chunk = PayloadChunk([b"".join(rows.data(look.span.start, look.span.stop))])
        self._session.queue(b"SAVEPOINT " + ROWS)
        outcome = yield from self._session.probe(
            self._statement(skips=plan.skips), chunk, inserts=look.inserts
        )
        self._take_back()
        return outcome if isinstance(outcome, Refusal) else None

    def _take_back(self) -> None:
        self._session.queue(b"ROLLBACK TO SAVEPOINT " + ROWS, b"RELEASE SAVEPOINT " + ROWS)

    def _search(self, search: Search, plan: _Plan, rows: Selection, mark: bytes) -> Steps[Found]:
        outcome: Refusal | None = None
        while True:
            try:
                span = search.send(outcome)
            except StopIteration as end:
                found: Found = end.value
                return found
            outcome = yield from self._try(plan, rows, span, mark)

    def _try(self, plan: _Plan, rows: Selection, span: Span, mark: bytes) -> Steps[Refusal | None]:
        """Load one span; rolled back where it is refused."""
        has_savepoint = self._has_loaded and not (plan.is_bold and span.is_likely)
        if has_savepoint:
            self._session.queue(b"SAVEPOINT " + ROWS)
        outcome = yield from self._load(rows, [span], skips=plan.skips)
        if isinstance(outcome, Refusal):
            if has_savepoint:
                self._take_back()
            elif self._has_loaded:
                raise _SpoiledError
            else:
                self._session.queue(b"ROLLBACK TO SAVEPOINT " + mark)
            self._bad += span.rows == 1 and not outcome.may_pass
            self._require_few(self.rejected + self._bad)
            return outcome
        self._check(span, outcome, skips=plan.skips)
        self._has_loaded = True
        if has_savepoint:
            self._pieces += 1
            self._session.queue(b"RELEASE SAVEPOINT " + ROWS)
        return None

    def _load(
        self, rows: Rows | Selection, spans: list[Span], *, skips: bool
    ) -> Steps[int | Refusal]:
        # Not as one message a row: a server that has refused one throws the others away singly.
        pieces = (piece for span in spans for piece in rows.data(span.start, span.stop))
        chunks = (PayloadChunk([bytes(each)]) for each in pieces)
        return (yield from self._session.attempt(self._statement(skips=skips), chunks))

    def _statement(self, *, skips: bool) -> bytes:
        return self._skips if skips and self._skips is not None else self._options.statement

    def _check(self, span: Span, stored: int, *, skips: bool) -> None:
        """See that all rows of a span were stored or skipped; note the skipped ones."""
        skipped = dict(self._session.skipped)
        if skips:
            is_within = all(1 <= line <= span.rows for line in skipped)
            is_once = len(skipped) == len(self._session.skipped)
            if stored + len(skipped) != span.rows or not (is_within and is_once):
                raise _SpoiledError
            self._skipped |= {span.start + line - 1: said for line, said in skipped.items()}
        elif stored != span.rows:
            raise CopydError(
                f"the server stored {stored} rows of {span.rows} and refused none: a trigger, a rule "
                "or a condition keeps rows away, or a line is not one row"
            )

    def _gather(self, rows: Selection, found: Found, mark: bytes) -> Steps[None]:
        """Load the good rows once more, as one piece."""
        good = list(found.rest(Span(0, len(rows))))
        self._session.queue(b"ROLLBACK TO SAVEPOINT " + mark)
        self._pieces = 0
        outcome = yield from self._load(rows, good, skips=False)
        if outcome != sum(span.rows for span in good):
            raise _SpoiledError

    def _reasons(self, rows: Rows | Selection) -> Steps[list[tuple[int, Refusal]]]:
        """Ask why rows were skipped; each must have been for a reason."""
        skipped, self._skipped = self._skipped, {}
        if not skipped or self._options.columns is None:
            return []
        self._require_few(self.rejected + len(skipped))
        asked = ((row, rows.row(row), said) for row, said in sorted(skipped.items()))
        reasons = yield from self._session.reasons(asked, self._options.columns)
        if reasons.keys() != skipped.keys():
            raise _SpoiledError
        return sorted(reasons.items())
