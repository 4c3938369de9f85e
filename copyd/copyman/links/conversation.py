"""One COPY statement as a state machine, on whatever link its data travels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from copyd.connection import Connection
    from copyd.copyman.links.query import Query
    from copyd.wire import CommandTag

CANCEL_TIMEOUT = 5.0
"""Seconds to wait for a server to take a cancel request.

libpq waits until the request was carried out, so that it cannot hit a later statement.
"""
LISTEN_EVERY = 1024 * 1024
"""Bytes sent to a server before its messages are read again."""


class State(Enum):
    """Where the conversation with the server stands."""

    NEW = "new"
    STARTING = "entering COPY"
    COPYING = "in COPY"
    ENDING = "leaving COPY"
    RETURNING = "handing back to libpq"
    ENDED = "ended"
    LOST = "lost"


MOVES = {
    State.NEW: {State.STARTING, State.LOST},
    State.STARTING: {State.COPYING, State.ENDING, State.RETURNING, State.ENDED, State.LOST},
    State.COPYING: {State.ENDING, State.RETURNING, State.LOST},
    State.ENDING: {State.RETURNING, State.ENDED, State.LOST},
    State.RETURNING: {State.ENDED, State.LOST},
    State.ENDED: {State.LOST},
    State.LOST: {State.LOST},
}
RESTING = (State.NEW, State.ENDED, State.LOST)


class Conversation(ABC):
    """One COPY statement, from its sending until the connection is free again."""

    wanted: str
    """The kind of COPY, for people."""
    preceding = 0
    """Commands that stand before the COPY in its statement."""
    is_last = True
    """Whether libpq is to know afterwards where the server stands; else something more follows."""

    def __init__(self, connection: Connection, statement: bytes) -> None:
        self._connection = connection
        self._statement = statement
        self._state = State.NEW
        self._is_aborting = False
        self._error: psycopg.Error | None = None
        self._query: Query | None = None
        self._outgoing: list[memoryview] = []
        self.tag: CommandTag | None = None
        self._moved = 0

    @property
    def progress(self) -> int:
        """Bytes of the COPY that were sent or received."""
        return self._moved

    @property
    def state(self) -> State:
        """Where the conversation stands."""
        return self._state

    @property
    def error(self) -> psycopg.Error | None:
        """The server's first error."""
        return self._error

    @property
    def can_resume(self) -> bool:
        """Whether it is in COPY, however slow the other side may be."""
        return self._state is State.COPYING

    def fileno(self) -> int | None:
        """Return the connection's descriptor, None where there is nothing to wait for."""
        return None if self._state in RESTING else self._connection.fileno()

    @property
    def events(self) -> int:
        """Poll events to wait for."""
        return self._query.events if self._query is not None else self._copy_events()

    @abstractmethod
    def start(self) -> None:
        """Send the COPY statement and move to STARTING."""

    def pump(self) -> bool:
        """Go on with the last step; True when it is done.

        Raises psycopg.Error: the server's error, once the connection is free again, or the loss of
        the connection, once it is closed.
        """
        try:
            if self._query is not None:
                self._pump_query(self._query)
            elif self._state not in RESTING:
                self._pump_copy()
        except BaseException as error:
            # Also where a signal's exception came in between: nobody knows now what was sent.
            self.close()
            if self._error is not None and isinstance(error, Exception):
                raise self._error from error
            raise
        if self._state is State.ENDED and self._error is not None and not self._is_aborting:
            raise self._error
        return self._state in RESTING or (self._state is State.COPYING and self._has_sent_all)

    def abort(self, reason: str) -> None:
        """Begin to leave COPY; `pump` is True when the connection is free again.

        Raises psycopg.Error where the connection can only be closed.
        """
        if not self._is_aborting:
            self._is_aborting = True
            self._abort(reason)

    def close(self) -> None:
        """Close the connection: the server rolls back what it was given."""
        self._release()
        self._query = None
        self._connection.close()
        self._move(State.LOST)

    def _move(self, state: State) -> None:
        if state not in MOVES[self._state]:
            raise RuntimeError(f"a COPY that is {self._state.value} cannot be {state.value}")
        self._state = state

    @property
    def _has_sent_all(self) -> bool:
        return not self._outgoing

    def _pump_query(self, query: Query) -> None:
        """Wait for libpq to see, with an empty statement, where the server stands."""
        if query.pump():
            self._query = None
            self._move(State.ENDED)

    def _fail(self, error: psycopg.Error) -> None:
        """Keep the first error, to be raised when the connection is free again."""
        if self._error is None:
            self._error = error
        self.tag = None

    def _refuse_statement(self) -> None:
        self._fail(psycopg.ProgrammingError(f"the statement is not one {self.wanted}"))

    def _cancel(self) -> None:
        """Ask the server to stop the statement.

        Raises psycopg.Error where it cannot be told within `CANCEL_TIMEOUT` seconds.
        """
        self._connection.cancel_safe(timeout=CANCEL_TIMEOUT)

    @abstractmethod
    def _abort(self, reason: str) -> None:
        """Ask the server, as far as it has come, to end the COPY with nothing kept."""

    @abstractmethod
    def _copy_events(self) -> int:
        """Poll events to wait for between STARTING and ENDING."""

    @abstractmethod
    def _pump_copy(self) -> None:
        """Send and receive what can be without waiting, from STARTING to ENDING."""

    def _release(self) -> None:
        """Give up everything but the connection."""
        self._outgoing = []
