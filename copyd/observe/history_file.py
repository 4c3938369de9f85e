"""The history's SQLite file. A single thread writes; each reader opens its own connection.

Errors of SQLite and the file system are not handled here.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.events import Counts
from copyd.observe.records import DestinationRecord, RunRecord
from copyd.status import Known

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1
PATIENCE = 2.0  # seconds to wait for a lock, which a backup or a person with a shell may hold

_SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, run TEXT UNIQUE, transfer TEXT NOT NULL,
    started REAL NOT NULL, ended REAL, verdict TEXT, cause TEXT
);
CREATE INDEX runs_started ON runs (started);
CREATE INDEX runs_transfer ON runs (transfer, started);
CREATE TABLE destinations (
    id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, name TEXT NOT NULL,
    verdict TEXT NOT NULL, rows INTEGER NOT NULL, size INTEGER NOT NULL, read INTEGER NOT NULL,
    loaded INTEGER NOT NULL, rejected INTEGER NOT NULL, cause TEXT, data_timestamp REAL,
    ended REAL NOT NULL, PRIMARY KEY (id, name)
) WITHOUT ROWID;
CREATE TABLE known (
    transfer TEXT NOT NULL, destination TEXT NOT NULL, last_success REAL, data_timestamp REAL,
    last_verdict TEXT NOT NULL, failures INTEGER NOT NULL, PRIMARY KEY (transfer, destination)
) WITHOUT ROWID;
"""
_BEGIN = "INSERT OR IGNORE INTO runs (run, transfer, started) VALUES (?, ?, ?)"
_REMEMBER = """
INSERT INTO known VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (transfer, destination) DO UPDATE SET
    last_success = coalesce(excluded.last_success, last_success),
    data_timestamp = coalesce(excluded.data_timestamp, data_timestamp),
    last_verdict = excluded.last_verdict,
    failures = CASE WHEN excluded.failures = 0 THEN 0 ELSE failures + 1 END
"""
_RUNS = """
SELECT id, transfer, run, started, ended, verdict, cause FROM runs
 WHERE :transfer IS NULL OR transfer = :transfer ORDER BY started DESC, id DESC LIMIT :limit
"""
_DESTINATIONS = """
SELECT name, verdict, rows, read, rejected, size, cause, data_timestamp, ended
  FROM destinations WHERE id = ? ORDER BY name
"""


class HistoryFile:
    """The history at `path`, in WAL mode; created by the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None

    def put(self, record: RunRecord) -> None:
        """Write the record of a run that began or ended."""
        writer = self._open_writer()
        with writer:
            # Before the end too: the record of the start may be lost.
            inserted = writer.execute(_BEGIN, (record.run, record.transfer, record.started))
            if record.ended is not None:
                _put_end(writer, record, inserted.lastrowid)

    def prune(self, before: float) -> None:
        """Delete runs that began before `before`, but not the last known states."""
        writer = self._open_writer()
        with writer:
            writer.execute("DELETE FROM runs WHERE started < ?", (before,))

    def close(self) -> None:
        """Close the writer's connection; the next write opens another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def runs(self, transfer: str | None, limit: int) -> list[RunRecord]:
        """Return the newest runs, the newest first."""
        with self._reader() as reader:
            if reader is None:
                return []
            found = reader.execute(_RUNS, {"transfer": transfer, "limit": limit}).fetchall()
            return [
                replace(RunRecord(*run), destinations=_destinations(reader, id_))
                for id_, *run in found
            ]

    def last_known(self) -> dict[tuple[str, str], Known]:
        """Return the last known state, by transfer and destination."""
        with self._reader() as reader:
            if reader is None:
                return {}
            return {
                (transfer, destination): Known(*known)
                for transfer, destination, *known in reader.execute("SELECT * FROM known")
            }

    def is_garbage(self, error: sqlite3.DatabaseError) -> bool:
        """Whether the file is damaged, or not a database.

        A full or broken disk and a lock raise the subclass OperationalError.
        """
        return type(error) is sqlite3.DatabaseError

    def move_away(self) -> Path:
        """Rename a damaged file, over an earlier damaged one; the next write creates a new file."""
        self.close()
        damaged = self.path.with_name(f"{self.path.name}.damaged")
        self.path.replace(damaged)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return damaged

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection | None]:
        if not self.path.exists():
            yield None
            return
        with closing(self._open()) as reader:
            has_schema = reader.execute("PRAGMA user_version").fetchone() != (0,)
            yield reader if has_schema else None

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            # Created before SQLite does: mode 0600 at once, whatever the umask is.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            writer = self._open()
            try:
                writer.execute("PRAGMA journal_mode = WAL")
                writer.execute("PRAGMA synchronous = NORMAL")  # a crash may lose the last records
                _require_schema(writer, self.path)
            except BaseException:
                writer.close()
                raise
            self._writer = writer
        return self._writer

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=PATIENCE, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection


def _require_schema(writer: sqlite3.Connection, path: Path) -> None:
    (version,) = writer.execute("PRAGMA user_version").fetchone()
    if version == 0:
        writer.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
    elif version != VERSION:
        raise CopydError(f"{path} was made by another version of copyd: move it away")


def _destinations(reader: sqlite3.Connection, id_: int) -> tuple[DestinationRecord, ...]:
    return tuple(
        DestinationRecord(name, verdict, Counts(*more[:4]), *more[4:])
        for name, verdict, *more in reader.execute(_DESTINATIONS, (id_,))
    )


def _put_end(writer: sqlite3.Connection, run: RunRecord, inserted: int | None) -> None:
    id_ = inserted  # of a run that could not begin: it has no identifier to find its row by
    if run.run is not None:
        (id_,) = writer.execute("SELECT id FROM runs WHERE run = ?", (run.run,)).fetchone()
    writer.execute(
        "UPDATE runs SET ended = ?, verdict = ?, cause = ? WHERE id = ?",
        (run.ended, run.verdict, run.cause, id_),
    )
    for each in run.destinations:
        counts = each.counts
        writer.execute(
            "INSERT OR REPLACE INTO destinations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (id_, each.name, each.verdict, counts.rows, counts.size, counts.read, counts.loaded,
             counts.rejected, each.cause, each.data_timestamp, each.ended),
        )  # fmt: skip
        is_good = each.verdict == "succeeded"
        success, data = (each.ended, each.data_timestamp) if is_good else (None, None)
        known = (run.transfer, each.name, success, data, each.verdict, int(not is_good))
        writer.execute(_REMEMBER, known)
