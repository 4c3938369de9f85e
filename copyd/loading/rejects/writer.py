"""The rejects of one try at one destination: written as they come, kept only if it commits."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from copyd.errors import CopydError
from copyd.loading.rejects import lines
from copyd.loading.rejects.file_names import PENDING, SUFFIXES, encode, encode_table
from copyd.loading.rejects.folders import Folder, open_root
from copyd.loading.rejects.manifest import (
    LOCK,
    LoadedTable,
    Manifest,
    read_manifest,
    write_manifest,
)
from copyd.loading.rejects.removal import remove

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from copyd.copyman import Reject
    from copyd.names import TableName

_BUFFER = 64 * 1024
_TRIES = 10
"""How often to make the folder: before it is locked, another process may take it for a dead run's."""


class RejectsNotKeptError(CopydError):
    """Rejects could not be written, so the load must not be committed."""


class RejectFiles:
    """The files of one try; the folder is made with the first reject, and the try holds its lock.

    `add`, then `write_manifest` before COMMIT, then `publish`. `discard` after a rollback; `close`
    while the outcome of COMMIT is in doubt: `resolve` asks the ledger later. One thread at a time.
    Without a reject none of them does anything.
    """

    def __init__(self, root: Path, *, transfer: str, destination: str, run: str) -> None:
        self.rows = 0
        self._root = root
        self._transfer = transfer
        self._destination = destination
        self._run = run
        self._kept: _Kept | None = None
        self._table: _TableFiles | None = None
        self._sizes: dict[TableName, int] = {}
        self._has_manifest = False
        self._is_broken = False

    @property
    def path(self) -> Path:
        """Where the files are once they are published."""
        here = self._root / encode(self._transfer) / encode(self._destination)
        return here / encode(self._run)

    def add(self, table: TableName, reject: Reject) -> None:
        """Write a row that `table` of the destination refused.

        Raises RejectsNotKeptError where it cannot be written, UnsafeFolderError where others could
        read it.
        """
        if self._has_manifest:
            raise RuntimeError("rejects have a manifest already")
        with self._explained():
            self._files_of(table).add(reject)
        self.rows += 1

    def write_manifest(self, *, ledger: str, tables: Sequence[LoadedTable], now: float) -> None:
        """Sync everything, and write the manifest: what to ask the ledger in that schema.

        Can be called again. Raises RejectsNotKeptError: then do not send COMMIT.
        """
        kept = self._kept
        if not tables:
            raise ValueError("the ledger is asked about at least one table")
        if self._is_broken:
            raise RejectsNotKeptError(f"the rejects in {self.path} are incomplete")
        if kept is None:
            return
        manifest = Manifest(
            self._transfer, self._destination, self._run, ledger, tuple(tables), now
        )
        with self._explained():
            self._close_table()
            write_manifest(kept.folder, manifest)
            for above in kept.above:
                above.sync()
        self._has_manifest = True

    def publish(self) -> None:
        """Rename the folder, after COMMIT: from then on it does not end in ``.pending``.

        Raises RejectsNotKeptError; the next `resolve` completes what fails here.
        """
        kept = self._kept
        if kept is None:
            return
        if not self._has_manifest:
            raise RuntimeError("rejects need a manifest before they are published")
        with self._explained():
            if kept.home.has(kept.pending, kept.folder):
                kept.home.rename(kept.pending, encode(self._run))
                kept.home.sync()
                kept.folder.unlink(LOCK)
            elif not kept.home.has(encode(self._run), kept.folder):
                raise RejectsNotKeptError(f"somebody removed {kept.folder.path}")
        self.close()

    def discard(self) -> None:
        """Remove the folder, after a rollback; the next `resolve` removes what remains."""
        kept, self._is_broken = self._kept, True
        if kept is None:
            return
        with suppress(OSError, CopydError):
            if kept.home.has(kept.pending, kept.folder):
                remove(kept.home, kept.pending, encode(self._run))
        self.close()

    def close(self) -> None:
        """Close everything, and leave the files as they are."""
        if self._table is not None:
            self._table.abandon()
            self._table = None
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an error of the system into a sentence; the files are then incomplete."""
        try:
            yield
        except OSError as error:
            self._is_broken = True
            # A full disk is no lost connection: without a cause nobody takes it for one.
            reason = error.strerror or type(error).__name__
            text = f"rejects cannot be written to {self.path}: {reason}"
            raise RejectsNotKeptError(text) from None
        except BaseException:
            self._is_broken = True
            raise

    def _files_of(self, table: TableName) -> _TableFiles:
        """Return the files of `table`, those of one table being open at a time."""
        if self._table is not None and self._table.name == table:
            return self._table
        if self._kept is None:
            self._kept = self._make()
        self._close_table()
        self._table = _TableFiles(self._kept.folder, table, self._sizes.get(table))
        return self._table

    def _close_table(self) -> None:
        if self._table is not None:
            self._sizes[self._table.name] = self._table.data.size
            self._table.close()
            self._table = None

    def _make(self) -> _Kept:
        """Make the folder, and hold its lock; raises OSError, UnsafeFolderError."""
        for _ in range(_TRIES):
            made = self._try_to_make()
            if made is not None:
                return made
        raise RejectsNotKeptError(
            f"{self.path}{PENDING}: another process removes it again and again"
        )

    def _try_to_make(self) -> _Kept | None:
        pending = f"{encode(self._run)}{PENDING}"
        with ExitStack() as stack:
            root = open_root(self._root, makes=True)
            if root is None:
                return None  # somebody removed it just now
            stack.enter_context(root)
            transfer = stack.enter_context(root.make(encode(self._transfer)))
            home = stack.enter_context(transfer.make(encode(self._destination)))
            try:
                home.make_new(pending)
            except FileExistsError:
                _remove_earlier(home, pending, encode(self._run))
                return None
            try:
                folder = stack.enter_context(home.enter(pending))
                lock = folder.lock(LOCK)
            except FileNotFoundError:
                return None
            if lock is None:
                return None
            stack.callback(os.close, lock)
            if not home.has(pending, folder):
                return None
            return _Kept(pending, folder, home, (home, transfer, root), stack.pop_all())


class _Kept(NamedTuple):
    """The folder of a try, those around it from the inside, and what closes them."""

    pending: str
    folder: Folder
    home: Folder
    above: tuple[Folder, ...]
    held: ExitStack

    def close(self) -> None:
        """Let go of all of them, the lock included."""
        self.held.close()


class _TableFiles:
    """The three files of one table; ``data_size``: where they go on, None where they are new."""

    def __init__(self, folder: Folder, name: TableName, data_size: int | None) -> None:
        self.name = name
        stem = encode_table(*name)
        is_new = data_size is None
        with ExitStack() as stack:
            opened = []
            for suffix in SUFFIXES:
                make = folder.create if is_new else folder.reopen
                opened.append(_Appender(make(f"{stem}{suffix}"), data_size or 0))
                stack.callback(opened[-1].abandon)
            self.data, self._log, self._records = opened
            stack.pop_all()

    def add(self, reject: Reject) -> None:
        """Write a row to each of them; raises OSError."""
        record = lines.RejectRecord.of(self.name, reject, offset=self.data.size)
        self.data.write(reject.row)
        self._log.write(lines.of_log(reject))
        self._records.write(record.line())

    def close(self) -> None:
        """Sync and close them; raises OSError."""
        for file in (self.data, self._log, self._records):
            file.sync()
        self.abandon()

    def abandon(self) -> None:
        """Close them without writing the rest."""
        for file in (self.data, self._log, self._records):
            file.abandon()


class _Appender:
    """A file that grows, ``size`` bytes long; what is written may stay in memory until `sync`."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self._descriptor = descriptor
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        """Write behind the end; raises OSError."""
        self._waiting += data
        self.size += len(data)
        if len(self._waiting) >= _BUFFER:
            self._flush()

    def sync(self) -> None:
        """Write everything to disk; raises OSError."""
        self._flush()
        os.fsync(self._descriptor)

    def abandon(self) -> None:
        """Close it, once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _flush(self) -> None:
        with memoryview(self._waiting) as left:
            done = 0
            while done < len(left):
                done += os.write(self._descriptor, left[done:])
        self._waiting.clear()


def _remove_earlier(home: Folder, pending: str, run: str) -> None:
    """Remove the files of an earlier try of this run; raises where that may have been committed."""
    with suppress(FileNotFoundError), home.enter(pending) as earlier:
        if read_manifest(earlier) is not None:
            raise RejectsNotKeptError(
                f"{earlier.path} holds rejects of this run, and it is not known yet whether the run "
                "was committed"
            )
        remove(home, pending, run)
