"""The history of runs, in SQLite, written by its own thread; runs never wait for it.

Operators read it, and the daemon starts with its last state of each destination; the ledgers are
authoritative. So a full or broken disk, or a damaged file, only loses records: the log reports it
once, and a metric counts the failures.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from copyd import events
from copyd.errors import CopydError
from copyd.observe.history_file import HistoryFile
from copyd.observe.records import RunRecord, RunRecorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from copyd.events import Event, Observer
    from copyd.status import Known

WAITING = 1000  # limit of queued records; a slow disk loses the others

CLOSING = 5.0  # seconds for `close` to write the queued records

PRUNE_EVERY = 3600.0


class History:
    """Records runs at `path` and keeps them for `keep` seconds, which may be changed.

    ``observe`` gets HistoryFailed at the first lost record, HistoryResumed at the next written
    record. Only ``runs`` raises.
    """

    def __init__(
        self, path: Path, keep: float, *, observe: Observer, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = HistoryFile(path)
        self.keep = keep
        self._observe = observe
        self._clock = clock
        self._queue: queue.Queue[RunRecord | threading.Event | None] = queue.Queue(WAITING)
        self._failures = 0
        self._lost = 0
        self._is_failing = False
        self._pruned_at: float | None = None
        self._lock = threading.Lock()  # guards the numbers and _is_failing
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    @property
    def failures(self) -> int:
        """Failures to read or write the file, and records dropped from a full queue."""
        with self._lock:
            return self._failures

    def watch(self, transfer: str) -> Observer:
        """Return the observer of a run."""
        return RunRecorder(transfer, self._clock, self._put)

    def __call__(self, event: Event) -> None:
        """Record a run that could not begin."""
        if isinstance(event, events.RunRefused):
            self.watch(event.transfer)(event)

    def runs(self, transfer: str | None = None, *, limit: int = 100) -> list[RunRecord]:
        """Return the newest runs, of one transfer or of all, the newest first.

        Raises CopydError if the file cannot be read.
        """
        try:
            return self._file.runs(transfer, limit)
        except (sqlite3.Error, OSError) as error:
            raise CopydError(f"the history {self._file.path} cannot be read: {error}") from error

    def last_known(self) -> dict[tuple[str, str], Known]:
        """Return the last known states by transfer and destination; none if reading fails."""
        try:
            return self._file.last_known()
        except (sqlite3.Error, OSError, CopydError) as error:
            self._fail(error, records=0)
            return {}

    def flush(self, timeout: float = CLOSING) -> bool:
        """Wait until all records so far are written or lost; False after `timeout` seconds."""
        reached = threading.Event()
        try:
            self._queue.put(reached, timeout=timeout)
        except queue.Full:
            return False
        return reached.wait(timeout)

    def close(self, timeout: float = CLOSING) -> None:
        """Write the queued records and stop the thread; give up on a hung disk after `timeout`."""
        try:
            self._queue.put(None, timeout=timeout)  # the end of the queue
        except queue.Full:
            return
        self._thread.join(timeout)

    def _put(self, record: RunRecord) -> None:
        try:
            self._queue.put_nowait(record)  # Decision: The history has a thread of its own
        except queue.Full:
            self._fail(CopydError(f"the disk is too slow: {WAITING} records wait"), records=1)

    def _work(self) -> None:
        self._attempt(self._prune, records=0)
        while (given := self._queue.get()) is not None:
            if isinstance(given, threading.Event):
                given.set()
                continue
            if self._attempt(partial(self._file.put, given), records=1):
                self._resume()
                self._attempt(self._prune, records=0)
        self._file.close()

    def _attempt(self, write: Callable[[], None], *, records: int) -> bool:
        try:
            try:
                write()
            except sqlite3.DatabaseError as error:
                if not self._file.is_garbage(error):
                    raise
                damaged = self._file.move_away()
                self._fail(
                    CopydError(f"it was damaged ({error}) and renamed to {damaged}"), records=0
                )
                write()
        except (sqlite3.Error, OSError, CopydError) as error:
            self._file.close()
            self._fail(error, records=records)
            return False
        return True

    def _prune(self) -> None:
        now = self._clock()
        # The clock is the wall's: it may be set back.
        if self._pruned_at is None or not 0 <= now - self._pruned_at < PRUNE_EVERY:
            self._file.prune(before=now - self.keep)
            self._pruned_at = now

    def _fail(self, error: Exception, *, records: int) -> None:
        with self._lock:
            self._failures += max(records, 1)
            self._lost += records
            was_failing, self._is_failing = self._is_failing, True
        if not was_failing:
            self._observe(
                events.HistoryFailed(f"the history {self._file.path} cannot be written: {error}")
            )

    def _resume(self) -> None:
        with self._lock:
            was_failing, self._is_failing = self._is_failing, False
            lost, self._lost = self._lost, 0
        if was_failing:
            self._observe(events.HistoryResumed(lost))
