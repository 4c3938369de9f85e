"""Starting a server process and staying with it: one thread a server, for as long as it lives.

The thread is there for two reasons. It drains the server's log where no file takes it, so that
no pipe fills up. And the kernel's parent-death signal follows the *thread* that started a
process, so that thread must last.
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

LOG_LINES = 50
"""How many of the last lines of a server's log are kept for an error to show."""

_SHELL = 'test "$PPID" = "$0" && exec "$@"'
_PYTHON = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))
os.getppid() == int(sys.argv[2]) and os.execv(sys.argv[3], sys.argv[3:])
"""


class ServerProcess:
    """A server process that this one started, and the end of its log."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        account: Account,
        directory: Path,
        logfile: IO[bytes] | IO[str] | None,
    ) -> None:
        """Start ``command`` as ``account`` in ``directory``; raises `OSError` where that fails.

        ``directory`` is what relative file names among the settings are relative to.
        """
        self.command = tuple(command)
        self._account = account
        self._directory = directory
        self._log: deque[bytes] = deque(maxlen=LOG_LINES)
        self._logfile = logfile
        self._log_start = 0 if logfile is None else os.fstat(logfile.fileno()).st_size
        started: Future[subprocess.Popen[bytes]] = Future()
        self._thread = threading.Thread(
            target=self._stay, args=(started,), name="copyd-server", daemon=True
        )
        self._thread.start()
        self.popen = started.result()

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a child that was not waited for cannot be mistaken for another."""
        self.popen.send_signal(number)

    def log(self) -> str:
        """Return the last lines that the server wrote."""
        if self._logfile is None:
            # Copying a deque is one step for the thread that extends it.
            return b"".join(self._log.copy()).decode(errors="replace")
        try:
            with Path(self._logfile.name).open("rb") as file:
                file.seek(self._log_start)
                lines = deque(file, maxlen=LOG_LINES)
        except (OSError, AttributeError, TypeError):
            return ""  # a log file without a name that we can open keeps its log to itself
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
        if process.stdout is not None:
            with process.stdout as log:
                self._log.extend(log)
        process.wait()


def stopping_with_parent(
    command: Sequence[str], account: Account, *, setpriv: str | None
) -> list[str]:
    """Wrap a server's command so that it is shut down fast when this process ends.

    The kernel's signal has to be asked for after the change of user, which clears it: hence a
    program in between that asks and then becomes the server. It goes on only under this very
    process, which may have ended before it asked. The program is ``setpriv`` (util-linux, its
    path), else this Python, where the account can run it; raises `FileNotFoundError` where
    neither serves.
    """
    here = str(os.getpid())
    if setpriv is not None:
        asking = [setpriv, "--pdeathsig", "INT", "--", "/bin/sh", "-c", _SHELL, here]
    elif account.can_run(Path(sys.executable)):
        number = str(int(signal.SIGINT))
        asking = [sys.executable, "-I", "-S", "-c", _PYTHON, number, here]
    else:
        raise FileNotFoundError(
            f"stopping a server with its parent needs setpriv (util-linux), or that {account.name} "
            f'can run {sys.executable}; install setpriv, or choose on_parent_exit="leave"'
        )
    return [*asking, *command]
