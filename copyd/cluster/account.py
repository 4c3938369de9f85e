"""The operating system account that PostgreSQL's programs run as, and how they are started.

PostgreSQL refuses to run as root. A root process therefore runs every program as another account,
which must exist: copyd creates none. An ordinary user's programs run as that user.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copyd.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FALLBACK_NAMES = ("postgres", "nobody")  # the accounts that a root process tries if none is named


@dataclass(frozen=True)
class Account:
    """The fields of an account's entry that running a program needs."""

    name: str
    uid: int
    gid: int
    home: str

    @classmethod
    def calling(cls) -> Account:
        """Return the account of this process; raises `ClusterError` if the account has no name."""
        uid = os.geteuid()
        try:
            return cls._of(pwd.getpwuid(uid))
        except KeyError:
            raise ClusterError(
                f"user id {uid} has no entry in the account database, and initdb needs one; "
                "add it, or run as another account"
            ) from None

    @classmethod
    def for_servers(cls, run_as: str | None = None) -> Account:
        """Return the account that servers run as: see the module's rule.

        Raises `ClusterError` if ``run_as`` does not exist or is root, or if it differs from the
        account of a process that is not root.
        """
        caller = cls.calling()
        if caller.uid != 0:
            if run_as not in (None, caller.name):
                raise ClusterError(
                    f"only root can run a server as {run_as}; this process is {caller.name}"
                )
            return caller
        names = FALLBACK_NAMES if run_as is None else (run_as,)
        for name in names:
            try:
                account = cls._of(pwd.getpwnam(name))
            except KeyError:
                continue
            if account.uid == 0:
                raise ClusterError(f"PostgreSQL refuses to run as root: {name} has user id 0")
            return account
        raise ClusterError(
            f"no account named {' or '.join(names)} to run PostgreSQL as; name one with run_as"
        )

    @classmethod
    def _of(cls, entry: pwd.struct_passwd) -> Account:
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)

    @property
    def is_other(self) -> bool:
        """Whether a program has to change its user to run as this account."""
        return self.uid != os.geteuid()

    def own(self, target: Path | int) -> None:
        """Make the account the owner of a path or an open file; does nothing for an ordinary user."""
        if not self.is_other:
            return
        if isinstance(target, int):
            os.fchown(target, self.uid, self.gid)
        else:
            os.chown(target, self.uid, self.gid, follow_symlinks=False)

    def popen(
        self, command: Sequence[str], *, stdout: int, stderr: int, cwd: str | Path = "/"
    ) -> subprocess.Popen[bytes]:
        """Start a program as the account; it inherits only the output streams.

        The environment is built from scratch: neither the operator's ``PG*`` variables nor
        ``NOTIFY_SOCKET`` reach a server. A session of its own shields the program from Ctrl-C.
        """
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            user=self.uid if self.is_other else None,
            group=self.gid if self.is_other else None,
            # Without root's supplementary groups, which a plain change of user would keep.
            extra_groups=[] if self.is_other else None,
            env=self._environment(),
            cwd=cwd,
            umask=0o077,
            start_new_session=True,
        )

    def run(
        self, command: Sequence[str], *, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as the account and return its output.

        Raises `subprocess.TimeoutExpired` after killing the program and its children, `OSError` if
        it cannot start.
        """
        pipe = subprocess.PIPE
        with self.popen(command, stdout=pipe, stderr=pipe) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # its children too: it leads a session
                process.communicate()  # until all of them have closed the pipes
                raise
        return subprocess.CompletedProcess(
            list(command),
            process.returncode,
            out.decode(errors="replace"),
            err.decode(errors="replace"),
        )

    def can_run(self, program: Path) -> bool:
        """Whether the account can execute ``program`` (tried with ``--version``)."""
        # Modes do not tell: a closed folder above, noexec or a missing library prevent it too.
        try:
            return self.run([str(program), "--version"], timeout=10).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def can_enter(self, directory: Path) -> bool:
        """Whether the account may enter ``directory``, which needs x on all folders above it."""
        return self.run(["/bin/sh", "-c", 'cd -- "$0"', str(directory)]).returncode == 0

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": self.home,
            "LC_ALL": "C",  # untranslated messages, which `explain_log` parses
            "LOGNAME": self.name,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "USER": self.name,
        }
