"""A data directory and its server: created, started, stopped, configured, removed.

Seed page: "Clusters".
"""

from __future__ import annotations

import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import psycopg
from psycopg.conninfo import make_conninfo

from copyd.cluster.account import Account
from copyd.cluster.configfile import as_text, checked_name
from copyd.cluster.errors import (
    ClusterError,
    ClusterInitializationError,
    ClusterNotRunningError,
    ClusterStartupError,
    ClusterTimeoutError,
)
from copyd.cluster.initdb import InitDB, superuser_of
from copyd.cluster.launcher import ServerProcess, stopping_with_parent
from copyd.cluster.locks import clear_data_directory
from copyd.cluster.poll import wait_for
from copyd.cluster.server import ANSWER_TIMEOUT, ClusterServer, is_initialized
from copyd.cluster.settings import Changes, Settings
from copyd.cluster.sockets import RUNTIME_ROOT, SocketDirectory

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from copyd.cluster.installation import Installation
    from copyd.cluster.lifecycle import State

START_TIMEOUT = 60.0
"""Seconds to wait on entering a ``with`` block; the server may have to recover first."""

STOP_TIMEOUT = 60.0
"""Seconds for a fast shutdown, before leaving a ``with`` block or `drop` kills the server."""


class Cluster:
    """The cluster in ``data_directory``, run by ``installation``.

    ``run_as``: the server's account if this process is root; by default ``postgres``, else
    ``nobody``. ``socket_directory``: the folder of the server's socket; by default the one in
    ``postgresql.conf``, else a private folder, removed after the server's end.
    ``on_parent_exit``: at the end of this process, however it ends, ``stop`` shuts down (fast) a
    server that this object started, ``leave`` lets it run.

    If the server's account cannot run the installation (a wheel under ``/root``), a copy is made
    beside the data directory; `drop` removes it, too.
    """

    def __init__(
        self,
        installation: Installation,
        data_directory: str | Path,
        *,
        run_as: str | None = None,
        socket_directory: str | Path | SocketDirectory | None = None,
        on_parent_exit: Literal["stop", "leave"] = "stop",
    ) -> None:
        self.installation = installation
        self.data_directory = Path(data_directory)
        if not self.data_directory.is_absolute():
            raise ValueError(f"the data directory must be an absolute path, got {data_directory}")
        self.account = Account.for_servers(run_as)
        self.on_parent_exit = on_parent_exit
        if socket_directory is None:
            socket_directory = SocketDirectory.private(self.account, self.data_directory)
        if not isinstance(socket_directory, SocketDirectory):
            socket_directory = SocketDirectory(Path(socket_directory), is_private=False)
        self._sockets = socket_directory
        self._server = ClusterServer(self.data_directory, socket_directory)

    def __repr__(self) -> str:
        return f"<Cluster {self.data_directory}>"

    def __enter__(self) -> Self:
        """Start the server, unless it runs, and wait until it accepts connections."""
        self.start()
        try:
            self.wait_until_started(START_TIMEOUT)
        except BaseException:
            self._stop_at_any_price()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shut the server down and wait for its end."""
        self._stop_at_any_price()

    # State

    @property
    def settings(self) -> Settings:
        """The cluster's ``postgresql.conf`` as a mapping: see `Settings`."""
        return Settings(self.data_directory / "postgresql.conf")

    @property
    def hba_file(self) -> Path:
        """The absolute path of the authentication file; ``hba_file`` may name another one."""
        # A relative path is relative to the data directory, the working directory of a server.
        return self.data_directory / (self.settings.get("hba_file") or "pg_hba.conf")

    @property
    def daemon_path(self) -> Path:
        """The server's executable; raises `ClusterError` if the installation has none."""
        return self._program("postgres")

    @property
    def daemon_process(self) -> subprocess.Popen[bytes] | None:
        """The server process if this object started it."""
        return self._server.process.popen if self._server.process else None

    @property
    def socket_directory(self) -> Path:
        """The folder for the server's socket, unless ``postgresql.conf`` names its own."""
        return self._sockets.path

    def initialized(self) -> bool:
        """Whether the directory is a data directory: seed page, ``Cluster.initialized``."""
        return is_initialized(self.data_directory)

    def state(self) -> State:
        """Observe the state of the data directory and its server."""
        return self._server.state()

    def pid(self) -> int | None:
        """Return the process id of the server, also of one started elsewhere; None if none runs."""
        return self._server.pid()

    def running(self) -> bool:
        """Whether the server process runs; it may not be ready yet."""
        return self.pid() is not None

    def ready_for_connections(self, timeout: float = ANSWER_TIMEOUT) -> bool | None:
        """Whether the server accepts connections; None if no server runs.

        Its lock file must say "ready", and it must answer a probe within ``timeout`` seconds.
        """
        return self._server.is_ready(timeout)

    def conninfo(self, dbname: str = "postgres", user: str | None = None) -> str:
        """Return a connection string for the running server.

        ``user`` is by default the superuser that `init` created. The string contains no password.
        Raises `ClusterNotRunningError` if no server runs.
        """
        postmaster = self._server.postmaster()
        if postmaster is None or postmaster.pid_file.port is None:
            raise ClusterNotRunningError(f"no server listens in {self.data_directory}: start it")
        return make_conninfo(
            host=postmaster.host,
            port=postmaster.pid_file.port,
            dbname=dbname,
            user=user or superuser_of(self.data_directory),
        )

    def pending_restart(self, *, password: str | None = None) -> list[str]:
        """Ask the server for changed settings that need a restart to take effect.

        ``password``: the superuser's, if it has one. Raises `psycopg.Error` if the server refuses.
        """
        with psycopg.connect(self.conninfo(), password=password) as connection:
            query = "SELECT name FROM pg_settings WHERE pending_restart ORDER BY name"
            return [str(name) for (name,) in connection.execute(query)]

    # Creation and removal

    def init(
        self,
        *,
        encoding: str = "UTF8",
        user: str | None = None,
        password: str | None = None,
        auth: str | None = None,
        locale: str = "C",
        options: Sequence[str] = (),
        timeout: float = 120.0,
        scratch: Path | None = None,
    ) -> None:
        """Create the data directory with ``initdb``, owned by the server's account, mode 0700.

        ``user``: the superuser, by default named as the server's account. With a ``password``,
        every connection needs one (``scram-sha-256``). Without one, only the calling account and
        the server's account can connect, over the socket, and both are the superuser. ``auth``:
        another authentication method of initdb for all; ``trust`` lets everybody connect. TCP is
        off until ``listen_addresses`` is set in `settings`. ``options``: further options of initdb,
        such as ``--data-checksums``. ``scratch``: the folder of the temporary password file; the
        server's account must be able to enter it; by default ``/tmp``.

        Raises `InitDBError` if initdb fails, `ClusterTimeoutError` after ``timeout`` seconds;
        neither leaves files behind.
        """
        self._check_parent()
        initdb = InitDB(
            program=self._program("initdb"),
            account=self.account,
            superuser=user or self.account.name,
            encoding=encoding,
            locale=locale,
            auth=auth,
            password=password,
            options=tuple(options),
        )
        initdb.make(self.data_directory, scratch=scratch or RUNTIME_ROOT, timeout=timeout)

    def drop(self) -> None:
        """Shut the server down and remove the data directory and all files of the cluster.

        A missing directory is no error. Raises `ClusterError`, and removes nothing, if the
        directory is not a data directory, or if another process may be using it.
        """
        if self.data_directory.exists() and not self.initialized():
            raise ClusterError(f"{self.data_directory} is not a data directory: not removed")
        self._stop_at_any_price()
        # Raises if an unknown process may still be a server of the directory.
        clear_data_directory(self.data_directory)
        for directory in (self.data_directory, self._staging_directory):
            if directory.exists():
                shutil.rmtree(directory)

    # Start and stop

    def start(self, logfile: IO[bytes] | IO[str] | None = None, settings: Changes = ()) -> None:
        """Start the server unless it runs; returns before it is ready.

        ``logfile``: the file for the server's output; by default the last lines are kept in memory,
        for errors. ``settings``: for the command line, which overrides every file. Raises
        `ClusterInitializationError` if there is no data directory, `ClusterStartupError` if the
        process cannot be started.
        """
        if self.running():
            return
        if not self.initialized():
            raise ClusterInitializationError(
                f"{self.data_directory} is not a data directory: init() creates one"
            )
        clear_data_directory(self.data_directory)
        command = [
            *(str(self.daemon_path), "-D", str(self.data_directory)),
            *self._socket_options(),
            *(
                f"--{checked_name(name)}={as_text(value)}"
                for name, value in dict(settings).items()
                if value is not None
            ),
        ]
        try:
            if self.on_parent_exit == "stop":
                command = stopping_with_parent(
                    command, self.account, setpriv=shutil.which("setpriv")
                )
            self._server.process = ServerProcess(
                command, account=self.account, directory=self.data_directory, logfile=logfile
            )
        except OSError as error:
            raise ClusterStartupError(
                f"cannot start the server in {self.data_directory}: {error}", command=command
            ) from error

    def wait_until_started(self, timeout: float = 10.0, delay: float = 0.05) -> None:
        """Wait until the server accepts connections; it is probed every ``delay`` seconds.

        Raises `ClusterStartupError` if the server ends first, `ClusterNotRunningError` if none was
        started, `ClusterTimeoutError` after ``timeout`` seconds.
        """
        self._server.wait_until_ready(timeout, delay)

    def stop(self) -> None:
        """Ask the server to stop once every client has left (smart shutdown); no-op if none runs."""
        self._server.signal(signal.SIGTERM)

    def shutdown(self) -> None:
        """Ask the server to end every connection and stop (fast shutdown); no-op if none runs."""
        self._server.signal(signal.SIGINT)

    def quit(self) -> None:
        """Ask the server to end at once (immediate shutdown): the next start recovers.

        Unlike after `kill`, no child process is left behind. No-op if none runs.
        """
        self._server.signal(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill the server (SIGKILL): the next start recovers; no-op if none runs."""
        self._server.signal(signal.SIGKILL)

    def reload(self) -> None:
        """Ask the server to read its configuration files again; no-op if none runs."""
        self._server.reload()

    def wait_until_stopped(self, timeout: float = 10.0, delay: float = 0.05) -> None:
        """Wait until no server runs, tested every ``delay`` seconds; raises `ClusterTimeoutError`."""
        self._server.wait_until_gone(timeout, delay)

    def restart(
        self,
        logfile: IO[bytes] | IO[str] | None = None,
        settings: Changes = (),
        timeout: float = 10.0,
    ) -> None:
        """Stop the server once every client has left, start it and wait until it is ready.

        Each wait takes ``timeout`` seconds at most. To end the clients instead, call `shutdown`
        first.
        """
        self.stop()
        self.wait_until_stopped(timeout)
        self.start(logfile, settings)
        self.wait_until_started(timeout)

    def promote(self, timeout: float = 10.0, delay: float = 0.05) -> None:
        """Promote a standby, and wait until it has left recovery.

        Raises `ClusterNotRunningError` if no server runs, `ClusterError` if the server is not a
        standby, `ClusterTimeoutError` after ``timeout`` seconds. Source: PostgreSQL docs, "pg_ctl",
        promote.
        """
        if self._server.postmaster() is None:
            raise ClusterNotRunningError(f"no server runs in {self.data_directory}: start it")
        standby = self.data_directory / "standby.signal"
        if not standby.exists():
            raise ClusterError(f"the server in {self.data_directory} is not a standby")
        request = self.data_directory / "promote"
        # "x": pg_ctl may have left its request there, and root must not follow a link.
        with suppress(FileExistsError), request.open("x") as file:
            self.account.own(file.fileno())
        self._server.signal(signal.SIGUSR1)
        # The server removes the file once it has left recovery.
        if not wait_for(lambda: not standby.exists(), timeout=timeout, delay=delay):
            raise self._server.too_slow("is still a standby", timeout)

    def _check_parent(self) -> None:
        parent = self.data_directory.parent
        parent.mkdir(parents=True, exist_ok=True)
        # Checked first: initdb's own message would not name the closed folder.
        if not self.account.can_enter(parent):
            raise ClusterInitializationError(
                f"{self.account.name}, the server's account, cannot enter {parent}: use another "
                "data directory, or open the folders above it (chmod o+x)"
            )

    def _usable(self) -> Installation:
        initdb = self.installation.paths["initdb"]
        if not self.account.is_other or initdb is None or self.account.can_run(Path(initdb)):
            return self.installation
        return self.installation.staged(self._staging_directory)

    @property
    def _staging_directory(self) -> Path:
        return self.data_directory.with_name(f"{self.data_directory.name}.installation")

    def _program(self, name: str) -> Path:
        path = self._usable().paths[name]
        if path is None:
            raise ClusterInitializationError(f"{self.installation!r} has no {name}")
        return Path(path)

    def _stop_at_any_price(self) -> None:
        self.shutdown()
        try:
            self.wait_until_stopped(STOP_TIMEOUT)
        except ClusterTimeoutError:
            self.kill()
            self.wait_until_stopped()

    def _socket_options(self) -> list[str]:
        if self._sockets.is_private and "unix_socket_directories" in self.settings:
            return []  # the file names a folder, and the caller named none
        self._sockets.prepare(self.account, self.data_directory)
        return [f"--unix_socket_directories={self._sockets.path}"]
