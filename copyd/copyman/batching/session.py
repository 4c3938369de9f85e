"""Statements and COPYs on a connection, in sequence, without ever waiting.

Each is a generator (`Steps`) and yields instead of waiting: True if more data is wanted, False if
the server has to answer.
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
"""The most bytes of padding to end a row after a refusal: more than usual, to keep the connection."""
SKIPPED_IN = "copyfromparse.c"
"""PostgreSQL's source file of the notice about a row that ON_ERROR ignore has skipped."""
BROKEN_OFF = "copyd has checked the rows"
"""The reason with which a probe fails its COPY; the server repeats it, with this SQLSTATE:"""
QUERY_CANCELED = "57014"
_NUMBER = re.compile(r"\d+")


class Session:
    """Queues statements and runs COPYs on `connection`.

    ``skipped``: line, from 1, and notice of each row skipped by the server in the last COPY.
    ``error``: the server's error for the last refused COPY, unset before a refusal.
    """

    def __init__(self, connection: Connection, link: Link) -> None:
        self.skipped: list[tuple[int, str]] = []
        self._active: CopyIn | Query | None = None
        self.error: psycopg.Error
        self.connection = connection
        self._link = link
        self._queued: list[bytes] = []
        self._moved = 0

    @property
    def events(self) -> int:
        """The poll events to wait for."""
        return self._active.events if self._active is not None else select.POLLIN

    @property
    def moved(self) -> int:
        """Bytes of COPY data sent."""
        return self._moved + (self._active.progress if self._active is not None else 0)

    def queue(self, *statements: bytes) -> None:
        """Add statements, to be sent before the next COPY or by `flush`."""
        self._queued += statements

    def drop_queued(self) -> None:
        """Discard the statements not sent yet."""
        self._queued.clear()

    def flush(self) -> Steps[list[PGresult]]:
        """Send the queued statements in a single round trip; returns the results.

        Raises psycopg.Error: the server's error, or the loss of the connection, once it is closed.
        """
        if not self._queued:
            return []
        statements, self._queued = self._queued, []
        self._active = query = Query(self.connection, b"; ".join(statements))
        yield from _until_done(query)
        self._active = None
        if query.error is not None:
            raise query.error
        return query.results

    def reasons(
        self, skipped: Iterable[tuple[int, bytes, str]], columns: Mapping[str, str]
    ) -> Steps[dict[int, Refusal]]:
        """Query the reasons of skipped rows, see `skipped_rows.reasons_query`.

        If reasons are missing, the caller must roll back to a savepoint.
        """
        try:
            self.queue(skipped_rows.reasons_query(self.connection, skipped, columns))
            *_, answer = yield from self.flush()
            return skipped_rows.read_reasons(answer, self.connection.info.encoding)
        except (UnicodeError, psycopg.Error):
            if self.connection.closed:
                raise
            return {}

    def listen(self) -> None:
        """Read the server's messages; raises psycopg.Error if the connection is lost, and closes it."""
        notices: list[Diagnostic] = []
        self.connection.add_notice_handler(notices.append)
        try:
            self.connection.pgconn.consume_input()
            self.connection.pgconn.is_busy()  # makes libpq deliver buffered notices
        except psycopg.Error as error:
            self.connection.close()
            raise _fatal(notices) or error from None
        finally:
            self.connection.remove_notice_handler(notices.append)
        if (ending := _fatal(notices)) is not None:
            self.connection.close()
            raise ending

    def close(self) -> None:
        """Close the connection and abandon the active statement."""
        if self._active is not None:
            self._active.close()
        self._active = None
        self.connection.close()

    def leave(self, reason: str) -> Iterator[bool]:
        """Break off the active statement; raises psycopg.Error if the connection is lost."""
        self.drop_queued()
        if isinstance(self._active, Query):
            self.connection.cancel_safe(timeout=CANCEL_TIMEOUT)
        elif self._active is not None:
            self._active.abort(reason)
        if self._active is not None:
            yield from _until_done(self._active)
            self._active = None

    def copy(self, statement: bytes, chunks: Iterable[Chunk | None]) -> Steps[int | Refusal]:
        """COPY `chunks`, with None to wait for more; returns the number of rows stored.

        Returns the refusal if a row is to blame; the caller must then roll back to a savepoint.
        Raises psycopg.Error for any other error.
        """
        return (yield from self._judged(self._copy_chunks(statement, chunks)))

    def probe(self, statement: bytes, chunk: Chunk, *, inserts: bool) -> Steps[int | Refusal]:
        """COPY a chunk as `copy` does, without keeping its rows.

        Unless `inserts`, the client fails the COPY at the end of the data: the server has checked
        the rows by then and not inserted them. The caller must roll back to a savepoint.
        """
        return (yield from self._judged(self._copy_whole(statement, chunk, inserts=inserts)))

    def _judged(self, copying: Steps[int]) -> Steps[int | Refusal]:
        try:
            return (yield from copying)
        except psycopg.Error as error:
            is_broken_off = error.sqlstate == QUERY_CANCELED and BROKEN_OFF in str(error)
            if not is_broken_off and not is_about_a_row(error):
                raise
            if self.connection.closed:  # no row is to blame for a lost connection
                raise _loss(error) from error
            if is_broken_off:
                return 0  # by this client, because no row was refused
            self.error = error
            return Refusal.of(error)

    def _copy_chunks(self, statement: bytes, chunks: Iterable[Chunk | None]) -> Steps[int]:
        with self._active_copy(statement) as copy:
            copy.start()
            yield from _until_done(copy)
            for chunk in chunks:
                if chunk is not None:
                    copy.offer(chunk)
                    yield from _until_done(copy)
                else:
                    yield True
                    copy.pump()  # raises if the server has refused a row
            copy.finish()
            yield from _until_done(copy)
        return _stored(copy)

    def _copy_whole(self, statement: bytes, chunk: Chunk, *, inserts: bool) -> Steps[int]:
        with self._active_copy(statement) as copy:
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
    def _active_copy(self, statement: bytes) -> Iterator[LibpqCopyIn | WireCopyIn]:
        """Make a COPY, with the queued statements before it; note skipped rows."""
        statements, self._queued = self._queued, []
        copy = open_copy_in(self._link, self.connection, b"; ".join([*statements, statement]))
        copy.preceding, copy.is_last = len(statements), False
        if isinstance(copy, WireCopyIn):
            copy.largest_padding = LARGEST_PADDING
        self._active = copy
        self.skipped = []
        self.connection.add_notice_handler(self._note)
        try:
            yield copy
        finally:
            self.connection.remove_notice_handler(self._note)
            if copy.fileno() is None:  # else broken off, and `leave` needs the active COPY
                self._moved += copy.progress
                self._active = None

    def _note(self, notice: Diagnostic) -> None:
        said = notice.message_primary or ""
        if notice.source_file == SKIPPED_IN and (found := _NUMBER.search(said)):
            self.skipped.append((int(found[0]), said))


def _loss(refusal: psycopg.Error) -> psycopg.Error:
    if isinstance(refusal.__cause__, psycopg.Error):
        return refusal.__cause__
    return psycopg.OperationalError("the connection was lost when a row was refused")


def _fatal(notices: Iterable[Diagnostic]) -> psycopg.Error | None:
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


def _until_done(active: CopyIn | Query) -> Iterator[bool]:
    while not active.pump():
        yield False
