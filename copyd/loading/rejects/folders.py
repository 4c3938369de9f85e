"""Private folders, each opened relative to its parent's descriptor, never through a link.

Rejects are rows, so folders are 0700 and files 0600; a folder which others could replace is refused.
Source: Linux manual pages, open(2), flock(2), rename(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from copyd.errors import UnsafeFolderError
from copyd.files import why_unsafe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = _FOLDER | os.O_NOFOLLOW
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO planted here must not block us
_HARM = ", who could replace what is in it"
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)


class Folder:
    """A folder by its descriptor; ``path`` is for messages."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.path = path
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # -- subfolders -------------------------------------------------------------------------------

    def make(self, name: str) -> Folder:
        """Enter a subfolder, created if missing."""
        with suppress(FileExistsError):
            self.make_new(name)
        return self.enter(name)

    def make_new(self, name: str) -> None:
        """Create a subfolder; raises FileExistsError."""
        os.mkdir(name, 0o700, dir_fd=self._descriptor)

    def enter(self, name: str, *, must_be_ours: bool = True) -> Folder:
        """Open a subfolder; readers accept other owners.

        Raises FileNotFoundError, or UnsafeFolderError for a link, or a folder not ours alone.
        """
        path = self.path / name
        try:
            descriptor = os.open(name, _BELOW, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                raise
            text = f"{path} is a link or a file where a folder of copyd's belongs: remove it"
            raise UnsafeFolderError(text) from None
        found = Folder(descriptor, path)
        if must_be_ours:
            found.require_ours()
        return found

    def require_ours(self) -> None:
        """Close the folder and raise if another account owns it or can write to it."""
        problem = why_unsafe(os.fstat(self._descriptor), owners={os.geteuid()})
        if problem is not None:
            self.close()
            raise UnsafeFolderError(f"{self.path} {problem}")

    def require_sheltered(self) -> None:
        """Close the folder and raise if another account could put another in its place."""
        for path, state, is_parent in self._above():
            # An administrator chooses the owner and the group of a folder further out.
            problem = why_unsafe(
                state,
                owners={os.geteuid(), 0} if is_parent else None,
                bits=0o022 if is_parent else 0o002,
                is_sticky_safe=True,
                harm=_HARM,
            )
            if problem is not None:
                self.close()
                raise UnsafeFolderError(f"{path} {problem}")

    def _above(self) -> Iterator[tuple[Path, os.stat_result, bool]]:
        """Yield the enclosing folders, the parent first, as far as we may open them."""
        path, inner = Path(os.path.realpath(self.path)), self._descriptor
        here = os.dup(inner)
        try:
            for level in range(len(path.parts) - 1):
                path = path.parent
                try:
                    outer = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
                except PermissionError:
                    return
                os.close(here)
                here = outer
                yield path, os.fstat(here), level == 0
        finally:
            os.close(here)

    # -- entries ----------------------------------------------------------------------------------

    def names(self) -> list[str]:
        return sorted(os.listdir(self._descriptor))  # noqa: PTH208 - pathlib takes no descriptor

    def create(self, name: str) -> int:
        """Create a new file for writing; returns its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _FILE
        return os.open(name, flags, 0o600, dir_fd=self._descriptor)

    def reopen(self, name: str) -> int:
        """Open a file from `create` to append; returns its descriptor."""
        return os.open(name, os.O_WRONLY | os.O_APPEND | _FILE, dir_fd=self._descriptor)

    def open(self, name: str) -> IO[bytes]:
        """Open a plain file for reading; raises OSError."""
        file = os.fdopen(os.open(name, os.O_RDONLY | _FILE, dir_fd=self._descriptor), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EINVAL, "not a plain file", str(self.path / name))
        return file

    def unlink(self, name: str) -> None:
        """Remove a file or link, if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def remove_folder(self, name: str) -> None:
        """Remove an empty subfolder, if it exists."""
        with suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=self._descriptor)

    def rename(self, old: str, new: str) -> None:
        # Not `copyd.files.replace_file`, which uses a path: others could redirect that.
        here = self._descriptor
        os.rename(old, new, src_dir_fd=here, dst_dir_fd=here)

    def state_of(self, name: str) -> os.stat_result:
        """Return the state of an entry, for a link its own."""
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def has_file(self, name: str) -> bool:
        return stat.S_ISREG(self.state_of(name).st_mode)

    def has(self, name: str, folder: Folder) -> bool:
        """Whether `folder` is its subfolder `name`."""
        try:
            there = self.state_of(name)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(folder._descriptor))

    def sync(self) -> None:
        """Write the names of entries to disk, not the content of files."""
        os.fsync(self._descriptor)

    def lock(self, name: str) -> int | None:
        """Lock a file, created if missing; closing the returned descriptor unlocks.

        None if another process holds the lock, or removed the file meanwhile.
        """
        flags = os.O_RDWR | os.O_CREAT | _FILE
        descriptor = os.open(name, flags, 0o600, dir_fd=self._descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.fstat(descriptor).st_nlink > 0  # not removed between open and flock
        except BlockingIOError:
            is_there = False
        except BaseException:
            os.close(descriptor)
            raise
        if not is_there:
            os.close(descriptor)
            return None
        return descriptor


def open_root(path: Path, *, makes: bool) -> Folder | None:
    """Open the folder of all rejects for writing; None if missing. `makes`: create it.

    Raises OSError, or UnsafeFolderError if others can write to the folder or replace it.
    """
    if makes:
        _make_all(path)
    folder = open_for_reading(path)
    if folder is not None:
        folder.require_ours()
        folder.require_sheltered()
    return folder


def prepare_root(path: Path) -> None:
    """Create `path` before a run, or raise UnsafeFolderError if rejects cannot be kept there."""
    try:
        folder = open_root(path, makes=True)
    except OSError as error:
        raise UnsafeFolderError(f"{path} cannot be used for rejects: {error.strerror}") from error
    if folder is not None:
        folder.close()


def open_for_reading(path: Path) -> Folder | None:
    """Open the folder of all rejects; None if missing."""
    try:
        return Folder(os.open(path, _FOLDER), path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise UnsafeFolderError(f"{path} is a file where a folder belongs") from None


def homes(
    root: Folder | None, transfer: str, only: str | None = None, *, must_be_ours: bool = True
) -> Iterator[Folder]:
    """Yield the folders of a transfer's destinations, or `only` that one; closes `root`.

    Both names are file names.
    """
    if root is None:
        return
    enter = partial(Folder.enter, must_be_ours=must_be_ours)
    with root, suppress(FileNotFoundError), enter(root, transfer) as folder:
        for name in folder.names():
            if only in {None, name} and not folder.has_file(name):
                with enter(folder, name) as home:
                    yield home


@contextmanager
def locked(folder: Folder, name: str) -> Iterator[bool]:
    """Hold the lock `name` in `folder` if free; yields False if another process holds the lock."""
    descriptor = folder.lock(name)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _make_all(path: Path) -> None:
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir(0o700)
        with Folder(os.open(each.parent, _FOLDER), each.parent) as parent:
            parent.sync()
