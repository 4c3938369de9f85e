"""A server process and the thread that starts it and stays until the process ends.

The thread has two tasks. It reads the server's log if no file does, so that the pipe never fills up.
And it outlives the server: the kernel sends the parent-death signal at the end of the *thread* that
started a process, not at the end of its program.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.cluster.account import Account

LOG_LINES = 50  # the number of last log lines to keep for error messages

_SHELL = 'test "$PPID" = "$0" && exec "$@"'
_PYTHON = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))
os.getppid() == int(sys.argv[2]) and os.execv(sys.argv[3], sys.argv[3:])
"""


class ServerProcess:
    """A server process that this process started, and the end of its log."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        account: Account,
        directory: Path,
        logfile: IO[bytes] | IO[str] | None,
    ) -> None:
        """Start ``command`` as ``account`` in ``directory``; raises `OSError` if it fails.

        Relative file names in the server's settings are relative to ``directory``.
        """
        self.command = tuple(command)
        self._account = account
        self._directory = directory
        self._log: deque[bytes] = deque(maxlen=LOG_LINES)
        self._logfile = logfile
        self._log_start = 0 if logfile is None else os.fstat(logfile.fileno()).st_size
        started: Future[subprocess.Popen[bytes]] = Future()
        # A daemon thread: a server that outlives this process must not keep it from exiting.
        self._thread = threading.Thread(
            target=self._stay, args=(started,), name="copyd-server", daemon=True
        )
        self._thread.start()
        self.popen = started.result()

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; safe, as the kernel keeps a child's process id until `popen` reaps it."""
        self.popen.send_signal(number)

    def log(self) -> str:
        """Return the last lines of the server's output."""
        if self._logfile is None:
            # The copy is atomic, so no lock is needed against the thread that extends the deque.
            return b"".join(self._log.copy()).decode(errors="replace")
        try:
            with Path(self._logfile.name).open("rb") as file:
                file.seek(self._log_start)
                lines = deque(file, maxlen=LOG_LINES)
        except (OSError, AttributeError, TypeError):
            return ""  # the log file has no name to open
        return b"".join(lines).decode(errors="replace")

    def join(self, timeout: float) -> None:
        """Wait until the process has ended and its log is read."""
        self._thread.join(timeout)

    def _stay(self, started: Future[subprocess.Popen[bytes]]) -> None:
        try:
            process = self._account.popen(
                self.command,
                stdout=subprocess.PIPE if self._logfile is None else self._logfile.fileno(),
                stderr=subprocess.STDOUT,
                cwd=self._directory,
            )
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits)
            started.set_exception(error)
            return
        started.set_result(process)
        # Read to the end even if nobody asks for the log: a full pipe would block the server.
        if process.stdout is not None:
            with process.stdout as log:
                self._log.extend(log)
        process.wait()


def stopping_with_parent(
    command: Sequence[str], account: Account, *, setpriv: str | None
) -> list[str]:
    """Wrap a server's command so that the kernel shuts the server down when this process ends.

    A change of user clears the parent-death signal, so it must be requested afterwards, by a small
    program that then executes the server. That program is ``setpriv`` (the path of util-linux's),
    else this Python if the account can run it; raises `FileNotFoundError` if neither works.
    """
    # The program compares its parent's id: this process may have ended before the request.
    here = str(os.getpid())
    if setpriv is not None:
        asking = [setpriv, "--pdeathsig", "INT", "--", "/bin/sh", "-c", _SHELL, here]
    elif account.can_run(Path(sys.executable)):
        number = str(int(signal.SIGINT))
        asking = [sys.executable, "-I", "-S", "-c", _PYTHON, number, here]
    else:
        raise FileNotFoundError(
            f'on_parent_exit="stop" needs setpriv (util-linux) or a Python that {account.name} can '
            f'run, and {sys.executable} is none: install setpriv, or use on_parent_exit="leave"'
        )
    return [*asking, *command]
