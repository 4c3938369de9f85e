"""Statements and COPYs on one connection, one after the other, without ever waiting.

Each is a generator that yields while there is something to wait for: True where it wants more
data, False where it is the server's turn.
"""

from __future__ import annotations

import re
import select
from contextlib import contextmanager
from typing import TYPE_CHECKING

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

LARGEST_PADDING = 64 * 1024 * 1024
"""Bytes that are worth sending to end a row whose COPY was refused: the connection is needed."""
SKIPPED_IN = "copyfromparse.c"
"""Where PostgreSQL says that ON_ERROR ignore has skipped a row."""
BROKEN_OFF = "copyd has looked at the rows"
"""Why a COPY that is not to insert any is failed by us; the server repeats it, with a SQLSTATE."""
BREAKING_OFF = "57014"
_NUMBER = re.compile(r"\d+")


class Session:
    """The one who speaks on `connection`: ``speaker`` is what it is at, None between two.

    ``moved``: bytes of COPY data sent so far. ``skipped``: what the server said of the rows that
    the last COPY skipped, by their lines from 1. ``error``: what the last COPY was refused for.
    """

    def __init__(self, connection: Connection, link: Link) -> None:
        self.speaker: CopyIn | Query | None = None
        self.skipped: list[tuple[int, str]] = []
        self.error: psycopg.Error | None = None
        self._connection = connection
        self._link = link
        self._words: list[bytes] = []
        self._moved = 0

    @property
    def events(self) -> int:
        """Poll events to wait for."""
        return self.speaker.events if self.speaker is not None else select.POLLIN

    @property
    def moved(self) -> int:
        """Bytes of COPY data sent."""
        is_copy = self.speaker is not None and not isinstance(self.speaker, Query)
        return self._moved + (self.speaker.progress if is_copy else 0)  # type: ignore[union-attr]

    def queue(self, *words: bytes) -> None:
        """Have statements sent before the next COPY, or by `flush`."""
        self._words += words

    def unqueue(self) -> None:
        """Forget what was not sent."""
        self._words.clear()

    def flush(self) -> Generator[bool, None, list[PGresult]]:
        """Send what was said, in one round trip; returns the results.

        Raises psycopg.Error: what the server said, or that the connection is lost and closed.
        """
        if not self._words:
            return []
        words, self._words = self._words, []
        query = Query(self._connection, b"; ".join(words))
        self.speaker = query
        yield from self.await_answer(query)
        if query.error is not None:
            raise query.error
        return query.results

    def reasons(
        self, skipped: Iterable[tuple[int, bytes, str]], columns: Mapping[str, str]
    ) -> Generator[bool, None, dict[int, Refusal]]:
        """Ask why rows were skipped, see `skipped_rows.reasons_query`; what is not known is left out.

        The transaction is to be rolled back to a savepoint where not all is known.
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
        """Hear what the server says between two statements.

        Raises psycopg.Error where the connection is lost, and closes it.
        """
        last_words: list[Diagnostic] = []
        self._connection.add_notice_handler(last_words.append)
        try:
            self._connection.pgconn.consume_input()
            self._connection.pgconn.is_busy()  # makes libpq hand out what it holds
        except psycopg.Error as error:
            self._connection.close()
            raise _in_the_end(last_words) or error from None
        finally:
            self._connection.remove_notice_handler(last_words.append)
        ending = _in_the_end(last_words)
        if ending is not None:
            self._connection.close()
            raise ending

    def close(self) -> None:
        """Close the connection, and let go of whatever is going on."""
        speaker, self.speaker = self.speaker, None
        if speaker is not None and not isinstance(speaker, Query):
            speaker.close()
        self._connection.close()

    def leave(self, reason: str) -> Iterator[bool]:
        """Break off whatever is going on.

        Raises psycopg.Error where the connection is lost, and closes it.
        """
        self.unqueue()
        if isinstance(self.speaker, Query):
            self._connection.cancel_safe(timeout=CANCEL_TIMEOUT)
            yield from self.await_answer(self.speaker)
        elif self.speaker is not None:
            self.speaker.abort(reason)
            yield from _until_done(self.speaker)
            self.speaker = None

    def await_answer(self, query: Query) -> Iterator[bool]:
        """Wait for the answer to `query`."""
        try:
            while not query.pump():
                yield False
        except psycopg.Error:
            self._connection.close()
            raise
        self.speaker = None

    def attempt(
        self, statement: bytes, chunks: Iterable[Chunk | None]
    ) -> Generator[bool, None, int | Refusal]:
        """COPY `chunks`, where None is that there are none yet; returns how many rows were stored.

        Returns the refusal where a row is to blame; the transaction is to be rolled back to a
        savepoint then. Raises psycopg.Error for anything else.
        """
        return (yield from self._judged(self._copy(statement, chunks)))

    def probe(
        self, statement: bytes, chunk: Chunk, *, inserts: bool
    ) -> Generator[bool, None, int | Refusal]:
        """COPY one chunk as `attempt` does, of which nothing is to be kept.

        Unless it `inserts`, the COPY is failed once all was sent: the server has looked at the rows
        then, and those that it has not inserted yet it never will. The transaction is to be rolled
        back to a savepoint in any case.
        """
        return (yield from self._judged(self._copy_whole(statement, chunk, inserts=inserts)))

    def _judged(self, copying: Generator[bool, None, int]) -> Generator[bool, None, int | Refusal]:
        try:
            return (yield from copying)
        except psycopg.Error as error:
            is_broken_off = error.sqlstate == BREAKING_OFF and BROKEN_OFF in str(error)
            if not is_broken_off and not is_about_a_row(error):
                raise
            if self._connection.closed:  # no row is to blame for that
                raise _loss(error) from error
            if is_broken_off:
                return 0
            self.error = error
            return Refusal.of(error)

    def _open(self, statement: bytes) -> LibpqCopyIn | WireCopyIn:
        words, self._words = self._words, []
        copy = open_copy_in(self._link, self._connection, b"; ".join([*words, statement]))
        copy.preceding, copy.is_last = len(words), False
        if isinstance(copy, WireCopyIn):
            copy.largest_padding = LARGEST_PADDING
        return copy

    def _copy(self, statement: bytes, chunks: Iterable[Chunk | None]) -> Generator[bool, None, int]:
        copy = self._open(statement)
        with self._listening(copy):
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
        with self._listening(copy):
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
    def _listening(self, copy: CopyIn) -> Iterator[None]:
        self.speaker = copy
        self.skipped = []
        self._connection.add_notice_handler(self._note)
        try:
            yield
        finally:
            self._connection.remove_notice_handler(self._note)
            if copy.fileno() is None:  # else it is broken off, and `leave` has to do with it
                self._moved += copy.progress
                self.speaker = None

    def _note(self, notice: Diagnostic) -> None:
        """Note which row was skipped: the first number in the words, in whatever language."""
        if notice.source_file == SKIPPED_IN:
            said = notice.message_primary or ""
            found = _NUMBER.search(said)
            if found:
                self.skipped.append((int(found[0]), said))


def _loss(refusal: psycopg.Error) -> psycopg.Error:
    """Return how the connection was lost on which `refusal` was the last that could be heard."""
    loss = refusal.__cause__
    if isinstance(loss, psycopg.Error):
        return loss
    return psycopg.OperationalError("the connection was lost when a row was refused")


def _in_the_end(words: Iterable[Diagnostic]) -> psycopg.Error | None:
    """Return as an error what a server said when it hung up."""
    for said in words:
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
