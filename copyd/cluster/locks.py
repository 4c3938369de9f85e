"""Lock files that lock nothing: what a crash left is told from what a server holds.

A starting server removes a stale lock file itself where the process that it names is gone. It
gives up where any process has that id, be it a stranger or a dead server that its parent has not
waited for, and where the file is empty, as after a crash between its making and its writing.
"""

from __future__ import annotations

from pathlib import Path

from copyd.cluster.errors import ClusterStartupError
from copyd.cluster.lifecycle import Holder
from copyd.cluster.poll import wait_for
from copyd.cluster.postmaster import Postmaster, attachments

WRITING_TIMEOUT = 1.0
"""Seconds in which a lock file that is still empty must get its text."""

ORPHANS_TIMEOUT = 10.0
"""Seconds that a killed server's children get to notice and leave."""


def clear_data_directory(data_directory: Path) -> None:
    """Make way for a start where no server runs: the lock file goes, once its children have.

    Raises `ClusterStartupError` where a process may be a server of the directory after all, and
    where a killed server's children do not leave.
    """
    lock = data_directory / "postmaster.pid"
    if not wait_for(lambda: not _is_empty(lock), timeout=WRITING_TIMEOUT):
        lock.unlink(missing_ok=True)
    postmaster = Postmaster.observe(data_directory)
    if postmaster is None or postmaster.holder is Holder.SERVER:
        return
    if postmaster.holder is Holder.UNKNOWN:
        raise ClusterStartupError(
            f"{lock} names process {postmaster.pid_file.pid}, which lives but does not show "
            "whether it is a server of this directory; if you are sure that none is, remove "
            "the file"
        )
    if not _is_copied(postmaster, lock):
        _wait_for_orphans(postmaster.pid_file.shared_memory_id, data_directory)
    if Postmaster.observe(data_directory) == postmaster:
        lock.unlink(missing_ok=True)


def clear_sockets(folder: Path, data_directory: Path) -> None:
    """Remove the lock files of ``data_directory``'s former servers in their private folder."""
    for lock in folder.glob(".s.PGSQL.*.lock"):
        found = Postmaster.observe(data_directory, lock)
        if found is None or found.holder in (Holder.NOBODY, Holder.STRANGER):
            lock.unlink(missing_ok=True)


def _is_copied(postmaster: Postmaster, lock: Path) -> bool:
    """Whether the lock file is that of a running server of the directory it was copied from."""
    origin = Postmaster.observe(Path(postmaster.pid_file.data_directory), lock)
    return origin is not None and origin.holder is Holder.SERVER


def _wait_for_orphans(shared_memory_id: int | None, data_directory: Path) -> None:
    if not wait_for(lambda: not attachments(shared_memory_id), timeout=ORPHANS_TIMEOUT):
        raise ClusterStartupError(
            f"processes of a former server in {data_directory} still run after "
            f"{ORPHANS_TIMEOUT:g} s: end them first"
        )


def _is_empty(lock: Path) -> bool:
    try:
        return lock.stat().st_size == 0
    except FileNotFoundError:
        return False
