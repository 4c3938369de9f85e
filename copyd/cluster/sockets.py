"""The folder that a server's socket goes in: the caller's, or a private one.

A private folder has a name that follows from the data directory, so every object over it finds
the same one, and a folder that a crash left behind is used again and removed in the end.
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

RUNTIME_ROOT = Path("/tmp")  # noqa: S108 (below it only what is ours and closed to others)
"""Where private folders are made: short, as a socket's path is, and open to every account."""

MAX_PATH = 107
"""The bytes that a socket's path may have (``sun_path``, without its final NUL)."""


@dataclass(frozen=True)
class SocketDirectory:
    """A folder for sockets; a private one is made before a start and removed after a stop."""

    path: Path
    is_private: bool

    @classmethod
    def private(cls, account: Account, data_directory: Path) -> SocketDirectory:
        """Name the private folder of a data directory."""
        identity = f"{account.uid}:{data_directory.resolve()}"
        digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        return cls(RUNTIME_ROOT / f"copyd-{digest[:16]}", is_private=True)

    def prepare(self, account: Account, data_directory: Path) -> None:
        """Make a server of ``account`` able to put its socket here, or say why it is not.

        Raises `ClusterStartupError`.
        """
        length = len(os.fsencode(self.path / ".s.PGSQL.65535"))
        if length > MAX_PATH:
            raise ClusterStartupError(
                f"the socket directory {self.path} is too long: with a socket's name it has "
                f"{length} bytes, and {MAX_PATH} are allowed"
            )
        if self.is_private:
            self._make_private(account)
            clear_sockets(self.path, data_directory)

    def remove(self) -> None:
        """Remove a private folder with what a killed server left in it."""
        if self.is_private:
            shutil.rmtree(self.path, ignore_errors=True)

    def _make_private(self, account: Account) -> None:
        with suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        found = self.path.lstat()
        # Ours still, where a crash came between the two steps.
        if found.st_uid == os.geteuid():
            account.own(self.path)
            found = self.path.lstat()
        if (found.st_uid, found.st_mode) != (account.uid, 0o040700):
            raise ClusterStartupError(
                f"{self.path} exists already and is not a private folder of {account.name}: "
                "remove it, or choose a socket_directory"
            )
