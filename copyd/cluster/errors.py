"""Errors about installations and clusters; each message is a sentence for an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClusterError(CopydError):
    """The base of the errors about a cluster or its installation."""


class InstallationNotFoundError(ClusterError):
    """No PostgreSQL was found; ``searched`` lists the places in search order."""

    def __init__(self, searched: Sequence[str]) -> None:
        self.searched = tuple(searched)
        super().__init__(
            f"no PostgreSQL installation found (searched: {', '.join(self.searched)}); "
            "install your distribution's postgresql package, or for a demo or a test "
            "run: pip install 'copyd[demo]'"
        )


class ClusterInitializationError(ClusterError):
    """The data directory could not be created, or is not initialized."""


class InitDBError(ClusterInitializationError):
    """``initdb`` failed: ``details`` is its stderr."""

    def __init__(self, message: str, *, exit_code: int, details: str, stdout: str) -> None:
        self.exit_code = exit_code
        self.details = details
        self.stdout = stdout
        super().__init__(message)


class ClusterStartupError(ClusterError):
    """The server could not be started, or ended before it accepted connections.

    ``exit_code`` is None if no process was started, negative for a signal, as in `subprocess`;
    ``log`` is the end of the server's log.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: int | None = None,
        command: Sequence[str] = (),
        log: str = "",
    ) -> None:
        self.exit_code = exit_code
        self.command = tuple(command)
        self.log = log
        super().__init__(message)


class ClusterNotRunningError(ClusterError):
    """The action needs a running server."""


class ClusterTimeoutError(ClusterError):
    """The server or ``initdb`` did not finish in the given time."""
