"""Loads rows in batches; a refused batch is rolled back, and `recovery` loads its good rows.

All batches are in the savepoint copyd_copy of the caller's transaction. Each is a COPY, fed while
data arrives, and spooled until the server has accepted all rows. Nothing here waits; see `Steps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.copyman.batching.recovery import Recovery
from copyd.copyman.batching.refusal import Refusal, Reject, Rejects
from copyd.copyman.batching.spool import HeldRows, Rows, Spool
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import LiteralString

    from copyd.copyman.batching.isolation import Found
    from copyd.copyman.batching.session import Session, Steps
    from copyd.copyman.chunk import Chunk, WireChunk

COPY = b"copyd_copy"
BATCH = b"copyd_batch"
UNGROWN = 32
"""Batches of the configured size; then the size doubles every second batch, so a copy has at most
about 64: more savepoints slow down every reader of the table."""


@dataclass(frozen=True)
class Options:
    """The options of `BatchReceiver`, which describes them."""

    on_reject: Callable[[Reject], object]
    batch_rows: int
    batch_size: int
    columns: Mapping[str, str] | None
    immediate: Sequence[sql.Identifier]
    max_rejects: int | None
    keeps_held: bool


class Loader:
    """A copy on a connection. ``read`` and ``loaded`` count rows.

    ``held``: rows refused by a foreign key, to be tried again. ``waiting``: data not sent yet.
    ``is_behind``: a batch was refused, and not all data since is sent.
    """

    def __init__(self, session: Session, statement: bytes, options: Options) -> None:
        self.options = options
        self.waiting = Spool(options.batch_size)
        self.is_ending = False
        self.is_behind = False
        self.is_begun = False
        self.read = self.loaded = 0
        self._session = session
        self._immediately = self._set_constraints("IMMEDIATE")
        self._afterwards = self._set_constraints("DEFERRED")
        self.rejects = Rejects(options.on_reject, options.max_rejects)
        self._recovery = Recovery(session, statement, options.columns, self.rejects)
        self._batch = Spool(options.batch_size)
        self._is_full = False
        self._number = 0
        self.held = HeldRows(Spool(options.batch_size))

    def _set_constraints(self, mode: LiteralString) -> tuple[bytes, ...]:
        if not self.options.immediate:
            return ()
        names = sql.SQL(", ").join(self.options.immediate)
        statement = sql.SQL("SET CONSTRAINTS {} {}").format(names, sql.SQL(mode))
        return (statement.as_bytes(self._session.connection),)

    @property
    def rollback(self) -> tuple[bytes, ...]:
        """Statements that undo the copy; before its start an empty one, for the server's answer."""
        if not self.is_begun:
            return (b"",)
        back = b"ROLLBACK TO SAVEPOINT " + COPY, b"RELEASE SAVEPOINT " + COPY
        return (*back, *self._afterwards)

    def close(self) -> None:
        """Discard all spooled rows."""
        for spool in (self.waiting, self._batch, self.held.spool):
            spool.clear()

    def run(self) -> Steps[None]:
        """Load all data until ``is_ending``.

        Raises psycopg.Error if no row is to blame, CopydError if rows do not add up. The caller must
        then roll back.
        """
        self._session.queue(*self._immediately, b"SAVEPOINT " + COPY)
        yield from self._session.flush()
        self.is_begun = True
        yield from self._load_batch()
        while (yield from self._await_data()):
            self._session.queue(b"SAVEPOINT " + BATCH)
            yield from self._load_batch()
            self._session.queue(b"RELEASE SAVEPOINT " + BATCH)
        if not self.options.keeps_held:
            while (yield from self.retry()):
                pass
            self.refuse()
        yield from self._session.flush()
        self._session.queue(b"RELEASE SAVEPOINT " + COPY, *self._afterwards)
        yield from self._session.flush()
        self.is_begun = False

    def retry(self) -> Steps[int]:
        """Try the held rows again; returns the number of rows accepted now."""
        if not self.held:
            return 0
        held, self.held = self.held, HeldRows(Spool(self.options.batch_size))
        self._session.queue(*self._immediately, b"SAVEPOINT " + BATCH)
        yield from self._session.flush()
        rows = held.pack()
        found = yield from self._recovery.load(rows, None, BATCH, is_retry=True)
        self._session.queue(b"RELEASE SAVEPOINT " + BATCH, *self._afterwards)
        yield from self._session.flush()
        for row, refusal in found.rejects:
            self._reject(rows, row, held.origin(row), refusal)
        for span, refusal in sorted(found.held, key=lambda each: each[0]):
            ordinal, batch, _ = held.origin(span.start)
            self.held.add(rows, span, ordinal, batch, refusal)
        accepted = len(rows) - found.rows
        self.loaded += accepted
        held.spool.clear()
        return accepted

    def refuse(self) -> None:
        """Reject the held rows."""
        rows = self.held.pack()
        for row in range(len(rows)):
            *_, refusal = origin = self.held.origin(row)
            self._reject(rows, row, origin, refusal)
        self.held = HeldRows(self.held.spool)
        self.held.spool.clear()

    def _await_data(self) -> Steps[bool]:
        while not self.waiting and not self.is_ending:
            self.is_behind = False
            yield from self._wait()
        return bool(self.waiting)

    def _wait(self) -> Steps[None]:
        yield True
        if not self.waiting:
            self._session.listen()

    def _load_batch(self) -> Steps[None]:
        self._number += 1
        savepoint = COPY if self._number == 1 else BATCH  # most copies need only one savepoint
        self._batch.clear()
        self._is_full = False
        outcome = yield from self._session.copy(self._recovery.statement, self._feed())
        if isinstance(outcome, Refusal):
            yield from self._fill_batch()
            rows, refusal, found = Rows(self._batch), outcome, None
        else:
            rows, refusal = Rows(self._batch), None
            found = yield from self._recovery.confirm(rows, outcome)
        if found is None:
            self.is_behind = True  # data from now on waits
            self._session.queue(b"ROLLBACK TO SAVEPOINT " + savepoint)
            found = yield from self._recovery.load(rows, refusal, savepoint)
        self._account(rows, found)

    def _feed(self) -> Iterator[Chunk | None]:
        growth = 2 ** (max(self._number - UNGROWN, 0) // 2)
        while not self._is_full:
            while not self.waiting:
                if self.is_ending:
                    return
                self.is_behind = False
                yield None
            chunk = self._cut_to_fit(self.waiting.take(), growth)
            self._batch.append(chunk)
            yield chunk

    def _cut_to_fit(self, chunk: WireChunk, growth: int) -> WireChunk:
        """Return as much of a chunk as the batch has room for; the rest waits."""
        left = self.options.batch_rows * growth - self._batch.rows
        is_large = self._batch.size + chunk.size >= self.options.batch_size * growth
        if chunk.messages < left and not is_large:
            return chunk
        rows = min(left, chunk.messages)
        head, tail = chunk.part(0, rows), chunk.part(rows)
        if head is None:  # no row ends here: a batch never ends inside a row
            return chunk
        if tail is not None:
            self.waiting.put_back(tail)
        self._is_full = True
        return head

    def _fill_batch(self) -> Steps[None]:
        if not len(self._batch):
            raise self._session.error
        for chunk in self._feed():
            if chunk is None:
                yield from self._wait()
        if not self._batch.rows:
            raise self._session.error

    def _account(self, rows: Rows, found: Found) -> None:
        before, self.read = self.read, self.read + len(rows)
        self.loaded += len(rows) - found.rows
        for row, refusal in sorted(found.rejects, key=lambda reject: reject[0]):
            self._reject(rows, row, (before + row + 1, self._number, refusal), refusal)
        for span, refusal in found.held:
            self.held.add(rows, span, before + span.start + 1, self._number, refusal)
        self._batch.clear()
        if self.loaded + self.rejects.count + len(self.held) != self.read:
            raise CopydError(
                f"rows do not add up: {self.read} read, {self.loaded} loaded, "
                f"{self.rejects.count} rejected, {len(self.held)} held"
            )

    def _reject(self, rows: Rows, row: int, origin: tuple[int, int, Refusal], why: Refusal) -> None:
        ordinal, batch, _ = origin
        self.rejects.add(Reject(ordinal, batch, rows.row(row), why))
