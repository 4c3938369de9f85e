"""Stale lock files: told from those of a running server, and removed before a start.

A starting server removes a stale lock file itself if the process that it names is gone. It gives up
if any process has that id, even a stranger or a zombie, and if the file is empty, as after a crash
between its creation and its writing.
"""

from __future__ import annotations

from pathlib import Path

from copyd.cluster.errors import ClusterStartupError
from copyd.cluster.lifecycle import Holder
from copyd.cluster.poll import wait_for
from copyd.cluster.postmaster import Postmaster, attachments

WRITING_TIMEOUT = 1.0
"""Seconds after which an empty lock file is stale; a starting server writes it at once."""

ORPHANS_TIMEOUT = 10.0  # seconds in which a killed server's children must notice and end


def clear_data_directory(data_directory: Path) -> None:
    """Remove a stale lock file, once the children of its server have ended.

    Raises `ClusterStartupError` if a process may be a server of the directory after all, or if a
    killed server's children do not end.
    """
    lock = data_directory / "postmaster.pid"
    if not wait_for(lambda: not _is_empty(lock), timeout=WRITING_TIMEOUT):
        lock.unlink(missing_ok=True)
    postmaster = Postmaster.observe(data_directory)
    if postmaster is None or postmaster.holder is Holder.SERVER:
        return
    if postmaster.holder is Holder.UNKNOWN:
        raise ClusterStartupError(
            f"{lock} names process {postmaster.pid_file.pid}, which is alive, but copyd cannot see "
            "whether it is a server of this directory: if it is not, remove the file"
        )
    # A copied lock file has the shared memory id of a server elsewhere, which keeps its children.
    if not _is_copied(postmaster, lock):
        _wait_for_orphans(postmaster.pid_file.shared_memory_id, data_directory)
    # Observed again: another process may have started a server during the waits.
    if Postmaster.observe(data_directory) == postmaster:
        lock.unlink(missing_ok=True)


def clear_sockets(folder: Path, data_directory: Path) -> None:
    """Remove the socket lock files of former servers of ``data_directory`` from ``folder``."""
    for lock in folder.glob(".s.PGSQL.*.lock"):
        found = Postmaster.observe(data_directory, lock)
        if found is None or found.holder in (Holder.NOBODY, Holder.STRANGER):
            lock.unlink(missing_ok=True)


def _is_copied(postmaster: Postmaster, lock: Path) -> bool:
    """Whether it was copied, with its directory, from another one whose server still runs."""
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
