"""The history of runs, in SQLite: written by a thread of its own, which no run ever waits for.

People read it, and the daemon remembers from it the last state of each destination; the ledgers are
the truth. So a full disk, a broken one, or garbage in the file costs records and nothing else: runs
do not notice, the log is told once, and a number counts the lost records.
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
from copyd.observe.records import Known, Record, Recorded, RunRecorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from copyd.events import Event, Observer

WAITING = 1000
"""Records that may wait for a slow disk; more are lost."""

CLOSING = 5.0
"""Seconds that closing waits for records that are not written yet."""

PRUNE_EVERY = 3600.0


class History:
    """Records runs at `path` and keeps them for `keep` seconds.

    ``observe`` is told, from the thread that writes, when records begin to be lost and when they
    are kept again. Nothing but ``runs`` raises.
    """

    def __init__(
        self,
        path: Path,
        keep: float,
        *,
        observe: Observer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = HistoryFile(path)
        self._keep = keep
        self._observe = observe
        self._clock = clock
        self._queue: queue.Queue[Record | threading.Event | None] = queue.Queue(WAITING)
        self._failures = 0
        self._lost = 0
        self._is_failing = False
        self._pruned_at: float | None = None
        self._lock = threading.Lock()  # guards the numbers and _is_failing, between threads
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    @property
    def failures(self) -> int:
        """How often the file could not be read or written, or a record found no room to wait."""
        with self._lock:
            return self._failures

    def keep_for(self, seconds: float) -> None:
        """Keep runs for so long from now on."""
        self._keep = seconds

    def watch(self, transfer: str) -> Observer:
        """Return the observer of one run."""
        return RunRecorder(transfer, self._clock, self._put)

    def __call__(self, event: Event) -> None:
        """Record a run that could not begin."""
        if isinstance(event, events.RunRefused):
            self.watch(event.transfer)(event)

    def runs(self, transfer: str | None = None, *, limit: int = 100) -> list[Recorded]:
        """Return the newest runs, of one transfer or of all, the newest first.

        Raises CopydError where the file cannot be read.
        """
        try:
            return self._file.runs(transfer, limit)
        except (sqlite3.Error, OSError) as error:
            raise CopydError(f"the history {self._file.path} cannot be read: {error}") from error

    def last_known(self) -> dict[tuple[str, str], Known]:
        """Return the last known states, by transfer and destination; none where the file is lost."""
        try:
            return self._file.last_known()
        except (sqlite3.Error, OSError, CopydError) as error:
            self._fail(error, records=0)
            return {}

    def flush(self, timeout: float = CLOSING) -> bool:
        """Wait until all records so far are written, or lost; False if that takes too long."""
        reached = threading.Event()
        try:
            self._queue.put(reached, timeout=timeout)
        except queue.Full:
            return False
        return reached.wait(timeout)

    def close(self, timeout: float = CLOSING) -> None:
        """Write the waiting records and end; a disk that hangs is left behind after `timeout` seconds."""
        try:
            self._queue.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _put(self, record: Record) -> None:
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            cause = CopydError(f"its disk is too slow: {WAITING} records wait")
            self._fail(cause, records=1)

    def _work(self) -> None:
        """Write until told to end; the thread's whole life."""
        self._attempt(self._prune, records=0)
        while (given := self._queue.get()) is not None:
            if isinstance(given, threading.Event):
                given.set()
                continue
            if self._attempt(partial(self._file.put, given), records=1):
                self._resume()
                self._prune_when_due()
        self._file.close()

    def _attempt(self, write: Callable[[], None], *, records: int) -> bool:
        """Write; a file that is garbage is moved away, and a new one begun."""
        try:
            try:
                write()
            except sqlite3.DatabaseError as error:
                if not self._file.is_garbage(error):
                    raise
                damaged = self._file.move_away()
                self._fail(CopydError(f"it was garbage ({error}) and is {damaged} now"), records=0)
                write()
        except (sqlite3.Error, OSError, CopydError) as error:
            self._file.close()
            self._fail(error, records=records)
            return False
        return True

    def _prune_when_due(self) -> None:
        now = self._clock()
        if self._pruned_at is None or not 0 <= now - self._pruned_at < PRUNE_EVERY:
            self._attempt(self._prune, records=0)

    def _prune(self) -> None:
        now = self._clock()
        self._file.prune(before=now - self._keep)
        self._pruned_at = now

    def _fail(self, error: Exception, *, records: int) -> None:
        with self._lock:
            self._failures += max(records, 1)
            self._lost += records
            was_failing, self._is_failing = self._is_failing, True
        if not was_failing:
            self._observe(
                events.HistoryFailed(f"the history {self._file.path} is not kept: {error}")
            )

    def _resume(self) -> None:
        with self._lock:
            was_failing, self._is_failing = self._is_failing, False
            lost, self._lost = self._lost, 0
        if was_failing:
            self._observe(events.HistoryResumed(lost))
