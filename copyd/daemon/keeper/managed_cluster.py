"""The steps of a keeper: create a cluster, start its server, configure the server.

No step decides anything; each returns or raises.
"""

from __future__ import annotations

import os
import secrets
import signal
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING

from copyd.cluster import Cluster, ClusterError, Holder, Postmaster, SocketDirectory, State
from copyd.config import read_password
from copyd.daemon.keeper.configuration import Configured, configure, write_settings
from copyd.daemon.keeper.observation import (
    INIT_TIMEOUT,
    NO_PROGRAMS,
    choose_installation,
    clear_unfinished,
    major_of,
)
from copyd.daemon.keeper.records import Made, ServerNote
from copyd.errors import CopydError

if TYPE_CHECKING:
    from pathlib import Path

    from copyd.config import Cluster as Section
    from copyd.daemon.keeper.decision import Seen
    from copyd.daemon.keeper.records import Files, Folders

LARGEST_LOG = 16 * 1024 * 1024  # bytes of a server's log after which the next start rotates the log

_LOG_END = "; the end of its log:"


@dataclass(frozen=True)
class ManagedCluster:
    """The cluster ``name``, its files and its socket's folder; None: `Cluster` chooses the folder."""

    name: str
    cluster: Cluster
    files: Files
    sockets: SocketDirectory | None

    @classmethod
    def of(cls, name: str, section: Section, folders: Folders) -> ManagedCluster:
        """Raises `ClusterError`; touches no file."""
        folder = folders.sockets(name)
        sockets = None if folder is None else SocketDirectory(folder, is_private=True)
        cluster = Cluster(
            NO_PROGRAMS,
            section.data_directory,
            run_as=section.run_as,
            socket_directory=sockets,
            # Decision: Servers never end with the daemon by the kernel's hand
            on_parent_exit="leave",
        )
        return cls(name, cluster, folders.files_of(section.data_directory), sockets)

    def note(self, seen: Seen) -> None:
        """Record the cluster's existence, and whether copyd started its server."""
        if seen.state is State.VOID:
            return
        record = self.files.read()
        noted = replace(record, made=Made.DONE)
        postmaster = Postmaster.observe(self.cluster.data_directory)
        if seen.runs and postmaster is not None and postmaster.holder is Holder.SERVER:
            pid_file, process = postmaster.pid_file, self.cluster.daemon_process
            is_child = process is not None and process.pid == pid_file.pid
            is_ours = is_child or record.is_ours(pid_file)
            noted = replace(noted, server=ServerNote(pid_file.pid, pid_file.started, is_ours))
        if noted != record:
            with suppress(OSError):  # a full disk does not make the server down
                self.files.write(noted)

    def explain(self, *, was_up: bool) -> str:
        """Return why a server that ran is gone."""
        cluster, process = self.cluster, self.cluster.daemon_process
        if process is not None and not was_up:
            try:
                cluster.wait_until_started(0.0)
            except ClusterError as error:
                return sentence(error)
        code = None if process is None else process.poll()
        how = "ended" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        return f"the server in {cluster.data_directory} {how}"

    def initialize(self, section: Section, *, clears: bool, now: float) -> None:
        """Create the data directory; ``clears``: remove an interrupted initdb's files before."""
        cluster, files = self.cluster, self.files
        cluster.installation = choose_installation(section, None)
        if clears:
            clear_unfinished(cluster.data_directory)
        self._keep_password(section)
        password = files.password() or secrets.token_urlsafe(24)
        files.write_password(password)
        scratch = self._prepare_sockets()
        # Recorded before initdb: after a SIGKILL its files are known to be copyd's.
        files.write(replace(files.read(), made=Made.BEGUN, begun_at=now))
        cluster.init(password=password, timeout=INIT_TIMEOUT, scratch=scratch)
        files.write(replace(files.read(), made=Made.DONE))

    def start(self, section: Section, *, now: float) -> Configured:
        """Write the settings and start the server; returns before it is ready."""
        cluster, files = self.cluster, self.files
        cluster.installation = choose_installation(section, major_of(cluster.data_directory))
        self._keep_password(section)
        self._prepare_sockets()
        written = write_settings(cluster, section, files)
        # Recorded before the start: after a SIGKILL the server is known to be copyd's.
        note = ServerNote(None, int(now), is_ours=True)
        files.write(replace(files.read(), server=note))
        with self._open_log() as log:
            cluster.start(logfile=log)
        return written

    def configure(self, section: Section, written: Configured | None) -> Configured:
        """See `configuration.configure`; every error becomes a problem."""
        try:
            if self.cluster.installation is NO_PROGRAMS and section.settings:
                major = major_of(self.cluster.data_directory)
                self.cluster.installation = choose_installation(section, major)
            self._keep_password(section)
        except (CopydError, OSError) as error:
            return Configured().with_problem(sentence(error))
        return configure(self.cluster, section, self.files, written=written)

    def _keep_password(self, section: Section) -> None:
        if section.password_file is not None:
            key = f"clusters.{self.name}.password_file"
            self.files.write_password(read_password(section.password_file, key=key))

    def _prepare_sockets(self) -> Path | None:
        if self.sockets is None:
            return None
        account, folder = self.cluster.account, self.sockets.path
        folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        if account.is_other and not account.can_enter(folder.parent):
            raise ClusterError(
                f"{account.name}, the server's account, cannot enter {folder.parent}: "
                "open the folders above it (chmod o+x)"
            )
        self.sockets.prepare(account, self.cluster.data_directory)
        for left in folder.glob("copyd-*"):
            left.unlink()  # of the initdb of a daemon that was killed
        return folder

    def _open_log(self) -> IO[bytes]:
        path = self.files.log
        if path.exists() and path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
        return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))


def sentence(error: BaseException) -> str:
    """Return an error in one line, without lines of a server's log, which may quote secrets."""
    if isinstance(error, (CopydError, OSError)):
        return " ".join(str(error).partition(_LOG_END)[0].split())
    return f"copyd failed with {type(error).__name__}: {error}"
