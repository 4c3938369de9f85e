"""What must not be forgotten about a cluster: a file of the state directory for each.

The record says that a data directory was made, so that a path that is empty one day is told from
one that never held anything; and which server the daemon started, so that it knows its own again
after it was killed. Files are named after the data directory: a cluster may get another name.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copyd.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copyd.cluster import PidFile

MAX_SOCKET_FOLDER = 91
"""The bytes of a folder that has room for a socket's name: see `copyd.cluster.sockets`."""
START_WINDOW = 60
"""Seconds after its start was noted in which a server must have begun to be that one."""


class Made(enum.Enum):
    """Whether there ever was a data directory."""

    NEVER = "never"
    BEGUN = "begun"
    """initdb was to make one, and whether it came to its end is not known."""
    DONE = "done"


@dataclass(frozen=True)
class ServerNote:
    """A server that was seen: its process id (None while it is started), its start, whose it is."""

    pid: int | None
    started: int
    """Seconds since 1970, as its lock file says; where there is no process id, when it was noted."""
    is_ours: bool

    def is_of(self, pid_file: PidFile) -> bool:
        """Whether the lock file is that of this server."""
        if self.pid is None:
            return 0 <= pid_file.started - self.started + 1 <= START_WINDOW
        return (self.pid, self.started) == (pid_file.pid, pid_file.started)


@dataclass(frozen=True)
class Record:
    """What is known of one data directory. ``former`` is what settings were before copyd's."""

    made: Made = Made.NEVER
    begun_at: float = 0.0
    server: ServerNote | None = None
    former: Mapping[str, str | None] = field(default_factory=dict)
    former_hba: str | None = None

    def is_ours(self, pid_file: PidFile | None) -> bool:
        """Whether copyd started the server of the lock file, or the last one where none runs."""
        if self.server is None:
            return pid_file is None
        return self.server.is_ours and (pid_file is None or self.server.is_of(pid_file))

    def as_json(self) -> str:
        """Write it down."""
        return json.dumps({**asdict(self), "made": self.made.value}, indent=2) + "\n"

    @classmethod
    def of_json(cls, text: str) -> Record:
        """Read it back; what cannot be read is one of a cluster that was made, by nobody known."""
        try:
            found: dict[str, Any] = json.loads(text)
            server = found["server"]
            return cls(
                made=Made(found["made"]),
                begun_at=float(found["begun_at"]),
                server=None if server is None else ServerNote(**server),
                former=dict(found["former"]),
                former_hba=found["former_hba"],
            )
        except (ValueError, KeyError, TypeError):
            return cls(made=Made.DONE, server=ServerNote(pid=0, started=0, is_ours=False))


@dataclass(frozen=True)
class Folders:
    """Where a cluster's files are, below the daemon's two directories."""

    state: Path
    runtime: Path

    def files_of(self, data_directory: Path) -> Files:
        """Name the files of the cluster in `data_directory`."""
        place = os.path.normpath(data_directory)
        digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:12]
        return Files(self.state / "clusters", f"{Path(place).name or 'root'}-{digest}")

    def sockets(self, name: str) -> Path | None:
        """Return the folder for the socket of the cluster called `name`.

        None where its path is too long for one: then `Cluster` has a private folder of its own.
        """
        path = self.runtime / "clusters" / name
        return path if len(os.fsencode(path)) <= MAX_SOCKET_FOLDER else None


@dataclass(frozen=True)
class Files:
    """The files of one cluster. Only the daemon's account can read them."""

    folder: Path
    stem: str

    @property
    def record(self) -> Path:
        """What is known of it."""
        return self.folder / f"{self.stem}.json"

    @property
    def passfile(self) -> Path:
        """The superuser's password, as libpq reads it (PostgreSQL docs, "The Password File")."""
        return self.folder / f"{self.stem}.pgpass"

    @property
    def log(self) -> Path:
        """What the server writes, unless its settings say otherwise."""
        return self.folder / f"{self.stem}.log"

    def read(self) -> Record:
        """Return what is known; raises OSError where the file cannot be read."""
        try:
            return Record.of_json(self.record.read_text(errors="replace"))
        except FileNotFoundError:
            return Record()

    def write(self, record: Record) -> None:
        """Note what is known, on the disk when this returns; raises OSError."""
        self._replace(self.record, record.as_json())

    def write_password(self, password: str) -> None:
        """Keep a password for every database of the cluster; raises OSError."""
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        text = f"*:*:*:*:{escaped}\n"
        if not self._holds(text):
            self._replace(self.passfile, text)

    def _replace(self, path: Path, text: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, text.encode())

    def _holds(self, text: str) -> bool:
        try:
            is_private = not self.passfile.stat().st_mode & 0o077
            return is_private and self.passfile.read_text() == text
        except (FileNotFoundError, UnicodeDecodeError):
            return False

    def password(self) -> str | None:
        """Return the password that is kept; None where there is none."""
        try:
            text = self.passfile.read_text()
        except FileNotFoundError:
            return None
        escaped = text.rstrip("\n").removeprefix("*:*:*:*:")
        return escaped.replace("\\:", ":").replace("\\\\", "\\")
