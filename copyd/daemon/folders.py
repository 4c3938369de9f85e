"""The daemon's folders: nobody else may write there, and one daemon alone uses them."""

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
    """Make `folder` where it is missing, and check that no other account can change its files.

    `key` is where the configuration names it. Raises UnsafeFolderError.
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
