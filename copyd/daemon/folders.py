"""The daemon's folders: nobody else may write there, and one daemon alone uses them."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class UnsafeFolderError(CopydError):
    """A folder of the daemon cannot be used as it is."""


def prepare(folder: Path, *, key: str, mode: int) -> None:
    """Make `folder` where it is not there, and see that no other account may change what is in it.

    `key` is where the configuration names it. Raises UnsafeFolderError.
    """
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(mode)  # whatever the umask
        found = folder.stat()
    except OSError as error:
        raise UnsafeFolderError(f"{key}: {folder} cannot be used: {error.strerror}") from error
    if found.st_uid not in {0, os.geteuid()}:
        raise UnsafeFolderError(
            f"{key}: {folder} belongs to another account: give it to the one that copyd runs as"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        bits = stat.S_IMODE(found.st_mode)
        raise UnsafeFolderError(
            f"{key}: {folder} has mode {bits:o}, so that others may write there: chmod go-w it"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a state directory while the block lasts; it goes with the process.

    Raises CopydError where another daemon holds it.
    """
    path = folder / "daemon.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CopydError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CopydError(
                f"a daemon runs already with the state directory {folder}: "
                "stop it, or give this one another state_directory"
            ) from None
        yield
    finally:
        os.close(descriptor)
