"""Create a data directory completely, or leave nothing behind.

PostgreSQL docs, "initdb" and "Peer Authentication". A password is passed in a temporary file that
only the server's account can read, never on a command line.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd.cluster.account import Account
from copyd.cluster.errors import ClusterInitializationError, ClusterTimeoutError, InitDBError
from copyd.cluster.settings import Settings, read_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAP_NAME = "copyd"  # the map of pg_ident.conf that names the superuser; written with every auth

PEER_HBA = f"""\
# Over the socket, for the accounts that pg_ident.conf maps; no TCP login.
local all         all peer map={MAP_NAME}
local replication all peer map={MAP_NAME}
"""

_MAPPED = re.compile(rf'^{MAP_NAME} "(?:[^"]|"")*" "((?:[^"]|"")*)"$', re.MULTILINE)


@dataclass(frozen=True)
class InitDB:
    """One run of ``initdb`` and its options."""

    program: Path
    account: Account
    superuser: str
    encoding: str
    locale: str
    auth: str | None
    options: tuple[str, ...]
    password: str | None = field(repr=False)

    @property
    def method(self) -> str:
        """The authentication method: see `Cluster.init`."""
        return self.auth or ("peer" if self.password is None else "scram-sha-256")

    def make(self, data_directory: Path, *, scratch: Path, timeout: float) -> None:
        """Create the data directory; the password file is in ``scratch`` meanwhile."""
        with self._new(data_directory), self._password_file(scratch) as options:
            self._run([*self._command(data_directory), *options], data_directory, timeout)
            self._finish(data_directory)

    def _command(self, data_directory: Path) -> list[str]:
        return [
            str(self.program),
            *("-D", str(data_directory), "-U", self.superuser, "-E", self.encoding),
            f"--locale={self.locale}",
            f"--auth-local={self.method}",
            # PostgreSQL has no peer authentication over TCP.
            f"--auth-host={'reject' if self.method == 'peer' else self.method}",
            *self.options,
        ]

    def _run(self, command: Sequence[str], data_directory: Path, timeout: float) -> None:
        try:
            done = self.account.run(command, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise ClusterTimeoutError(
                f"initdb did not finish in {data_directory} within {timeout:g} s"
            ) from None
        except OSError as error:
            raise ClusterInitializationError(f"cannot run {command[0]}: {error}") from error
        if done.returncode != 0:
            raise InitDBError(
                f"initdb could not create {data_directory}: {done.stderr.strip()}",
                exit_code=done.returncode,
                details=done.stderr,
                stdout=done.stdout,
            )

    def _finish(self, data_directory: Path) -> None:
        """Close TCP, and let the calling and the server's account connect as the superuser."""
        names = dict.fromkeys((Account.calling().name, self.account.name))
        lines = [f"{MAP_NAME} {_quoted(name)} {_quoted(self.superuser)}\n" for name in names]
        header = "# MAP  SYSTEM-ACCOUNT  DATABASE-USER\n"
        replace_file(data_directory / "pg_ident.conf", header + "".join(lines))
        if self.method == "peer":
            replace_file(data_directory / "pg_hba.conf", PEER_HBA)
        Settings(data_directory / "postgresql.conf")["listen_addresses"] = ""

    @contextmanager
    def _new(self, directory: Path) -> Iterator[None]:
        existed = directory.exists()
        if existed and any(directory.iterdir()):
            yield  # initdb will refuse; these files are not ours to remove
            return
        self._own_empty(directory)  # initdb runs as the server's account and cannot create it
        try:
            yield
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            if existed:
                self._own_empty(directory)
            raise

    def _own_empty(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
        self.account.own(directory)

    @contextmanager
    def _password_file(self, scratch: Path) -> Iterator[Sequence[str]]:
        if self.password is None:
            yield ()
            return
        if "\n" in self.password:  # initdb reads the first line only
            raise ValueError("a password cannot contain a line break")
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="copyd-", dir=scratch
        ) as file:
            file.write(f"{self.password}\n")
            file.flush()
            self.account.own(file.fileno())
            yield (f"--pwfile={file.name}",)


def superuser_of(data_directory: Path) -> str | None:
    """Read the superuser's name from the map; None for a cluster that copyd did not create."""
    with suppress(FileNotFoundError):
        found = _MAPPED.search(read_file(data_directory / "pg_ident.conf"))
        return found[1].replace('""', '"') if found else None
    return None


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
