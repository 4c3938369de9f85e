"""A COPY statement on a psycopg connection, as the producer or a receiver of a copy."""

from __future__ import annotations

import select
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import sql

from copyd.copyman.links import Preamble, choose, open_copy_in, open_copy_out
from copyd.copyman.ports import CopyIn, CopyOut

if TYPE_CHECKING:
    from copyd.connection import Connection
    from copyd.copyman.chunk import Chunk
    from copyd.copyman.links import LinkName
    from copyd.copyman.ports import Link, Pumped
    from copyd.wire import CommandTag

AnyCopy = TypeVar("AnyCopy", CopyIn, CopyOut)

# libpq cannot refuse a second COPY: with its stream borrowed the connection looks idle.
# Shared by all threads: adding and discarding an element are each atomic under the GIL.
_IN_COPY: WeakSet[Connection] = WeakSet()


class Statement(ABC, Generic[AnyCopy]):
    """A COPY statement, its ``connection``, and its run.

    ``link``: how the data travels and why; None before the start.
    """

    is_behind = False

    def __init__(
        self,
        connection: Connection,
        statement: str | sql.Composable,
        *,
        link: LinkName = "auto",
    ) -> None:
        if not isinstance(connection, psycopg.Connection):
            raise TypeError(f"expected a psycopg.Connection, got {type(connection).__name__}")
        self.connection = connection
        self.link: Link | None = None
        self._statement = statement
        self._wanted_link = link
        self._preamble: Preamble | None = None
        self._copy: AnyCopy | None = None

    def __repr__(self) -> str:
        text, place, situation = self._statement, "a closed connection", "not started"
        if isinstance(text, sql.Composable):
            text = text.as_string()
        if not self.connection.closed:
            info = self.connection.info
            place = f"{info.dbname} at {info.host or 'local socket'}:{info.port}"
        if self.tag is not None:
            situation = self.tag.text
        elif self._active is not None:
            situation = f"{max(self._active.progress, 0)} bytes"
        return f"<{type(self).__name__} {text!r} on {place}, {situation}>"

    @property
    def tag(self) -> CommandTag | None:
        return self._copy.tag if self._copy is not None else None

    @property
    def rows(self) -> int | None:
        return self.tag.rows if self.tag is not None else None

    @property
    def encoding(self) -> str | None:
        """The connection's client_encoding; None if the connection is closed."""
        if self.connection.closed:
            return None
        name = self.connection.pgconn.parameter_status(b"client_encoding")
        return name.decode() if name else None

    @property
    def progress(self) -> int:
        return self._active.progress if self._active is not None else 0

    @property
    def events(self) -> int:
        return self._active.events if self._active is not None else select.POLLIN

    @property
    def can_resume(self) -> bool:
        return self._active is not None and self._active.can_resume

    def start(self) -> None:
        """Begin to enter COPY.

        Raises psycopg.Error if the connection is not free.
        """
        if self.connection in _IN_COPY:
            raise psycopg.InterfaceError("the connection is in another COPY")
        self._preamble = Preamble(self.connection, asks_facts=self._wanted_link != "libpq")
        self._copy = self.link = None
        _IN_COPY.add(self.connection)

    def pump(self) -> bool:
        try:
            if self._preamble is not None:
                if not self._preamble.pump():
                    return False
                self._enter(self._preamble)
            return self._copy is None or self._copy.pump()
        finally:
            if self.fileno() is None:
                _IN_COPY.discard(self.connection)

    def fileno(self) -> int | None:
        return self._active.fileno() if self._active is not None else None

    def abort(self, reason: str) -> None:
        if self._active is not None:
            self._active.abort(reason)

    def close(self) -> None:
        if self._active is not None:
            self._active.close()
            _IN_COPY.discard(self.connection)

    @property
    def _active(self) -> Pumped | None:
        """The preamble, then the COPY."""
        return self._preamble if self._preamble is not None else self._copy

    @property
    def _running(self) -> AnyCopy:
        if self._copy is None:
            raise RuntimeError(f"{self!r} was not started")
        return self._copy

    def _enter(self, preamble: Preamble) -> None:
        self._preamble = None
        if preamble.is_aborted:
            return
        self.link = choose(
            self.connection,
            self._wanted_link,
            is_listening=preamble.is_listening,
            has_gssapi_encryption=preamble.has_gssapi_encryption,
        )
        statement = self._statement
        if isinstance(statement, sql.Composable):
            rendered = statement.as_bytes(self.connection)
        else:
            rendered = statement.encode(self.connection.info.encoding)
        self._copy = self._open(self.link, rendered)
        self._copy.start()

    @abstractmethod
    def _open(self, link: Link, statement: bytes) -> AnyCopy:
        """Prepare the COPY on `link`."""


class StatementProducer(Statement[CopyOut]):
    """The rows of ``COPY ... TO STDOUT`` on an ordinary psycopg connection.

    The connection must not be used during the copy. Afterwards it is free again, in the transaction
    psycopg would have opened, or closed if the server was lost.
    """

    def start(self) -> None:
        """Begin to enter COPY.

        Raises RuntimeError on a second run, psycopg.Error if the connection is not free.
        """
        if self._active is not None:
            raise RuntimeError(f"{self!r} ran already; a producer runs once")
        super().start()

    def read(self) -> Chunk | None:
        return self._running.read()

    @property
    def is_finished(self) -> bool:
        return self._copy is not None and self._copy.is_finished

    def _open(self, link: Link, statement: bytes) -> CopyOut:
        return open_copy_out(link, self.connection, statement)


class StatementReceiver(Statement[CopyIn]):
    """``COPY ... FROM STDIN`` on an ordinary psycopg connection.

    For the connection see `StatementProducer`. COMMIT is the caller's. A receiver can run again, in
    another copy.
    """

    def offer(self, chunk: Chunk) -> None:
        self._running.offer(chunk)

    def finish(self) -> None:
        self._running.finish()

    def _open(self, link: Link, statement: bytes) -> CopyIn:
        return open_copy_in(link, self.connection, statement)
