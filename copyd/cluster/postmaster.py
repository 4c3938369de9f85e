"""The server process of a data directory, observed and signalled.

No other module signals a process that copyd did not start. A signal is sent only after
`lifecycle.identify` has proved from Linux's ``/proc`` that the process is the server.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import struct
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from copyd.cluster.lifecycle import Holder, PidFile, ProcessFacts, identify, parse_pid_file

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""PostgreSQL docs, "Message Formats", SSLRequest: answered before any authentication."""

_WILDCARDS = {"*": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (read, not bound)


@dataclass(frozen=True)
class Postmaster:
    """A lock file and the process with its id, observed together."""

    pid_file: PidFile
    holder: Holder

    @classmethod
    def observe(cls, data_directory: Path, lock: Path | None = None) -> Postmaster | None:
        """Read a data directory's lock file and its process; None without a lock file.

        ``lock`` is another file of that format: the one beside a socket.
        """
        try:
            text = os.fsdecode((lock or data_directory / "postmaster.pid").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        pid_file = parse_pid_file(text)
        if pid_file is None:
            return None
        facts = observe_process(pid_file.pid)
        return cls(pid_file, identify(pid_file, facts, str(data_directory.resolve())))

    def signal(self, number: signal.Signals, data_directory: Path) -> bool:
        """Send a signal; returns False, and sends none, if the process is not provably the server."""
        # Identified again behind a pidfd: the id may have been reused since `observe`.
        try:
            descriptor = os.pidfd_open(self.pid_file.pid)
        except ProcessLookupError:
            return False
        try:
            now = Postmaster.observe(data_directory)
            if now is None or now.pid_file.pid != self.pid_file.pid:
                return False
            if now.holder is not Holder.SERVER:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    @property
    def host(self) -> str:
        """The host for clients: the socket directory, else the listen address."""
        address = self.pid_file.listen_address
        return self.pid_file.socket_directory or _WILDCARDS.get(address, address)

    def answers(self, timeout: float = 1.0) -> bool:
        """Whether the server answers an SSLRequest, which needs no authentication.

        Works with every authentication method and leaves no error in the server's log. Over a Unix
        socket, the kernel names the listening process, so another server's answer does not count.
        """
        if not self.host or self.pid_file.port is None:
            return False
        try:
            with closing(self._connect(timeout)) as connection:
                connection.sendall(_SSL_REQUEST)
                answer = connection.recv(1)
                if answer == b"S":
                    _shake_hands(connection)
                return answer in (b"S", b"N")
        except OSError:
            return False

    def _connect(self, timeout: float) -> socket.socket:
        port = self.pid_file.port or 0
        if not self.pid_file.socket_directory:
            return socket.create_connection((self.host, port), timeout)
        path = f"{self.host}/.s.PGSQL.{port}"
        with ExitStack() as on_failure:
            connection = on_failure.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(timeout)
            connection.connect(f"\0{path}" if path.startswith("@") else path)
            if _listener(connection) != self.pid_file.pid:
                raise ConnectionRefusedError(f"another process listens on {path}")
            on_failure.pop_all()
        return connection


def observe_process(pid: int) -> ProcessFacts | None:
    """Read the facts of a process; None if it is gone.

    A zombie (state Z) counts as gone, and so does an exiting process, which has no executable.
    """
    process = Path("/proc", str(pid))
    try:
        # The second field is the program's name in parentheses and may hold anything.
        fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
        arguments = (process / "cmdline").read_bytes().split(b"\0")
        if fields[0] in "ZX":
            return None
        return ProcessFacts(
            started=_boot_time() + int(fields[19]) / os.sysconf("SC_CLK_TCK"),
            program=_program(process, arguments),
            directory=_directory(process, arguments),
        )
    except (FileNotFoundError, ProcessLookupError):
        return None


def attachments(shared_memory_id: int | None) -> int:
    """Return the number of processes attached to a System V shared memory segment.

    After a SIGKILL, a server's children outlive it for a moment, attached to its segment.
    """
    for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1]) == shared_memory_id:
            return int(fields[6])
    return 0


def _shake_hands(connection: socket.socket) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with suppress(OSError):  # the server has answered; whether TLS works does not matter
        context.wrap_socket(connection).close()


def _boot_time() -> int:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    raise OSError("/proc/stat has no boot time (btime)")


def _program(process: Path, arguments: list[bytes]) -> str | None:
    try:
        target = str((process / "exe").readlink()).removesuffix(" (deleted)")
    except PermissionError:
        target = os.fsdecode(arguments[0])
    return Path(target).name or None


def _directory(process: Path, arguments: list[bytes]) -> str | None:
    try:
        return str((process / "cwd").readlink())
    except PermissionError:
        named = [value for flag, value in pairwise(arguments) if flag == b"-D"]
        return os.path.realpath(os.fsdecode(named[-1])) if named else None


def _listener(connection: socket.socket) -> int:
    credentials = struct.Struct("3i")
    answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    pid: int = credentials.unpack(answer)[0]
    return pid
