"""The server of a data directory, started here or elsewhere: observed, signalled, waited for.

No state is stored that can be observed: the data directory, its lock file and the kernel answer every
question, so several objects and programs can share a cluster.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from copyd.cluster.errors import (
    ClusterError,
    ClusterNotRunningError,
    ClusterStartupError,
    ClusterTimeoutError,
)
from copyd.cluster.lifecycle import Holder, State, decide_state, explain_log
from copyd.cluster.poll import wait_for
from copyd.cluster.postmaster import Postmaster

if TYPE_CHECKING:
    from pathlib import Path

    from copyd.cluster.launcher import ServerProcess
    from copyd.cluster.sockets import SocketDirectory

ANSWER_TIMEOUT = 1.0  # seconds in which a server must answer a probe


def is_initialized(data_directory: Path) -> bool:
    """Whether a directory is a data directory: seed page, ``Cluster.initialized``."""
    settings = data_directory / "postgresql.conf"
    return (data_directory / "base").is_dir() and settings.is_file()


class ClusterServer:
    """The server in ``data_directory``; ``process`` is None unless this object started it."""

    def __init__(self, data_directory: Path, sockets: SocketDirectory) -> None:
        self.process: ServerProcess | None = None
        self._data_directory = data_directory
        self._sockets = sockets

    def state(self) -> State:
        postmaster = Postmaster.observe(self._data_directory)
        holder = postmaster.holder if postmaster else Holder.NOBODY
        # Our own process runs, but has not written its lock file yet.
        if holder is not Holder.SERVER and self._is_own_alive:
            return State.STARTING
        return decide_state(
            is_initialized=is_initialized(self._data_directory),
            pid_file=postmaster.pid_file if postmaster else None,
            holder=holder,
        )

    def postmaster(self) -> Postmaster | None:
        """Return the running server, proved to be this cluster's; None if there is none."""
        postmaster = Postmaster.observe(self._data_directory)
        return postmaster if postmaster and postmaster.holder is Holder.SERVER else None

    def pid(self) -> int | None:
        postmaster = self.postmaster()
        if postmaster is not None:
            return postmaster.pid_file.pid
        return self.process.popen.pid if self.process and self.process.is_alive else None

    def is_ready(self, timeout: float) -> bool | None:
        """Whether the server accepts connections; None if no server runs."""
        postmaster = self.postmaster()
        if postmaster is None:
            return None if self.pid() is None else False
        return postmaster.pid_file.status == "ready" and postmaster.answers(timeout)

    def signal(self, number: signal.Signals) -> None:
        """Signal the server, and no other process; no-op if none runs."""
        postmaster = self.postmaster()
        if postmaster is not None:
            postmaster.signal(number, self._data_directory)
        elif self.process is not None:
            self.process.signal(number)

    def reload(self) -> None:
        """Send SIGHUP; no-op if no server runs."""
        # A new server without its lock file has no handler yet: the signal would end it.
        if wait_for(lambda: not self._is_unborn, timeout=ANSWER_TIMEOUT):
            self.signal(signal.SIGHUP)

    def wait_until_ready(self, timeout: float, delay: float) -> None:
        """Wait until the server accepts connections; raises as `Cluster.wait_until_started`."""
        deadline = time.monotonic() + timeout
        # A server that ended with 0 before this wait was stopped on request: no failed start.
        was_running = self.process is not None and self.process.popen.poll() != 0
        while True:
            left = deadline - time.monotonic()
            ready = self.is_ready(min(ANSWER_TIMEOUT, max(left, delay)))
            if ready:
                return
            if ready is None:
                raise self._not_started(was_running=was_running)
            was_running = True
            if left <= 0:
                raise self.too_slow("does not accept connections", timeout)
            time.sleep(min(delay, left))

    def wait_until_gone(self, timeout: float, delay: float) -> None:
        """Wait until no server runs; raises `ClusterTimeoutError`."""
        if not wait_for(lambda: self.pid() is None, timeout=timeout, delay=delay):
            raise self.too_slow("still runs", timeout)
        self._clean_up()

    def too_slow(self, what: str, timeout: float) -> ClusterTimeoutError:
        """Return the error: ``what`` is the rest of "the server in DIRECTORY ..."."""
        log = self.process.log() if self.process else ""
        return ClusterTimeoutError(
            f"the server in {self._data_directory} {what} after {timeout:g} s: it is "
            f"{self.state().value}{explain_log(log)}"
        )

    @property
    def _is_own_alive(self) -> bool:
        return self.process is not None and self.process.is_alive

    @property
    def _is_unborn(self) -> bool:
        """Whether our process runs but has not written its lock file yet."""
        return self._is_own_alive and self.postmaster() is None

    def _clean_up(self) -> None:
        if self.process is not None:
            self.process.join(timeout=ANSWER_TIMEOUT)
        self._sockets.remove()

    def _not_started(self, *, was_running: bool) -> ClusterError:
        if not was_running:
            return ClusterNotRunningError(f"no server runs in {self._data_directory}: start it")
        if self.process is None:
            return ClusterStartupError(f"the server in {self._data_directory} ended while starting")
        self._clean_up()
        log, exit_code = self.process.log(), self.process.popen.returncode
        return ClusterStartupError(
            f"the server in {self._data_directory} ended while starting, with exit code "
            f"{exit_code}{explain_log(log)}",
            exit_code=exit_code,
            command=self.process.command,
            log=log,
        )
