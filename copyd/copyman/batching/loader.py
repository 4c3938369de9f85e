"""Loading rows in batches of which each can be taken back.

Everything happens in the savepoint copyd_copy of the caller's transaction. A batch is one COPY that
is fed while data comes, and is spooled until the server has taken it. A batch that is refused is
rolled back, and `recovery` loads its good rows. Nothing here waits; see `Steps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from copyd.copyman.batching.recovery import Recovery
from copyd.copyman.batching.refusal import Refusal, Reject, Rejects
from copyd.copyman.batching.spool import HeldRows, Rows, Spool
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from copyd.copyman.batching.isolation import Found
    from copyd.copyman.batching.session import Session, Steps
    from copyd.copyman.chunk import Chunk, WireChunk

COPY = b"copyd_copy"
BATCH = b"copyd_batch"
UNGROWN = 32
"""Batches of the configured size; then it doubles with every second one, so that a copy has no
more than 64 of them: more savepoints slow down every reader of the table."""


@dataclass(frozen=True)
class Options:
    """What a loader is to do. A batch of ``batch_size`` bytes is kept in memory, more in a file.

    ``columns``: name and type of each column, in order, where the server may skip rows.
    ``immediately``: statements that have constraints checked at the end of each COPY;
    ``afterwards``: those that undo it. ``keeps_held``: rows that a foreign key refuses are left to
    `Loader.retry` and not tried again at the end of the data.
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


class Loader:
    """One copy on one connection. ``read`` and ``loaded`` count rows.

    ``waiting``: data that has come and is not sent. ``is_behind``: a batch was refused, and the data
    that has come since is not all sent.
    """

    def __init__(self, session: Session, options: Options) -> None:
        self.waiting = Spool(options.batch_size)
        self.is_ending = False
        self.is_behind = False
        self.is_begun = False
        self.read = self.loaded = 0
        self._session = session
        self._options = options
        self._rejects = Rejects(options.on_reject, options.max_rejects)
        self._recovery = Recovery(session, options.statement, options.columns, self._rejects)
        self._batch = Spool(options.batch_size)
        self._is_full = False
        self._number = 0
        self._held = HeldRows(Spool(options.batch_size))

    @property
    def rejected(self) -> int:
        """Rows that were rejected."""
        return self._rejects.count

    @property
    def held(self) -> int:
        """Rows that a foreign key has refused and that are to be tried again."""
        return len(self._held)

    @property
    def rollback(self) -> tuple[bytes, ...]:
        """Statements that take back everything, or at least get an answer from the server."""
        if not self.is_begun:
            return (b"",)
        back = b"ROLLBACK TO SAVEPOINT " + COPY, b"RELEASE SAVEPOINT " + COPY
        return (*back, *self._options.afterwards)

    def close(self) -> None:
        """Give up all spooled rows."""
        for spool in (self.waiting, self._batch, self._held.spool):
            spool.clear()

    def run(self) -> Steps[None]:
        """Load all data that comes until ``is_ending``.

        Raises psycopg.Error where no row is to blame, and CopydError where rows do not add up.
        The caller then has to roll back.
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
        """Try the held rows again; returns how many the server takes now."""
        if not self.held:
            return 0
        held, self._held = self._held, HeldRows(Spool(self._options.batch_size))
        self._session.queue(*self._options.immediately, b"SAVEPOINT " + BATCH)
        yield from self._session.flush()
        rows = held.pack()
        found = yield from self._recovery.load(rows, None, BATCH, is_retry=True)
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
        self._held = HeldRows(self._held.spool)
        self._held.spool.clear()

    # -- a batch ----------------------------------------------------------------------------------

    def _await_data(self) -> Steps[bool]:
        while not self.waiting and not self.is_ending:
            self.is_behind = False
            yield from self._wait()
        return bool(self.waiting)

    def _wait(self) -> Steps[None]:
        """Wait for data, and notice meanwhile if the connection is lost."""
        yield True
        if not self.waiting:
            self._session.listen()

    def _load_batch(self) -> Steps[None]:
        self._number += 1
        savepoint = COPY if self._number == 1 else BATCH
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
            self.is_behind = True  # data that comes from now on waits
            self._session.queue(b"ROLLBACK TO SAVEPOINT " + savepoint)
            found = yield from self._recovery.load(rows, refusal, savepoint)
        self._account(rows, found)

    def _feed(self) -> Iterator[Chunk | None]:
        """Yield the chunks of one batch as they come, and spool them."""
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
        """Return as much of a chunk as goes into the batch, and whether the batch is full then."""
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
            raise self._session.error
        for chunk in self._feed():
            if chunk is None:
                yield from self._wait()
        if not self._batch.rows:
            raise self._session.error

    def _account(self, rows: Rows, found: Found) -> None:
        """Count a batch: all of its rows are loaded except for those in `found`."""
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
        self._rejects.add(Reject(ordinal, batch, rows.row(row), why))
