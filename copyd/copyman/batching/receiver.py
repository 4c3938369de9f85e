"""A receiver for COPY that rejects bad rows and loads all others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg.pq import TransactionStatus

from copyd.copyman.batching.loader import Loader, Options
from copyd.copyman.batching.session import Session
from copyd.copyman.pump import Limits, drive
from copyd.copyman.statement import StatementReceiver
from copyd.wire import CommandTag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg import sql

    from copyd.connection import Connection
    from copyd.copyman.batching.refusal import Reject
    from copyd.copyman.batching.session import Steps
    from copyd.copyman.chunk import Chunk
    from copyd.copyman.links import LinkName
    from copyd.copyman.ports import CopyIn, Link

# Decision: A search for bad rows holds no other destination back
MOST_WAITING = 16  # batches that a receiver may fall behind before the others wait for it
_OTHER_FORMATS = re.compile(rb"(?is)\bfrom\s+stdin\b.*\b(?:csv|binary|header)\b|\bcopy\s+binary\b")


class BatchReceiver(StatementReceiver):
    """``COPY ... FROM STDIN`` in text format, continued after a refused row.

    A refused row becomes a `Reject`. `on_reject` is called with each, once the rest of its batch is
    loaded; a reject is final when the copy completes. An exception of `on_reject` ends the copy at
    this receiver, and so does any other error. Nothing is added to the caller's transaction unless
    the copy completes (``tag``).

    ``batch_rows``, ``batch_size``: rows and bytes after which a batch is full; up to ``batch_size``
    bytes are kept in memory, the rest in a temporary file. ``columns``: types by column name, in the
    order of the statement; with these PostgreSQL 17 and later can skip bad rows by itself.
    ``immediate``: deferrable constraints of the table, checked with each batch. ``max_rejects``: the
    largest number of rejects, None for any number.

    A row refused by a foreign key is held and tried again at the end of the data, as long as the
    server accepts some; with ``keeps_held`` the caller does this with `retry` and `refuse`.
    """

    def __init__(
        self,
        connection: Connection,
        statement: str | sql.Composable,
        *,
        on_reject: Callable[[Reject], object],
        batch_rows: int = 250_000,
        batch_size: int = 20_000_000,
        columns: Mapping[str, str] | None = None,
        immediate: Sequence[sql.Identifier] = (),
        max_rejects: int | None = None,
        keeps_held: bool = False,
        link: LinkName = "auto",
    ) -> None:
        if batch_rows < 1 or batch_size < 1:
            raise ValueError("a batch has at least one row and one byte")
        super().__init__(connection, statement, link=link)
        self._options = Options(
            on_reject, batch_rows, batch_size, columns, immediate, max_rejects, keeps_held
        )

    @property
    def read(self) -> int:
        """Rows judged by the server."""
        return self._batches.loader.read if self._batches else 0

    @property
    def loaded(self) -> int:
        """Rows accepted by the server."""
        return self._batches.loader.loaded if self._batches else 0

    @property
    def rejected(self) -> int:
        """Rows refused by the server."""
        return self._batches.loader.rejects.count if self._batches else 0

    @property
    def held(self) -> int:
        """Rows refused by a foreign key, to be tried again."""
        return len(self._batches.loader.held) if self._batches else 0

    @property
    def is_behind(self) -> bool:  # type: ignore[override]
        return self._batches is not None and self._batches.is_behind

    def retry(self, *, stall_timeout: float | None = None) -> int:
        """Try the held rows again; returns the number of rows accepted now.

        For use after the end of the copy, in its transaction. Raises psycopg.Error, after which the
        transaction must be rolled back. Raises TimeoutError if the server does not answer for
        `stall_timeout` seconds; the connection is closed then.
        """
        batches = cast("_BatchedCopyIn", self._running)
        return batches.retry(Limits(stall_timeout))

    def refuse(self) -> None:
        """Reject the held rows."""
        if self._batches is not None:
            self._batches.loader.refuse()

    @property
    def _batches(self) -> _BatchedCopyIn | None:
        return cast("_BatchedCopyIn | None", self._copy)

    def _open(self, link: Link, statement: bytes) -> CopyIn:
        if _OTHER_FORMATS.search(statement):
            raise psycopg.NotSupportedError("rows can be rejected in COPY's text format only")
        if self.connection.pgconn.transaction_status != TransactionStatus.INTRANS:
            raise psycopg.InterfaceError(
                "rows can be rejected within a transaction only, and the connection is in autocommit"
            )
        session = Session(self.connection, link)
        return _BatchedCopyIn(session, Loader(session, statement, self._options))


class _BatchedCopyIn:
    """A loader behind the port of a COPY."""

    def __init__(self, session: Session, loader: Loader) -> None:
        self.loader = loader
        self.tag: CommandTag | None = None
        self._session = session
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
        return self._session.connection.fileno() if self._steps is not None else None

    def start(self) -> None:
        self._steps = self._run()

    def offer(self, chunk: Chunk) -> None:
        if chunk.size:
            self.loader.waiting.append(chunk.kept)  # the producer reuses the chunk's memory

    def finish(self) -> None:
        self.loader.is_ending = True

    def pump(self) -> bool:
        """Continue; True when more data can be offered, or all is done."""
        if self._steps is None:
            return True
        try:
            wants_data = next(self._steps)
        except StopIteration as end:
            self._end(end.value)
            return True
        except Exception as error:  # noqa: BLE001 - kept and raised after leaving the COPY
            self._break_off(error)
            return self.pump()
        except BaseException:
            self.close()
            raise
        most = MOST_WAITING * self.loader.options.batch_size
        has_room = self.loader.waiting.size < most and not self.loader.is_ending
        return wants_data or (self.is_behind and has_room)

    def retry(self, limits: Limits) -> int:
        self._steps = self.loader.retry()
        try:
            faults = drive([self], limits)
        except BaseException:
            self.close()
            raise
        for error in faults.values():
            if self._steps is not None:  # a timeout: the server is still at work
                self.close()
            raise error
        accepted: int = self._result
        return accepted

    def abort(self, reason: str) -> None:
        """Begin to roll back; if the savepoint is gone already, close the connection."""
        self._is_aborting = True
        if self._steps is None and self.tag is not None:
            self.close()
        elif self._steps is not None and not self._is_leaving:
            self._leave(reason)

    def close(self) -> None:
        self._steps = None
        self._session.close()
        self.loader.close()

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
        self._fault = self._fault or error
        if self._session.connection.closed or self._is_leaving:
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
