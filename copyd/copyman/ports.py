"""The ports of a copy: what a manager needs of its two ends, and what they need of a link.

No method here waits. A step is begun (start, offer, finish, abort) and then pumped until it is
done; only the manager waits, and decides how long and for whom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from copyd.copyman.chunk import Chunk
    from copyd.wire import CommandTag


class Link(NamedTuple):
    """How COPY data travels on a connection, and why that way was chosen."""

    name: str
    reason: str


class Pumped(Protocol):
    """Carries out one step at a time without ever waiting."""

    def pump(self) -> bool:
        """Go on with the last step as far as possible now; True when it is done.

        Raises the fault: a genuine psycopg error if the server reported it.
        """

    def fileno(self) -> int | None:
        """Return the descriptor to wait on, None where there is nothing to wait for."""

    @property
    def events(self) -> int:
        """Poll events to wait for: ``select.POLLIN``, ``select.POLLOUT`` or both."""

    @property
    def progress(self) -> int:
        """About how many bytes moved so far; constant while the other side stalls."""

    @property
    def can_resume(self) -> bool:
        """Whether a step that raised may simply be pumped on."""

    def abort(self, reason: str) -> None:
        """Begin to leave COPY before its end with nothing kept; the server is told `reason`.

        Idempotent.
        """

    def close(self) -> None:
        """Give up at once: the connection, if there is one, is closed."""


class CopyOut(Pumped, Protocol):
    """One ``COPY ... TO STDOUT`` on a connection."""

    @property
    def tag(self) -> CommandTag | None:
        """The server's CommandComplete, None before it came."""

    def start(self) -> None:
        """Begin to enter COPY."""

    def read(self) -> Chunk | None:
        """Return the data since the last call, None where there is none."""

    @property
    def is_finished(self) -> bool:
        """Whether the server completed the COPY and the connection is an ordinary one again."""


class CopyIn(Pumped, Protocol):
    """One ``COPY ... FROM STDIN`` on a connection."""

    @property
    def tag(self) -> CommandTag | None:
        """The server's CommandComplete, None before it came."""

    def start(self) -> None:
        """Begin to enter COPY."""

    def offer(self, chunk: Chunk) -> None:
        """Begin to send `chunk`, all of it."""

    def finish(self) -> None:
        """End the data and begin to wait for the server's verdict."""


class Producer(CopyOut, Protocol):
    """The source of a copy; it runs once."""

    @property
    def encoding(self) -> str | None:
        """The encoding of the data, in PostgreSQL's spelling; None where it is not known."""

    @property
    def rows(self) -> int | None:
        """Rows that the server says it sent; None before the end, or where no server is."""


class Receiver(CopyIn, Protocol):
    """One target of a copy."""

    @property
    def encoding(self) -> str | None:
        """The encoding that the data is taken to be in; None where any will do."""

    @property
    def rows(self) -> int | None:
        """Rows that the server says it stored; None before the end, or where no server is."""

    @property
    def is_behind(self) -> bool:
        """Whether it still works on its data although `pump` returned True.

        The others go on then, and it is pumped beside them.
        """
