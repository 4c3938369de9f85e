"""A scripted source and scripted destinations, for tests of users of `copyd.copyman`.

No server is needed. A test names the faults and their steps. See docs/copyman.md.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Literal

from copyd.copyman import CallReceiver, Chunk, IteratorProducer
from copyd.wire import CommandTag

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


Step = int | Literal["start", "end"]
"""The start of COPY, a chunk (its number from 1), or the end of COPY."""


class ScriptedProducer(IteratorProducer):
    """A source of `rows` (lines as bytes), in chunks of `chunk_rows`.

    After `fault_after` rows, `read` raises `fault` once. With `resumes` the copy can then continue
    without loss; otherwise the source is lost.
    """

    def __init__(
        self,
        rows: Iterable[bytes],
        *,
        chunk_rows: int = 1,
        fault_after: int | None = None,
        fault: Exception | None = None,
        resumes: bool = False,
    ) -> None:
        super().__init__(self._chunks(iter(rows), chunk_rows))
        self._fault_after = fault_after
        self._fault = fault or ConnectionError("scripted: the source is lost")
        self._resumes = resumes
        self._sent = 0

    def read(self) -> Chunk | None:
        if self._fault_after is not None and self._sent >= self._fault_after:
            self._fault_after = None
            self.can_resume = self._resumes
            raise self._fault
        chunk = super().read()
        if self.is_finished:
            self.rows, self.tag = self._sent, CommandTag(f"COPY {self._sent}", self._sent)
        return chunk

    def _chunks(self, rows: Iterator[bytes], chunk_rows: int) -> Iterator[list[bytes]]:
        while True:
            room = chunk_rows if self._fault_after is None else self._fault_after - self._sent
            chunk = list(islice(rows, min(chunk_rows, room)))
            if not chunk:
                return
            self._sent += len(chunk)
            yield chunk


class ScriptedReceiver(CallReceiver):
    """A destination with its rows in ``lines``, and with faults at given steps.

    ``faults_at``: raise `error` once; the receiver can be reconciled. ``refuses_at``: raise `error`
    and leave COPY, as a server does after a bad row. ``stalls_at``: make no progress until
    `release`. ``rows`` and ``tag`` are None until the verdict; ``is_closed`` is True after a drop.
    """

    def __init__(
        self,
        *,
        faults_at: Collection[Step] = (),
        refuses_at: Step | None = None,
        stalls_at: Collection[Step] = (),
        error: Exception | None = None,
    ) -> None:
        self.lines: list[bytes] = []
        super().__init__(self.lines.extend)
        self.is_closed = False
        self._faults_at = set(faults_at)
        self._refuses_at = refuses_at
        self._stalls_at = set(stalls_at)
        self._error = error or ConnectionError("scripted: the destination has a fault")
        self._step: Step | None = None
        self._chunks = 0
        # Becomes readable when the stall is released: the manager polls it instead of a socket.
        self._reader, self._writer = os.pipe()

    def __del__(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def start(self) -> None:
        super().start()
        self.rows = self.tag = None
        self.can_resume, self._chunks, self._step = True, 0, "start"

    def offer(self, chunk: Chunk) -> None:
        super().offer(chunk)
        self._chunks += 1
        self._step = self._chunks

    def finish(self) -> None:
        self._step = "end"

    def pump(self) -> bool:
        step = self._step
        if step is None:
            return True
        if step in self._faults_at:
            self._faults_at.remove(step)
            raise self._error
        if step == self._refuses_at:
            self.can_resume, self._step = False, None
            raise self._error
        if step in self._stalls_at:
            return False
        super().pump()
        if step == "end":
            self.rows = len(self.lines)
            self.tag = CommandTag(f"COPY {self.rows}", self.rows)
        self._step = None
        return True

    def release(self) -> None:
        """End the current stall and prevent later ones; thread-safe."""
        self._stalls_at = set()
        os.write(self._writer, b".")

    def fileno(self) -> int | None:
        return self._reader if self._step in self._stalls_at else None

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._step = None

    def close(self) -> None:
        self.is_closed, self.can_resume, self._step = True, False, None
