"""Where COPY data comes from: a statement on a connection, an iterator, or nowhere."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from copyd.copyman.chunk import PayloadChunk
from copyd.copyman.links import open_copy_out
from copyd.copyman.ports import CopyOut
from copyd.copyman.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from copyd.copyman.chunk import Chunk
    from copyd.copyman.ports import Link
    from copyd.wire import CommandTag


class StatementProducer(Statement[CopyOut]):
    """The rows of ``COPY ... TO STDOUT`` on an ordinary psycopg connection.

    The connection must not be used while the copy lasts. It is an ordinary one again afterwards,
    in the transaction that psycopg would have opened, or closed where the server was lost.
    """

    def start(self) -> None:
        """Begin to enter COPY.

        Raises RuntimeError for a second run, psycopg.Error where the connection is not free.
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
        return open_copy_out(link, self._connection, statement)


class IteratorProducer:
    """Chunks of COPY lines from an iterator: each item is a sequence of whole lines (bytes)."""

    encoding: str | None = None
    events = select.POLLIN
    rows: int | None = None
    tag: CommandTag | None = None

    def __init__(self, iterator: Iterable[Sequence[bytes]]) -> None:
        self._iterator = iter(iterator)
        self._has_started = False
        self._raised: Exception | None = None
        self.can_resume = True
        self.is_finished = False
        self.progress = 0

    def __repr__(self) -> str:
        return f"<IteratorProducer of {self._iterator!r}, {self.progress} bytes>"

    def start(self) -> None:
        """Begin.

        Raises RuntimeError for a second run.
        """
        if self._has_started:
            raise RuntimeError(f"{self!r} ran already; a producer runs once")
        self._has_started = True

    def read(self) -> Chunk | None:
        """Return the iterator's next chunk; None at its end.

        Raises what the iterator raises, and TypeError for lines that are not bytes. Raises
        EOFError where the iterator ends right after it raised: a generator that raised is dead,
        and its remaining rows are lost.
        """
        try:
            chunk = PayloadChunk(next(self._iterator))
        except StopIteration:
            self.is_finished = self._raised is None
            if not self.is_finished:
                self.can_resume = False
                raise EOFError(f"the iterator ended where it had raised: {self._raised}") from None
            return None
        except Exception as error:
            self._raised = error
            raise
        self._raised = None
        self.progress += chunk.size
        return chunk

    def pump(self) -> bool:
        return True

    def fileno(self) -> None:
        return None

    def abort(self, reason: str) -> None:
        del reason

    def close(self) -> None:
        """There is nothing to close."""


class NullProducer(IteratorProducer):
    """No rows at all."""

    def __init__(self) -> None:
        super().__init__(())

    def __repr__(self) -> str:
        return "<NullProducer>"
