"""Producers and receivers in this process: an iterator, a callable, or nothing."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from copyd.copyman.chunk import PayloadChunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from copyd.copyman.chunk import Chunk
    from copyd.wire import CommandTag


class _Local:
    """A party without a connection: every step is done at once."""

    encoding: str | None = None
    events = select.POLLIN
    rows: int | None = None
    tag: CommandTag | None = None
    can_resume = True
    is_behind = False
    progress = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self.progress} bytes>"

    def start(self) -> None:
        self.progress = 0

    def pump(self) -> bool:
        return True

    def fileno(self) -> int | None:
        return None

    def abort(self, reason: str) -> None:
        """Nothing has to be told `reason`."""

    def close(self) -> None:
        """There is nothing to close."""


class IteratorProducer(_Local):
    """Chunks of COPY lines from an iterator: each item is a sequence of whole lines (bytes)."""

    def __init__(self, iterator: Iterable[Sequence[bytes]]) -> None:
        self._iterator = iter(iterator)
        self._has_started = False
        self._raised: Exception | None = None
        self.is_finished = False

    def __repr__(self) -> str:
        return f"<IteratorProducer of {self._iterator!r}, {self.progress} bytes>"

    def start(self) -> None:
        """Begin; raises RuntimeError on a second run."""
        if self._has_started:
            raise RuntimeError(f"{self!r} ran already; a producer runs once")
        self._has_started = True

    def read(self) -> Chunk | None:
        """Return the iterator's next chunk; None at its end.

        Raises the iterator's own exceptions, and TypeError if a line is not bytes. Raises EOFError
        if the iterator ends right after an exception: a generator is dead then, and its remaining
        rows are lost.
        """
        try:
            chunk = PayloadChunk(next(self._iterator))
        except StopIteration:
            # Decision: An iterator that ends right after it raised has died
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


class NullProducer(IteratorProducer):
    """No rows at all."""

    def __init__(self) -> None:
        super().__init__(())

    def __repr__(self) -> str:
        return "<NullProducer>"


class _LocalReceiver(_Local):
    def offer(self, chunk: Chunk) -> None:
        self.progress += chunk.size

    def finish(self) -> None:
        """There is no verdict to wait for."""


class NullReceiver(_LocalReceiver):
    """Accepts all data and keeps none."""


class CallReceiver(_LocalReceiver):
    """Calls `callable` once a cycle with the list of whole COPY lines (bytes) of the cycle.

    A partial line waits for its end. The lists of all calls together contain every line once, in
    order.
    """

    def __init__(self, callable: Callable[[list[bytes]], object]) -> None:  # noqa: A002 - the seed's name
        self._callable = callable
        self._begun: list[bytes] = []
        self._lines: list[bytes] = []

    def start(self) -> None:
        super().start()
        self._begun, self._lines = [], []

    def offer(self, chunk: Chunk) -> None:
        super().offer(chunk)
        lines = list(chunk.pieces)
        self._begun += lines[:1]
        if len(lines) > 1 or not chunk.owed:
            lines[:1] = [b"".join(self._begun)] if self._begun else []
            self._begun = [lines.pop()] if chunk.owed else []
        else:
            lines = []
        self._lines = lines

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._lines = []

    def pump(self) -> bool:
        """Call the callable; if it raises, the next call has the same lines."""
        if self._lines:
            self._callable(self._lines)
            self._lines = []  # only now: after an exception the lines are due again
        return True
