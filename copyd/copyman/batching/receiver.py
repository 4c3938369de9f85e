"""A receiver that loads all rows except those that its server refuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from copyd.copyman.batching.loader import Loader, Options
from copyd.copyman.batching.session import Session
from copyd.copyman.batching.skipped_rows import FIRST_VERSION
from copyd.copyman.pump import Limits, drive
from copyd.copyman.receivers import StatementReceiver
from copyd.wire import CommandTag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import LiteralString

    from copyd.connection import Connection
    from copyd.copyman.batching.refusal import Reject
    from copyd.copyman.batching.session import Steps
    from copyd.copyman.chunk import Chunk
    from copyd.copyman.links import LinkName
    from copyd.copyman.ports import CopyIn, Link

BATCH_ROWS = 250_000
BATCH_SIZE = 20_000_000
MOST_WAITING = 16
"""Batches that a receiver may fall behind before the others wait for it."""
_OTHER_FORMATS = re.compile(rb"(?is)\bfrom\s+stdin\b.*\b(?:csv|binary|header)\b|\bcopy\s+binary\b")


class BatchReceiver(StatementReceiver):
    """``COPY ... FROM STDIN`` in text format that goes on where the server refuses a row.

    A row that causes an error becomes a `Reject`, which `on_reject` is called with once the rest of
    its batch is loaded; it stands when the copy completes. An exception of `on_reject` ends the copy
    at this receiver, and so does any other error. Nothing is added to the caller's transaction
    unless the copy completes (``tag``).

    ``batch_rows``, ``batch_size``: rows and bytes after which a batch is full; as many bytes are kept
    in memory, what is beyond them in a temporary file. ``columns``: the columns' types by their
    names, in the order of the statement, so that PostgreSQL 17 and later can skip rows in one pass.
    ``immediate``: deferrable constraints of the table, to be checked with each batch.
    ``max_rejects``: how many rows may be rejected, None for any number.

    A row that a foreign key refuses is tried again at the end of the data, as long as some are
    taken; with ``keeps_held`` that is left to `retry` and `refuse`.
    """

    def __init__(
        self,
        connection: Connection,
        statement: str | sql.Composable,
        *,
        on_reject: Callable[[Reject], object],
        batch_rows: int = BATCH_ROWS,
        batch_size: int = BATCH_SIZE,
        columns: Mapping[str, str] | None = None,
        immediate: Sequence[sql.Identifier] = (),
        max_rejects: int | None = None,
        keeps_held: bool = False,
        link: LinkName = "auto",
    ) -> None:
        if batch_rows < 1 or batch_size < 1:
            raise ValueError("a batch has at least one row and one byte")
        super().__init__(connection, statement, link=link)
        self._on_reject = on_reject
        self._batch_rows = batch_rows
        self._batch_size = batch_size
        self._columns = columns
        self._immediate = immediate
        self._max_rejects = max_rejects
        self._keeps_held = keeps_held

    @property
    def read(self) -> int:
        """Rows that the server has judged."""
        return self._loader.read if self._loader is not None else 0

    @property
    def loaded(self) -> int:
        """Rows that the server has taken."""
        return self._loader.loaded if self._loader is not None else 0

    @property
    def rejected(self) -> int:
        """Rows that the server has refused."""
        return self._loader.rejected if self._loader is not None else 0

    @property
    def held(self) -> int:
        """Rows that a foreign key has refused, and that are to be tried again."""
        return self._loader.held if self._loader is not None else 0

    @property
    def is_behind(self) -> bool:  # type: ignore[override]
        batches = cast("_BatchedCopyIn | None", self._copy)
        return batches is not None and batches.is_behind

    def retry(self, *, stall_timeout: float | None = None) -> int:
        """Try the held rows again; returns how many the server takes now.

        To be called in the transaction of the copy, after its end. Raises psycopg.Error; the
        transaction is to be rolled back then. Raises TimeoutError where the server does not answer
        for `stall_timeout` seconds; the connection is closed then.
        """
        batches = cast("_BatchedCopyIn", self._running)
        return batches.retry(Limits(stall_timeout))

    def refuse(self) -> None:
        """Reject what a foreign key still refuses."""
        if self._loader is not None:
            self._loader.refuse()

    @property
    def _loader(self) -> Loader | None:
        batches = cast("_BatchedCopyIn | None", self._copy)
        return batches.loader if batches is not None else None

    def _open(self, link: Link, statement: bytes) -> CopyIn:
        if _OTHER_FORMATS.search(statement):
            raise psycopg.NotSupportedError("rows can be rejected in COPY's text format only")
        if self._connection.pgconn.transaction_status != TransactionStatus.INTRANS:
            raise psycopg.InterfaceError(
                "rows can be rejected within a transaction only, and the connection is in autocommit"
            )
        can_skip = self._connection.info.server_version >= FIRST_VERSION
        options = Options(
            statement,
            batch_rows=self._batch_rows,
            batch_size=self._batch_size,
            on_reject=self._on_reject,
            columns=self._columns if can_skip else None,
            immediately=self._have_checked("IMMEDIATE"),
            afterwards=self._have_checked("DEFERRED"),
            max_rejects=self._max_rejects,
            keeps_held=self._keeps_held,
        )
        return _BatchedCopyIn(self._connection, Session(self._connection, link), options)

    def _have_checked(self, when: LiteralString) -> tuple[bytes, ...]:
        """Return SET CONSTRAINTS for the deferrable constraints, if any."""
        if not self._immediate:
            return ()
        names = sql.SQL(", ").join(self._immediate)
        mode = sql.SQL("SET CONSTRAINTS {} {}").format(names, sql.SQL(when))
        return (mode.as_bytes(self._connection),)


class _BatchedCopyIn:
    """A loader behind the port of a COPY."""

    def __init__(self, connection: Connection, session: Session, options: Options) -> None:
        self.loader = Loader(session, options)
        self.tag: CommandTag | None = None
        self._connection = connection
        self._session = session
        self._most_waiting = MOST_WAITING * options.batch_size
        self._steps: Steps[Any] | None = None
        self._fault: Exception | None = None
        self._is_aborting = False
        self._is_leaving = False
        self._result: Any = None

    @property
    def progress(self) -> int:
        return self._session.moved

    @property
    def events(self) -> int:
        return self._session.events

    @property
    def can_resume(self) -> bool:
        return self._steps is not None and self._fault is None and not self._is_aborting

    @property
    def is_behind(self) -> bool:
        return self.loader.is_behind and self.can_resume

    def fileno(self) -> int | None:
        return self._connection.fileno() if self._steps is not None else None

    def start(self) -> None:
        self._steps = self._run()

    def offer(self, chunk: Chunk) -> None:
        if chunk.size:
            self.loader.waiting.append(chunk.kept)

    def finish(self) -> None:
        self.loader.is_ending = True

    def pump(self) -> bool:
        """Go on; True when it wants or can take more data, or all is done."""
        if self._steps is None:
            return True
        try:
            wants_data = next(self._steps)
        except StopIteration as end:
            self._end(end.value)
            return True
        except Exception as error:  # noqa: BLE001 - kept and raised once the COPY is left
            self._break_off(error)
            return self.pump()
        except BaseException:
            self.close()
            raise
        return wants_data or self._has_room

    def retry(self, limits: Limits) -> int:
        self._steps = self.loader.retry()
        try:
            faults = drive([self], limits)
        except BaseException:
            self.close()
            raise
        for error in faults.values():
            if self._steps is not None:  # it is still at work
                self.close()
            raise error
        accepted: int = self._result
        return accepted

    def abort(self, reason: str) -> None:
        """Begin to roll back; where the savepoint is gone already, close the connection."""
        self._is_aborting = True
        if self._steps is None and self.tag is not None:
            self.close()
        elif self._steps is not None and not self._is_leaving:
            self._leave(reason)

    def close(self) -> None:
        self._steps = None
        self._session.close()
        self.loader.close()

    @property
    def _has_room(self) -> bool:
        """Whether the others need not wait for it."""
        is_small = self.loader.waiting.size < self._most_waiting
        return self.is_behind and is_small and not self.loader.is_ending

    def _run(self) -> Steps[None]:
        yield from self.loader.run()
        self.tag = CommandTag(f"COPY {self.loader.loaded}", self.loader.loaded)

    def _end(self, result: object) -> None:
        self._steps = None
        self._result = result
        if self.tag is None:
            self.loader.close()
        if self._fault is not None and not self._is_aborting:
            raise self._fault

    def _break_off(self, error: Exception) -> None:
        """Roll back, then raise `error`; at once where the connection is lost."""
        self._fault = self._fault or error
        if self._connection.closed or self._is_leaving:
            self.close()
            raise self._fault
        self._leave("the copy was given up")

    def _leave(self, reason: str) -> None:
        self._is_leaving = True
        if self._steps is not None:
            self._steps.close()
        self._steps = self._roll_back(reason)

    def _roll_back(self, reason: str) -> Steps[None]:
        yield from self._session.leave(reason)
        self._session.queue(*self.loader.rollback)
        yield from self._session.flush()
