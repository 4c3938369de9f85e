"""Where COPY data goes: a statement on a connection, a callable, or nowhere."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from copyd.copyman.links import open_copy_in
from copyd.copyman.ports import CopyIn
from copyd.copyman.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.copyman.chunk import Chunk
    from copyd.copyman.ports import Link
    from copyd.wire import CommandTag


class StatementReceiver(Statement[CopyIn]):
    """``COPY ... FROM STDIN`` on an ordinary psycopg connection.

    The connection must not be used while the copy lasts. It is an ordinary one again afterwards,
    in the transaction that psycopg would have opened, or closed where the server was lost.
    COMMIT is the caller's. It can run again, in another copy.
    """

    def offer(self, chunk: Chunk) -> None:
        self._running.offer(chunk)

    def finish(self) -> None:
        self._running.finish()

    def _open(self, link: Link, statement: bytes) -> CopyIn:
        return open_copy_in(link, self._connection, statement)


class _LocalReceiver:
    """A receiver in this process: every step is done at once."""

    encoding: str | None = None
    events = select.POLLIN
    rows: int | None = None
    tag: CommandTag | None = None
    can_resume = True
    is_behind = False

    def __init__(self) -> None:
        self.progress = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self.progress} bytes>"

    def start(self) -> None:
        self.progress = 0

    def offer(self, chunk: Chunk) -> None:
        self.progress += chunk.size

    def finish(self) -> None:
        """There is no verdict to wait for."""

    def abort(self, reason: str) -> None:
        del reason

    def pump(self) -> bool:
        return True

    def fileno(self) -> None:
        return None

    def close(self) -> None:
        """There is nothing to close."""


class NullReceiver(_LocalReceiver):
    """Takes everything and keeps nothing."""


class CallReceiver(_LocalReceiver):
    """Calls `callable` once a cycle with the list of whole COPY lines (bytes) of that cycle.

    A line that arrives in parts is given when it is whole. The lists of all calls together hold
    every line once, in order.
    """

    def __init__(self, callable: Callable[[list[bytes]], object]) -> None:  # noqa: A002 - the seed's name
        super().__init__()
        self._callable = callable
        self._begun: list[bytes] = []
        self._lines: list[bytes] = []

    def start(self) -> None:
        super().start()
        self._begun = []
        self._lines = []

    def offer(self, chunk: Chunk) -> None:
        super().offer(chunk)
        lines = list(chunk.pieces)
        self._begun += lines[:1]
        if len(lines) > 1 or not chunk.owed:
            lines[:1] = [b"".join(self._begun)] if self._begun else []
            self._begun = []
            if chunk.owed:
                self._begun.append(lines.pop())
        else:
            lines = []
        self._lines = lines

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._lines = []

    def pump(self) -> bool:
        """Give the lines to the callable; if it raises, it gets them again."""
        if self._lines:
            self._callable(self._lines)
            self._lines = []
        return True
