"""A COPY statement as a state machine, on any link."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from copyd.connection import Connection
    from copyd.wire import CommandTag

CANCEL_TIMEOUT = 5.0
"""Seconds to wait for a cancel request. libpq returns once the server has processed the request, so
no later statement can be cancelled."""
LISTEN_EVERY = 1024 * 1024  # bytes sent to a server before its messages are read again


class State(Enum):
    """The steps of a COPY; `MOVES` has the order."""

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
    """A COPY statement, from its sending until the connection is free again.

    ``error`` is the server's first error, ``tag`` its CommandComplete.
    """

    wanted: str  # the kind of COPY, for error messages
    preceding = 0  # number of commands before the COPY in its statement
    is_last = True
    """Whether libpq must learn the server's state afterwards; else another statement follows."""

    def __init__(self, connection: Connection, statement: bytes) -> None:
        self._connection = connection
        self._statement = statement
        self._state = State.NEW
        self._is_aborting = False
        self.error: psycopg.Error | None = None
        self._outgoing: list[memoryview] = []
        self.tag: CommandTag | None = None
        self._moved = 0

    @property
    def progress(self) -> int:
        """Bytes sent or received so far."""
        return self._moved

    @property
    def can_resume(self) -> bool:
        return self._state is State.COPYING

    @property
    def is_finished(self) -> bool:
        return self._state is State.ENDED and self.tag is not None

    def fileno(self) -> int | None:
        return None if self._state in RESTING else self._connection.fileno()

    @property
    @abstractmethod
    def events(self) -> int:
        """The poll events to wait for."""

    @abstractmethod
    def start(self) -> None:
        """Send the COPY statement and move to STARTING."""

    def pump(self) -> bool:
        """Continue the last step; True when the step is done.

        Raises psycopg.Error: the server's error, once the connection is free again, or the loss of
        the connection, once it is closed.
        """
        try:
            if self._state not in RESTING:
                self._pump_copy()
        except BaseException as error:
            # Decision: Interrupted between two instructions, a connection is closed
            # A signal's exception leaves open how much was sent.
            self.close()
            if self.error is not None and isinstance(error, Exception):
                raise self.error from error
            raise
        if self._state is State.ENDED and self.error is not None and not self._is_aborting:
            raise self.error
        return self._state in RESTING or (self._state is State.COPYING and self._has_sent_all)

    def abort(self, reason: str) -> None:
        """Begin to leave COPY; raises psycopg.Error if the connection has to be closed."""
        if not self._is_aborting:
            self._is_aborting = True
            self._abort(reason)

    def close(self) -> None:
        """Close the connection; the server rolls back."""
        self._release()
        self._connection.close()
        self._move(State.LOST)

    def _move(self, state: State) -> None:
        if state not in MOVES[self._state]:
            raise RuntimeError(f"a COPY that is {self._state.value} cannot be {state.value}")
        self._state = state

    @property
    def _has_sent_all(self) -> bool:
        return not self._outgoing

    def _fail(self, error: psycopg.Error) -> None:
        self.error = self.error or error
        self.tag = None

    def _refuse_statement(self) -> None:
        self._fail(psycopg.ProgrammingError(f"the statement is not one {self.wanted}"))

    def _cancel(self) -> None:
        self._connection.cancel_safe(timeout=CANCEL_TIMEOUT)

    @abstractmethod
    def _abort(self, reason: str) -> None:
        """Make the server end the COPY with nothing kept, from any state."""

    @abstractmethod
    def _pump_copy(self) -> None:
        """Send and receive without waiting, from STARTING to RETURNING."""

    def _release(self) -> None:
        self._outgoing = []
