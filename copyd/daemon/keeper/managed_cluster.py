"""A cluster in a keeper's hands: the steps that make it, start it and configure it.

Each does one thing and returns, or raises; none of them decides.
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

LARGEST_LOG = 16 * 1024 * 1024
"""Bytes of a server's log beyond which the next start begins a new one."""

_LOG_END = "; the end of its log:"


@dataclass(frozen=True)
class ManagedCluster:
    """The cluster called ``name``, its files, and the folder of its socket where it has one."""

    name: str
    cluster: Cluster
    files: Files
    sockets: SocketDirectory | None

    @classmethod
    def of(cls, name: str, section: Section, folders: Folders) -> ManagedCluster:
        """Take charge of a cluster; nothing is done with it. Raises `ClusterError`."""
        folder = folders.sockets(name)
        sockets = None if folder is None else SocketDirectory(folder, is_private=True)
        cluster = Cluster(
            NO_PROGRAMS,
            section.data_directory,
            run_as=section.run_as,
            socket_directory=sockets,
            # Whether it ends with the daemon is decided then: it may have been released.
            on_parent_exit="leave",
        )
        return cls(name, cluster, folders.files_of(section.data_directory), sockets)

    def note(self, seen: Seen) -> None:
        """Record that there is a cluster, and whose server runs."""
        record = self.files.read()
        if seen.state is State.VOID:
            return
        noted = replace(record, made=Made.DONE)
        postmaster = Postmaster.observe(self.cluster.data_directory)
        if seen.runs and postmaster is not None and postmaster.holder is Holder.SERVER:
            pid_file, process = postmaster.pid_file, self.cluster.daemon_process
            is_child = process is not None and process.pid == pid_file.pid
            is_ours = is_child or record.is_ours(pid_file)
            noted = replace(noted, server=ServerNote(pid_file.pid, pid_file.started, is_ours))
        if noted != record:
            with suppress(OSError):  # a full disk is no reason to call a server down
                self.files.write(noted)

    def explain(self, *, was_up: bool) -> str:
        """Say why a server that ran does not run any more."""
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
        """Make the data directory; ``clears``: after removing what an initdb left half-made.

        What was begun is noted before, so that it can be told from what somebody else put there.
        """
        cluster, files = self.cluster, self.files
        cluster.installation = choose_installation(section, None)
        if clears:
            clear_unfinished(cluster.data_directory)
        self._keep_password(section)
        password = files.password() or secrets.token_urlsafe(24)
        files.write_password(password)
        scratch = self._prepare_sockets()
        files.write(replace(files.read(), made=Made.BEGUN, begun_at=now))
        cluster.init(password=password, timeout=INIT_TIMEOUT, scratch=scratch)
        files.write(replace(files.read(), made=Made.DONE))

    def start(self, section: Section, *, now: float) -> Configured:
        """Write the settings and start the server; returns before it is ready.

        That it is the daemon's is noted before, in case that it is killed in between.
        """
        cluster, files = self.cluster, self.files
        cluster.installation = choose_installation(section, major_of(cluster.data_directory))
        self._keep_password(section)
        self._prepare_sockets()
        written = write_settings(cluster, section, files)
        note = ServerNote(None, int(now), is_ours=True)
        files.write(replace(files.read(), server=note))
        with self._open_log() as log:
            cluster.start(logfile=log)
        return written

    def configure(self, section: Section, written: Configured | None) -> Configured:
        """Bring a running server to its configuration: see `configuration.configure`."""
        try:
            if self.cluster.installation is NO_PROGRAMS and section.settings:
                major = major_of(self.cluster.data_directory)
                self.cluster.installation = choose_installation(section, major)
            self._keep_password(section)
        except (CopydError, OSError) as error:
            return Configured().with_problem(sentence(error))
        return configure(self.cluster, section, self.files, written=written)

    def _keep_password(self, section: Section) -> None:
        """Put the password that is given, if one is, where conninfo says that it is."""
        if section.password_file is not None:
            key = f"clusters.{self.name}.password_file"
            self.files.write_password(read_password(section.password_file, key=key))

    def _prepare_sockets(self) -> Path | None:
        """Make the folder for the socket, empty of what a killed daemon's initdb left there."""
        if self.sockets is None:
            return None
        account, folder = self.cluster.account, self.sockets.path
        folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        if account.is_other and not account.can_enter(folder.parent):
            raise ClusterError(
                f"{account.name}, the server's account, cannot pass through {folder.parent}: "
                "open the folders above it (chmod o+x)"
            )
        self.sockets.prepare(account, self.cluster.data_directory)
        for left in folder.glob("copyd-*"):
            left.unlink()
        return folder

    def _open_log(self) -> IO[bytes]:
        path = self.files.log
        if path.exists() and path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
        return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))


def sentence(error: BaseException) -> str:
    """Say what went wrong in one line; what a server logged stays in its log."""
    if isinstance(error, (CopydError, OSError)):
        return " ".join(str(error).partition(_LOG_END)[0].split())
    return f"copyd failed with {type(error).__name__}: {error}"
