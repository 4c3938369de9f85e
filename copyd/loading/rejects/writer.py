"""The reject files of an attempt: written during the load, kept only after COMMIT."""

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
from copyd.loading.rejects.resolution import remove

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from copyd.copyman import Reject
    from copyd.names import TableName

_BUFFER = 64 * 1024
_TRIES = 10  # another process may remove the folder before it is locked, as a dead run's


class RejectsNotKeptError(CopydError):
    """Rejects were not written, so the load must not be committed."""


class RejectFiles:
    """The files of an attempt, in a folder created and locked with the first reject.

    Call `add`, then `write_manifest` before COMMIT, then `publish`. Call `discard` after a rollback,
    `close` if COMMIT is in doubt: `resolve` asks the ledger later. Without a reject all of them do
    nothing. One thread at a time.
    """

    # Decision: Rejects are pending until the ledger says that they are not

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
        """The folder of the files after `publish`."""
        here = self._root / encode(self._transfer) / encode(self._destination)
        return here / encode(self._run)

    def add(self, table: TableName, reject: Reject) -> None:
        """Write a row refused by `table` of the destination.

        Raises RejectsNotKeptError, or UnsafeFolderError if others could read the row.
        """
        if self._has_manifest:
            raise RuntimeError("rejects have a manifest already")
        with self._explained():
            self._files_of(table).add(reject)
        self.rows += 1

    def write_manifest(self, *, ledger: str, tables: Sequence[LoadedTable], now: float) -> None:
        """Sync all files and write the manifest; can be repeated.

        Raises RejectsNotKeptError: then do not send COMMIT.
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
            for above in kept.above:  # so that the names of new folders survive a crash
                above.sync()
        self._has_manifest = True

    def publish(self) -> None:
        """Remove ``.pending`` from the folder's name, after COMMIT.

        Raises RejectsNotKeptError; then the next `resolve` publishes.
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
                raise RejectsNotKeptError(f"{kept.folder.path} was removed by another process")
        self.close()

    def discard(self) -> None:
        """Remove the folder, after a rollback; the next `resolve` repeats a failed removal."""
        kept, self._is_broken = self._kept, True
        if kept is None:
            return
        with suppress(OSError, CopydError):
            if kept.home.has(kept.pending, kept.folder):
                remove(kept.home, kept.pending, encode(self._run))
        self.close()

    def close(self) -> None:
        """Close and unlock everything; the files stay."""
        if self._table is not None:
            self._table.abandon()
            self._table = None
        if self._kept is not None:
            self._kept.held.close()
            self._kept = None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn OSError into RejectsNotKeptError; the files are then incomplete."""
        try:
            yield
        except OSError as error:
            self._is_broken = True
            # Decision: A full disk is no lost connection
            # Without a cause the error is not classified as transient.
            reason = error.strerror or type(error).__name__
            text = f"rejects cannot be written to {self.path}: {reason}"
            raise RejectsNotKeptError(text) from None
        except BaseException:
            self._is_broken = True
            raise

    def _files_of(self, table: TableName) -> _TableFiles:
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
        for _ in range(_TRIES):
            made = self._try_to_make()
            if made is not None:
                return made
        raise RejectsNotKeptError(f"another process keeps removing {self.path}{PENDING}")

    def _try_to_make(self) -> _Kept | None:
        pending = f"{encode(self._run)}{PENDING}"
        with ExitStack() as stack:
            root = open_root(self._root, makes=True)
            if root is None:
                return None  # removed by another process just now
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
                return None  # removed before we had the lock
            return _Kept(pending, folder, home, (home, transfer, root), stack.pop_all())


class _Kept(NamedTuple):
    """An attempt's folder, those around it, the innermost first; ``held`` closes and unlocks all."""

    pending: str
    folder: Folder
    home: Folder
    above: tuple[Folder, ...]
    held: ExitStack


class _TableFiles:
    """The three files of a table; `data_size`: bytes of ``.dat`` so far, None for new files."""

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
        record = lines.RejectRecord.of(self.name, reject, offset=self.data.size)
        self.data.write(reject.row)
        self._log.write(lines.of_log(reject))
        self._records.write(record.line())

    def close(self) -> None:
        for file in (self.data, self._log, self._records):
            file.sync()
        self.abandon()

    def abandon(self) -> None:
        """Close the files without writing buffered data."""
        for file in (self.data, self._log, self._records):
            file.abandon()


class _Appender:
    """A buffered file to append to; ``size`` includes the buffer. `write`, `sync` raise OSError."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self._descriptor = descriptor
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        self._waiting += data
        self.size += len(data)
        if len(self._waiting) >= _BUFFER:
            self._flush()

    def sync(self) -> None:
        self._flush()
        os.fsync(self._descriptor)

    def abandon(self) -> None:
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
    """Remove files of an earlier attempt of this run; raises if that may have been committed."""
    with suppress(FileNotFoundError), home.enter(pending) as earlier:
        if read_manifest(earlier) is not None:
            raise RejectsNotKeptError(
                f"{earlier.path} has rejects of an earlier attempt whose COMMIT is in doubt"
            )
        remove(home, pending, run)
