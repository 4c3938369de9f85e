"""What a statement on a connection has in common as a producer and as a receiver."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from psycopg import Connection, sql

if TYPE_CHECKING:
    from copyd.copyman.links import LinkName
    from copyd.copyman.ports import CopyIn, CopyOut, Link
    from copyd.wire import CommandTag

Copy = TypeVar("Copy", "CopyIn", "CopyOut")


class Statement(Generic[Copy]):
    """A COPY statement, the connection it runs on, and the run of it."""

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
        return self._copy.progress if self._copy is not None else 0

    @property
    def events(self) -> int:
        return self._copy.events if self._copy is not None else select.POLLIN

    @property
    def can_resume(self) -> bool:
        return self._copy is not None and self._copy.can_resume

    def fileno(self) -> int | None:
        return self._copy.fileno() if self._copy is not None else None

    def pump(self) -> bool:
        return self._copy.pump() if self._copy is not None else True

    def abort(self, reason: str) -> None:
        if self._copy is not None:
            self._copy.abort(reason)

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()

    @property
    def _running(self) -> Copy:
        if self._copy is None:
            raise RuntimeError(f"{self!r} was not started")
        return self._copy

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
        if self._copy is None:
            return "not started"
        if self.tag is not None:
            return self.tag.text
        return f"{self._copy.progress} bytes"
