"""The folder of a server's socket: the caller's, or a private one.

A private folder's name is derived from the data directory. So all objects for a directory use the
same folder, and a folder that a crash left behind is reused and finally removed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from copyd.cluster.errors import ClusterStartupError
from copyd.cluster.locks import clear_sockets

if TYPE_CHECKING:
    from copyd.cluster.account import Account

RUNTIME_ROOT = Path("/tmp")  # noqa: S108 (only a folder of mode 0700 is used below it)
"""The parent of private folders: open to every account, and short, see `MAX_PATH`."""

MAX_PATH = 107  # the longest path of a socket in bytes (sun_path without its final NUL)


@dataclass(frozen=True)
class SocketDirectory:
    """A folder for sockets; a private one is created before a start and removed after a stop."""

    path: Path
    is_private: bool

    @classmethod
    def private(cls, account: Account, data_directory: Path) -> SocketDirectory:
        """Return the private folder of a data directory."""
        identity = f"{account.uid}:{data_directory.resolve()}"
        digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        return cls(RUNTIME_ROOT / f"copyd-{digest[:16]}", is_private=True)

    def prepare(self, account: Account, data_directory: Path) -> None:
        """Make the folder usable for a server of ``account``; raises `ClusterStartupError`."""
        length = len(os.fsencode(self.path / ".s.PGSQL.65535"))
        if length > MAX_PATH:
            raise ClusterStartupError(
                f"the path of the socket directory {self.path} is too long: with a socket's name "
                f"it has {length} bytes, and {MAX_PATH} are allowed"
            )
        if self.is_private:
            self._make_private(account)
            clear_sockets(self.path, data_directory)

    def remove(self) -> None:
        """Remove a private folder and the files that a killed server left in it."""
        if self.is_private:
            shutil.rmtree(self.path, ignore_errors=True)

    def _make_private(self, account: Account) -> None:
        with suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        found = self.path.lstat()
        # Still our own if a crash came between mkdir and own().
        if found.st_uid == os.geteuid():
            account.own(self.path)
            found = self.path.lstat()
        if (found.st_uid, found.st_mode) != (account.uid, 0o040700):
            raise ClusterStartupError(
                f"{self.path} exists already and is not a private folder of {account.name}: "
                "remove it, or choose a socket_directory"
            )
