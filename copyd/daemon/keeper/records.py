"""Records of clusters, which survive the daemon: a file for each, in the state directory.

A record tells an unmounted volume from a new cluster, and the daemon's own server from others
after a SIGKILL.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copyd.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copyd.cluster import PidFile

MAX_SOCKET_FOLDER = 91
"""Bytes of a folder's path that leave room for a socket's name: see `copyd.cluster.sockets`."""
START_WINDOW = 60  # seconds within which a server must have started after its start was recorded


class Made(enum.Enum):
    """Whether the data directory ever existed."""

    NEVER = "never"
    BEGUN = "begun"  # initdb was started; its end is not known
    DONE = "done"


@dataclass(frozen=True)
class ServerNote:
    """A server as last observed: process id and start (Unix time) as in its lock file.

    ``pid`` is None until the first observation after a start; ``started`` is the record's time then.
    """

    pid: int | None
    started: int
    is_ours: bool

    def is_of(self, pid_file: PidFile) -> bool:
        if self.pid is None:
            return 0 <= pid_file.started - self.started + 1 <= START_WINDOW
        return (self.pid, self.started) == (pid_file.pid, pid_file.started)


@dataclass(frozen=True)
class Record:
    """The record of a data directory. ``former``: the settings' values before copyd set them."""

    made: Made = Made.NEVER
    begun_at: float = 0.0
    server: ServerNote | None = None
    former: Mapping[str, str | None] = field(default_factory=dict)
    former_hba: str | None = None

    def is_ours(self, pid_file: PidFile | None) -> bool:
        """Whether copyd started the server of the lock file; None: the last server that ran."""
        if self.server is None:
            return pid_file is None
        return self.server.is_ours and (pid_file is None or self.server.is_of(pid_file))

    def as_json(self) -> str:
        return json.dumps({**asdict(self), "made": self.made.value}, indent=2) + "\n"

    @classmethod
    def of_json(cls, text: str) -> Record:
        """Parse a record; a broken record means an existing cluster, not started by copyd."""
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
            # Decision: Records are named after the data directory
            return cls(made=Made.DONE, server=ServerNote(pid=0, started=0, is_ours=False))


@dataclass(frozen=True)
class Folders:
    """The daemon's two directories, and the places of clusters' files in them."""

    state: Path
    runtime: Path

    def files_of(self, data_directory: Path) -> Files:
        # Named after the path, not the cluster: a cluster may get another name.
        place = os.path.normpath(data_directory)
        digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:12]
        return Files(self.state / "clusters", f"{Path(place).name or 'root'}-{digest}")

    def sockets(self, name: str) -> Path | None:
        """Return the folder for a cluster's socket; None if its path is too long for a socket."""
        path = self.runtime / "clusters" / name
        return path if len(os.fsencode(path)) <= MAX_SOCKET_FOLDER else None


@dataclass(frozen=True)
class Files:
    """The files of a cluster: record, passfile and log; only the daemon's account reads them."""

    folder: Path
    stem: str

    @property
    def record(self) -> Path:
        return self.folder / f"{self.stem}.json"

    @property
    def passfile(self) -> Path:
        """The superuser's password: PostgreSQL docs, "The Password File"."""
        return self.folder / f"{self.stem}.pgpass"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.stem}.log"

    def read(self) -> Record:
        """Return the record, empty if there is no file; raises OSError."""
        try:
            return Record.of_json(self.record.read_text(errors="replace"))
        except FileNotFoundError:
            return Record()

    def write(self, record: Record) -> None:
        """Store the record durably; raises OSError."""
        self._replace(self.record, record.as_json())

    def write_password(self, password: str) -> None:
        """Store the superuser's password for every database; raises OSError."""
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        text = f"*:*:*:*:{escaped}\n"
        with suppress(FileNotFoundError, UnicodeDecodeError):
            is_private = not self.passfile.stat().st_mode & 0o077
            if is_private and self.passfile.read_text() == text:
                return  # nothing to write, so a full disk does not matter
        self._replace(self.passfile, text)

    def _replace(self, path: Path, text: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, text.encode())

    def password(self) -> str | None:
        """Return the stored password; None without a file."""
        try:
            text = self.passfile.read_text()
        except FileNotFoundError:
            return None
        escaped = text.rstrip("\n").removeprefix("*:*:*:*:")
        return escaped.replace("\\:", ":").replace("\\\\", "\\")
