"""What can go wrong with an installation or a cluster; every message is a sentence for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClusterError(CopydError):
    """Anything that went wrong with a cluster or with the installation under it."""


class InstallationNotFoundError(ClusterError):
    """No PostgreSQL was found; ``searched`` names the places, in the order of the search."""

    def __init__(self, searched: Sequence[str]) -> None:
        self.searched = tuple(searched)
        super().__init__(
            f"no PostgreSQL installation found (searched: {', '.join(self.searched)}); "
            "install your distribution's postgresql package, or for a demo or a test "
            "run: pip install 'copyd[demo]'"
        )


class ClusterInitializationError(ClusterError):
    """The data directory could not be made, or is none yet."""


class InitDBError(ClusterInitializationError):
    """``initdb`` refused: ``details`` is its stderr, ``stdout`` what it said before."""

    def __init__(self, message: str, *, exit_code: int, details: str, stdout: str) -> None:
        self.exit_code = exit_code
        self.details = details
        self.stdout = stdout
        super().__init__(message)


class ClusterStartupError(ClusterError):
    """The server ended, or could not be started, before it accepted connections.

    ``exit_code`` is None where no process was started, negative for a signal, as in
    `subprocess`; ``log`` is the end of what the server wrote.
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
    """The action needs a running server and there is none."""


class ClusterTimeoutError(ClusterError):
    """The server (or ``initdb``) did not get there in the given time."""
