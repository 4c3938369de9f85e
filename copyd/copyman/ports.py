"""The ports of a copy, between a manager and its parties, and between a party and its link.

No method waits. A step is begun (start, offer, finish, abort) and then pumped until it is
done. Only the manager waits, and it decides how long and for which party.
"""

# Decision: Everything is pumped, one place waits

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from copyd.copyman.chunk import Chunk
    from copyd.wire import CommandTag


class Link(NamedTuple):
    """How COPY data travels on a connection, and the reason for this choice."""

    name: str
    reason: str


class Pumped(Protocol):
    """Carries out a step at a time without ever waiting."""

    def pump(self) -> bool:
        """Continue the last step as far as possible now; True when the step is done.

        Raises the fault: psycopg's own error for an error of the server.
        """

    def fileno(self) -> int | None:
        """Return the descriptor to wait on; None if there is nothing to wait for."""

    @property
    def events(self) -> int:
        """Poll events to wait for: ``select.POLLIN``, ``select.POLLOUT`` or both."""

    @property
    def progress(self) -> int:
        """About how many bytes were moved so far; constant while the other side stalls."""

    @property
    def can_resume(self) -> bool:
        """Whether a step can be pumped again after an exception."""

    def abort(self, reason: str) -> None:
        """Begin to leave COPY before its end with nothing kept; idempotent.

        `reason` is sent to the server, which may log it.
        """

    def close(self) -> None:
        """Give up at once and close the connection, if any."""


class Copy(Pumped, Protocol):
    """A COPY on a connection."""

    @property
    def tag(self) -> CommandTag | None:
        """The server's CommandComplete; None before it was received."""

    def start(self) -> None:
        """Begin to enter COPY."""


class CopyOut(Copy, Protocol):
    """A ``COPY ... TO STDOUT`` on a connection."""

    def read(self) -> Chunk | None:
        """Return the data since the last call; None if there is none."""

    @property
    def is_finished(self) -> bool:
        """Whether the server completed the COPY and the connection is free again."""


class CopyIn(Copy, Protocol):
    """A ``COPY ... FROM STDIN`` on a connection."""

    def offer(self, chunk: Chunk) -> None:
        """Begin to send all of `chunk`."""

    def finish(self) -> None:
        """End the data and begin to wait for the server's verdict."""


class Party(Pumped, Protocol):
    """The producer or a receiver of a copy."""

    @property
    def encoding(self) -> str | None:
        """The encoding of the data, in PostgreSQL's spelling; None if unknown or irrelevant."""

    @property
    def rows(self) -> int | None:
        """Rows by the server's own count; None before the end, or without a server."""


class Producer(CopyOut, Party, Protocol):
    """The source of a copy; it runs once."""


class Receiver(CopyIn, Party, Protocol):
    """A destination of a copy."""

    @property
    def is_behind(self) -> bool:
        """Whether data is still being worked on although `pump` returned True.

        The other receivers then continue, and the manager pumps this receiver beside them.
        """
