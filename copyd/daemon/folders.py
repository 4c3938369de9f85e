"""The daemon's folders: safe from other accounts, and locked against a second daemon."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from copyd.errors import CopydError, UnsafeFolderError
from copyd.files import why_unsafe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def prepare(folder: Path, *, key: str, mode: int) -> None:
    """Create `folder` if missing; raises UnsafeFolderError if other accounts can change its files.

    `key` is its key of the configuration, for the error.
    """
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(mode)  # whatever the umask
        found = folder.stat()
    except OSError as error:
        raise UnsafeFolderError(f"{key}: {folder} cannot be used: {error.strerror}") from error
    problem = why_unsafe(found, owners={0, os.geteuid()})
    if problem is not None:
        raise UnsafeFolderError(f"{key}: {folder} {problem}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a state directory for the block, at most for the life of the process.

    Raises CopydError if another daemon holds the lock.
    """
    path = folder / "daemon.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CopydError(f"{path} cannot be opened: {error.strerror}") from error
    with os.fdopen(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CopydError(
                f"another daemon uses the state directory {folder}: "
                "stop it, or configure another state_directory"
            ) from None
        yield
