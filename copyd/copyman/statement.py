"""A COPY statement on a connection: the common part of producer and receiver."""

from __future__ import annotations

import select
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from psycopg import Connection, sql

from copyd.copyman.links import Preamble, choose, give_back, lease

if TYPE_CHECKING:
    from copyd.copyman.links import LinkName
    from copyd.copyman.ports import CopyIn, CopyOut, Link, Pumped
    from copyd.wire import CommandTag

Copy = TypeVar("Copy", "CopyIn", "CopyOut")


class Statement(ABC, Generic[Copy]):
    """A COPY statement, its connection, and its run."""

    is_behind = False

    def __init__(
        self,
        connection: Connection[Any],
        statement: str | sql.Composable,
        *,
        link: LinkName = "auto",
    ) -> None:
        if not isinstance(connection, Connection):
            raise TypeError(f"expected a psycopg.Connection, got {type(connection).__name__}")
        self._connection = connection
        self._statement = statement
        self._wanted_link = link
        self._link: Link | None = None
        self._preamble: Preamble | None = None
        self._copy: Copy | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._text()!r} on {self._place()}, {self._situation()}>"

    @property
    def connection(self) -> Connection[Any]:
        """The connection that the statement runs on."""
        return self._connection

    @property
    def link(self) -> Link | None:
        """How the data travels and why; None before the start."""
        return self._link

    @property
    def tag(self) -> CommandTag | None:
        """The server's CommandComplete, None before the end."""
        return self._copy.tag if self._copy is not None else None

    @property
    def rows(self) -> int | None:
        """Rows by the server's own count, None before the end."""
        return self.tag.rows if self.tag is not None else None

    @property
    def encoding(self) -> str | None:
        """The connection's client_encoding; None where the connection is closed."""
        if self._connection.closed:
            return None
        name = self._connection.pgconn.parameter_status(b"client_encoding")
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

        Raises psycopg.Error where the connection is not free.
        """
        lease(self._connection)
        try:
            preamble = Preamble(self._connection, asks_facts=self._wanted_link != "libpq")
            preamble.start()
        except BaseException:
            give_back(self._connection)
            raise
        self._preamble, self._copy, self._link = preamble, None, None

    def pump(self) -> bool:
        try:
            if self._preamble is not None:
                if not self._preamble.pump():
                    return False
                self._enter(self._preamble)
            return self._copy is None or self._copy.pump()
        finally:
            if self.fileno() is None:
                give_back(self._connection)

    def fileno(self) -> int | None:
        return self._active.fileno() if self._active is not None else None

    def abort(self, reason: str) -> None:
        if self._active is not None:
            self._active.abort(reason)

    def close(self) -> None:
        if self._active is not None:
            self._active.close()
            give_back(self._connection)

    @property
    def _active(self) -> Pumped | None:
        """The preamble, then the COPY."""
        return self._preamble if self._preamble is not None else self._copy

    @property
    def _running(self) -> Copy:
        if self._copy is None:
            raise RuntimeError(f"{self!r} was not started")
        return self._copy

    def _enter(self, preamble: Preamble) -> None:
        """Begin the COPY on the link that fits, unless it was aborted."""
        self._preamble = None
        if preamble.is_aborted:
            return
        self._link = choose(
            self._connection,
            self._wanted_link,
            is_listening=preamble.is_listening,
            has_gssapi_encryption=preamble.has_gssapi_encryption,
        )
        self._copy = self._open(self._link, self._rendered())
        self._copy.start()

    @abstractmethod
    def _open(self, link: Link, statement: bytes) -> Copy:
        """Prepare the COPY on `link`."""

    def _rendered(self) -> bytes:
        if isinstance(self._statement, sql.Composable):
            return self._statement.as_bytes(self._connection)
        return self._statement.encode(self._connection.info.encoding)

    def _text(self) -> str:
        if isinstance(self._statement, sql.Composable):
            return self._statement.as_string()
        return self._statement

    def _place(self) -> str:
        if self._connection.closed:
            return "a closed connection"
        info = self._connection.info
        return f"{info.dbname} at {info.host or 'local socket'}:{info.port}"

    def _situation(self) -> str:
        if self.tag is not None:
            return self.tag.text
        if self._active is None:
            return "not started"
        return f"{max(self._active.progress, 0)} bytes"
