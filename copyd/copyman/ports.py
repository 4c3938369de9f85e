"""The seams of the relay: what a manager needs of the two ends, and what they need of a link.

Everything at these seams works without waiting. A step is asked for (start, offer, finish,
abort) and then pumped until it is done; who waits, for how long and for whom is the manager's
business alone.
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
    """Something that carries out one step at a time without ever waiting."""

    def pump(self) -> bool:
        """Do what can be done now; True when the last step asked for is done.

        Raises what went wrong: a genuine psycopg error where the server said it.
        """

    def fileno(self) -> int | None:
        """Return the descriptor to wait on, None where there is nothing to wait for."""

    @property
    def events(self) -> int:
        """What to wait for: ``select.POLLIN``, ``select.POLLOUT`` or both."""

    @property
    def progress(self) -> int:
        """Bytes moved so far, about; it stands still while the other side stalls."""

    @property
    def can_resume(self) -> bool:
        """Whether a step that raised may simply be pumped on."""

    def abort(self, reason: str) -> None:
        """Begin to leave COPY before its end with nothing kept; `reason` is for the other side.

        Once told, it does not matter to be told again.
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
        """Return what has come since the last call, None where nothing has."""

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
        """Say that the data is complete and begin to wait for the server's verdict."""


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
        """Whether it is still at work on what it was given, though `pump` said that it is done.

        It lets the others go on then, and is pumped beside them.
        """
