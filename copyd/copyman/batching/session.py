"""Statements and COPYs on one connection, one after the other, without ever waiting.

Each is a generator (`Steps`) that yields instead of waiting: True where it wants more data, False
where it is the server's turn.
"""

from __future__ import annotations

import re
import select
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import errors

from copyd.copyman.batching import skipped_rows
from copyd.copyman.batching.refusal import Refusal, is_about_a_row
from copyd.copyman.links import CANCEL_TIMEOUT, Query, WireCopyIn, open_copy_in
from copyd.wire import COPY_DONE, copy_fail

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from psycopg.errors import Diagnostic
    from psycopg.pq.abc import PGresult

    from copyd.connection import Connection
    from copyd.copyman.chunk import Chunk
    from copyd.copyman.links import LibpqCopyIn
    from copyd.copyman.ports import CopyIn, Link

    T = TypeVar("T")
    Steps = Generator[bool, None, T]

LARGEST_PADDING = 64 * 1024 * 1024
"""Bytes that are worth sending to end a row whose COPY was refused: the connection is needed."""
SKIPPED_IN = "copyfromparse.c"
"""PostgreSQL's source file of the notice that ON_ERROR ignore has skipped a row."""
BROKEN_OFF = "copyd has looked at the rows"
"""The reason with which a probe fails its COPY; the server repeats it, with this SQLSTATE:"""
QUERY_CANCELED = "57014"
_NUMBER = re.compile(r"\d+")


