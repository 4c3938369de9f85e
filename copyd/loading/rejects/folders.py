"""Folders that are ours alone: opened relative to each other's descriptors, never through a link.

Rejects are rows: folders are 0700, files 0600, and what others could have put in their place is
refused. Source: Linux manual pages, open(2), flock(2), rename(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from copyd.errors import UnsafeFolderError
from copyd.files import why_unsafe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = _FOLDER | os.O_NOFOLLOW
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_HARM = ", who could replace what is in it"
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)


class Folder:
    """A folder by its descriptor; ``path`` is for people."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.path = path
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # -- folders in it ----------------------------------------------------------------------------

    def make(self, name: str) -> Folder:
        """Enter a folder in it, which is made where there is none."""
        with suppress(FileExistsError):
            self.make_new(name)
        return self.enter(name)

    def make_new(self, name: str) -> None:
        """Make a folder in it; raises FileExistsError where something has the name."""
        os.mkdir(name, 0o700, dir_fd=self._descriptor)

    def enter(self, name: str, *, may_be_anybodys: bool = False) -> Folder:
        """Open a folder in it.

        Raises FileNotFoundError where there is none, UnsafeFolderError where it is a link, or not
        ours alone. `may_be_anybodys`: for who only reads.
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
        if not may_be_anybodys:
            found.require_ours()
        return found

    def require_ours(self) -> None:
        """See that it is this account's, and nobody else can write; else close it and raise."""
        problem = why_unsafe(os.fstat(self._descriptor), owners={os.geteuid()})
        if problem is not None:
            self.close()
            raise UnsafeFolderError(f"{self.path} {problem}")

    def require_sheltered(self) -> None:
        """See that nobody else can put another folder in its place; else close it and raise."""
        for path, state, is_parent in self._above():
            # Its owner, or the group of a folder further out, may be root's choice.
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
        """Yield what it is in, from the inside; all but the parent may be out of sight."""
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

    # -- what is in it ----------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return what is in it, sorted."""
        return sorted(os.listdir(self._descriptor))  # noqa: PTH208 - pathlib takes no descriptor

    def create(self, name: str) -> int:
        """Make a file that is not there yet, for writing; returns its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _FILE
        return os.open(name, flags, 0o600, dir_fd=self._descriptor)

    def reopen(self, name: str) -> int:
        """Open a file that `create` made, to write behind its end; returns its descriptor."""
        return os.open(name, os.O_WRONLY | os.O_APPEND | _FILE, dir_fd=self._descriptor)

    def open(self, name: str) -> IO[bytes]:
        """Open a plain file for reading; raises OSError where there is none."""
        file = os.fdopen(os.open(name, os.O_RDONLY | _FILE, dir_fd=self._descriptor), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EINVAL, "is no plain file", str(self.path / name))
        return file

    def unlink(self, name: str) -> None:
        """Remove a file, or a link itself; it may be gone already."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder in it; it may be gone already."""
        with suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=self._descriptor)

    def rename(self, old: str, new: str) -> None:
        """Give an entry another name, at once or not at all.

        Not `copyd.files.replace_file`: that goes by a path, which others could lead elsewhere.
        """
        here = self._descriptor
        os.rename(old, new, src_dir_fd=here, dst_dir_fd=here)

    def state_of(self, name: str) -> os.stat_result:
        """Return the state of what is in it, of a link its own."""
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def has_file(self, name: str) -> bool:
        """Whether a plain file has this name in it."""
        return stat.S_ISREG(self.state_of(name).st_mode)

    def has(self, name: str, folder: Folder) -> bool:
        """Whether `folder` is what is called `name` in it."""
        try:
            there = self.state_of(name)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(folder._descriptor))

    def sync(self) -> None:
        """See that the names in it survive a crash."""
        os.fsync(self._descriptor)

    # -- who is at work in it ---------------------------------------------------------------------

    def lock(self, name: str) -> int | None:
        """Lock a file in it, made where there is none, and return its descriptor, which holds it.

        None where somebody else holds it, or has removed it meanwhile.
        """
        flags = os.O_RDWR | os.O_CREAT | _FILE
        descriptor = os.open(name, flags, 0o600, dir_fd=self._descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.fstat(descriptor).st_nlink > 0
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
    """Open the folder of all rejects for writing; `makes`: it is made where there is none.

    None where there is none. Raises UnsafeFolderError where others can write it, or put another
    in its place, and OSError where it cannot be made or opened.
    """
    if makes:
        _make_all(path)
    folder = _open(path)
    if folder is not None:
        folder.require_ours()
        folder.require_sheltered()
    return folder


def prepare_root(path: Path) -> None:
    """See before a run that rejects can be kept below `path`, which is made where it is missing.

    Raises UnsafeFolderError where they cannot.
    """
    try:
        folder = open_root(path, makes=True)
    except OSError as error:
        raise UnsafeFolderError(f"{path} cannot be used for rejects: {error.strerror}") from error
    if folder is not None:
        folder.close()


def look_into_root(path: Path) -> Folder | None:
    """Open the folder of all rejects for reading; None where there is none."""
    return _open(path)


@contextmanager
def locked(folder: Folder, name: str) -> Iterator[bool]:
    """Hold the lock `name` in `folder`, if nobody else does; yields whether it is held."""
    descriptor = folder.lock(name)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(path: Path) -> Folder | None:
    try:
        return Folder(os.open(path, _FOLDER), path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise UnsafeFolderError(f"{path} is a file where a folder belongs") from None


def _make_all(path: Path) -> None:
    """Make a folder and those that it is in; all that is new is for this account alone."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir(0o700)
        with Folder(os.open(each.parent, _FOLDER), each.parent) as parent:
            parent.sync()