class Session:
    """Queues statements and runs COPYs on `connection`.

    ``skipped``: line, from 1, and notice of each row that the server skipped in the last COPY.
    """

    def __init__(self, connection: Connection, link: Link) -> None:
        self.skipped: list[tuple[int, str]] = []
        self._active: CopyIn | Query | None = None
        self._error: psycopg.Error | None = None
        self._connection = connection
        self._link = link
        self._queued: list[bytes] = []
        self._moved = 0

    @property
    def events(self) -> int:
        """Poll events to wait for."""
        return self._active.events if self._active is not None else select.POLLIN

    @property
    def moved(self) -> int:
        """Bytes of COPY data sent."""
        is_copy = self._active is not None and not isinstance(self._active, Query)
        return self._moved + (self._active.progress if is_copy else 0)  # type: ignore[union-attr]

    @property
    def error(self) -> psycopg.Error:
        """The error of the last refused COPY; there must have been one."""
        assert self._error is not None  # noqa: S101 - read after a refusal only
        return self._error

    def queue(self, *statements: bytes) -> None:
        """Have statements sent before the next COPY, or by `flush`."""
        self._queued += statements

    def drop_queued(self) -> None:
        """Forget the statements that were not sent."""
        self._queued.clear()

    def flush(self) -> Generator[bool, None, list[PGresult]]:
        """Send the queued statements in one round trip; returns the results.

        Raises psycopg.Error: the server's error, or that the connection is lost and closed.
        """
        if not self._queued:
            return []
        statements, self._queued = self._queued, []
        query = Query(self._connection, b"; ".join(statements))
        self._active = query
        yield from self._await_result(query)
        if query.error is not None:
            raise query.error
        return query.results

    def reasons(
        self, skipped: Iterable[tuple[int, bytes, str]], columns: Mapping[str, str]
    ) -> Generator[bool, None, dict[int, Refusal]]:
        """Ask for the reasons of skipped rows, see `skipped_rows.reasons_query`.

        The caller has to roll back to a savepoint where reasons are missing.
        """
        try:
            self.queue(skipped_rows.reasons_query(self._connection, skipped, columns))
            *_, answer = yield from self.flush()
            return skipped_rows.read_reasons(answer, self._connection.info.encoding)
        except UnicodeError:
            return {}
        except psycopg.Error:
            if self._connection.closed:
                raise
            return {}

    def listen(self) -> None:
        """Read the server's messages between two statements.

        Raises psycopg.Error where the connection is lost, and closes it.
        """
        notices: list[Diagnostic] = []
        self._connection.add_notice_handler(notices.append)
        try:
            self._connection.pgconn.consume_input()
            self._connection.pgconn.is_busy()  # makes libpq hand out what it holds
        except psycopg.Error as error:
            self._connection.close()
            raise _fatal(notices) or error from None
        finally:
            self._connection.remove_notice_handler(notices.append)
        ending = _fatal(notices)
        if ending is not None:
            self._connection.close()
            raise ending

    def close(self) -> None:
        """Close the connection and abandon the active statement."""
        active, self._active = self._active, None
        if active is not None and not isinstance(active, Query):
            active.close()
        self._connection.close()

    def leave(self, reason: str) -> Iterator[bool]:
        """Break off the active statement.

        Raises psycopg.Error where the connection is lost, and closes it.
        """
        self.drop_queued()
        if isinstance(self._active, Query):
            self._connection.cancel_safe(timeout=CANCEL_TIMEOUT)
            yield from self._await_result(self._active)
        elif self._active is not None:
            self._active.abort(reason)
            yield from _until_done(self._active)
            self._active = None

    def _await_result(self, query: Query) -> Iterator[bool]:
        try:
            while not query.pump():
                yield False
        except psycopg.Error:
            self._connection.close()
            raise
        self._active = None

    def copy(
        self, statement: bytes, chunks: Iterable[Chunk | None]
    ) -> Generator[bool, None, int | Refusal]:
        """COPY `chunks`, None among them where more are to come; returns how many rows were stored.

        Returns the refusal where a row is to blame; the caller has to roll back to a savepoint
        then. Raises psycopg.Error for anything else.
        """
        return (yield from self._judged(self._copy_chunks(statement, chunks)))

    def probe(
        self, statement: bytes, chunk: Chunk, *, inserts: bool
    ) -> Generator[bool, None, int | Refusal]:
        """COPY one chunk as `copy` does, without keeping its rows.

        Unless it `inserts`, the COPY is failed once all was sent: the server has checked the rows
        by then and does not insert the rest. The caller has to roll back to a savepoint in any case.
        """
        return (yield from self._judged(self._copy_whole(statement, chunk, inserts=inserts)))

    def _judged(self, copying: Generator[bool, None, int]) -> Generator[bool, None, int | Refusal]:
        try:
            return (yield from copying)
        except psycopg.Error as error:
            is_broken_off = error.sqlstate == QUERY_CANCELED and BROKEN_OFF in str(error)
            if not is_broken_off and not is_about_a_row(error):
                raise
            if self._connection.closed:  # no row is to blame for that
                raise _loss(error) from error
            if is_broken_off:
                return 0
            self._error = error
            return Refusal.of(error)

    def _open(self, statement: bytes) -> LibpqCopyIn | WireCopyIn:
        statements, self._queued = self._queued, []
        copy = open_copy_in(self._link, self._connection, b"; ".join([*statements, statement]))
        copy.preceding, copy.is_last = len(statements), False
        if isinstance(copy, WireCopyIn):
            copy.largest_padding = LARGEST_PADDING
        return copy

    def _copy_chunks(
        self, statement: bytes, chunks: Iterable[Chunk | None]
    ) -> Generator[bool, None, int]:
        copy = self._open(statement)
        with self._noting_skips(copy):
            copy.start()
            yield from _until_done(copy)
            for chunk in chunks:
                if chunk is not None:
                    copy.offer(chunk)
                    yield from _until_done(copy)
                else:
                    yield True
                    copy.pump()  # it may have been refused meanwhile
            copy.finish()
            yield from _until_done(copy)
        return _stored(copy)

    def _copy_whole(
        self, statement: bytes, chunk: Chunk, *, inserts: bool
    ) -> Generator[bool, None, int]:
        copy = self._open(statement)
        with self._noting_skips(copy):
            if isinstance(copy, WireCopyIn):
                copy.start_with(chunk, COPY_DONE if inserts else copy_fail(BROKEN_OFF))
            else:
                copy.start()
                yield from _until_done(copy)
                copy.offer(chunk)
                yield from _until_done(copy)
                copy.finish() if inserts else copy.abort(BROKEN_OFF)
            yield from _until_done(copy)
        if copy.error is not None:
            raise copy.error
        return _stored(copy)

    @contextmanager
    def _noting_skips(self, copy: CopyIn) -> Iterator[None]:
        self._active = copy
        self.skipped = []
        self._connection.add_notice_handler(self._note)
        try:
            yield
        finally:
            self._connection.remove_notice_handler(self._note)
            if copy.fileno() is None:  # else it was broken off: `leave` needs it
                self._moved += copy.progress
                self._active = None

    def _note(self, notice: Diagnostic) -> None:
        """Note a skipped row: its line is the first number of the message, in any language."""
        if notice.source_file == SKIPPED_IN:
            said = notice.message_primary or ""
            found = _NUMBER.search(said)
            if found:
                self.skipped.append((int(found[0]), said))


def _loss(refusal: psycopg.Error) -> psycopg.Error:
    """Return the loss of the connection behind `refusal`, the last error that it delivered."""
    loss = refusal.__cause__
    if isinstance(loss, psycopg.Error):
        return loss
    return psycopg.OperationalError("the connection was lost when a row was refused")


def _fatal(notices: Iterable[Diagnostic]) -> psycopg.Error | None:
    """Return the error with which the server ended the connection."""
    for said in notices:
        if said.severity_nonlocalized in ("FATAL", "PANIC"):
            try:
                kind: type[psycopg.Error] = errors.lookup(said.sqlstate or "")
            except KeyError:
                kind = psycopg.OperationalError
            return kind(said.message_primary or "the server hung up")
    return None


def _stored(copy: CopyIn) -> int:
    return (copy.tag.rows or 0) if copy.tag is not None else 0


def _until_done(copy: CopyIn) -> Iterator[bool]:
    while not copy.pump():
        yield False
