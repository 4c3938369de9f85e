"""COPY through libpq's own functions, for any connection, at the price of a call a row."""

from __future__ import annotations

import select
from abc import abstractmethod
from typing import TYPE_CHECKING

from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from copyd.copyman.chunk import PayloadChunk
from copyd.copyman.links.conversation import LISTEN_EVERY, RESTING, Conversation, State
from copyd.wire import CommandTag

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic
    from psycopg.pq.abc import PGresult

    from copyd.connection import Connection
    from copyd.copyman.chunk import Chunk

CHUNK_SIZE = 64 * 1024
PIECE_SIZE = 16 * 1024  # bytes passed to libpq at once; no progress is visible within them


class _LibpqConversation(Conversation):
    """From PQsendQuery until PQgetResult has no more results."""

    answer: ExecStatus  # the result status by which the server enters the wanted kind of COPY

    def __init__(self, connection: Connection, statement: bytes) -> None:
        super().__init__(connection, statement)
        self._pgconn = connection.pgconn
        self._is_discarding = False  # data of a cancelled COPY OUT

    def start(self) -> None:
        self._pgconn.send_query(self._statement)
        self._move(State.STARTING)

    @property
    def events(self) -> int:
        is_sending = bool(self._outgoing) or self._pgconn.flush() == 1
        return select.POLLIN | (select.POLLOUT if is_sending else 0)

    def _pump_copy(self) -> None:
        if self._state is State.COPYING:
            self._pump_data()
        if self._state is not State.COPYING:  # also when it left COPY just now
            self._pump_results()

    @abstractmethod
    def _pump_data(self) -> None:
        """Move COPY data without waiting."""

    def _pump_results(self) -> None:
        self._pgconn.flush()
        self._pgconn.consume_input()
        while self._discard() and not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                self._release()
                self._move(State.ENDED)
                return
            is_wanted = self._state is State.STARTING and result.status == self.answer
            if is_wanted and not self._is_aborting:
                self._move(State.COPYING)
                return
            self._hear(result)

    def _hear(self, result: PGresult) -> None:
        match result.status:
            case ExecStatus.FATAL_ERROR:
                self._fail(error_from_result(result, self._connection.info.encoding))
            case ExecStatus.COMMAND_OK if self._state is State.ENDING and self.tag is None:
                self.tag = CommandTag.parse(result.command_status or b"")
            case ExecStatus.COMMAND_OK if self._state is State.STARTING and self.preceding:
                self.preceding -= 1
            case ExecStatus.COPY_IN:
                self._refuse_statement()
                self._pgconn.put_copy_end(b"the copy was given up")
            case ExecStatus.COPY_OUT:
                self._refuse_statement()
                self._throw_away()
            case _:
                self._refuse_statement()

    def _throw_away(self) -> None:
        self._cancel()
        self._is_discarding = True

    def _discard(self) -> bool:
        count = 1
        while self._is_discarding and count > 0:
            count, _ = self._pgconn.get_copy_data(1)
            self._is_discarding = count >= 0
            self._moved += max(count, 0)
        return not self._is_discarding


class LibpqCopyOut(_LibpqConversation):
    """``COPY ... TO STDOUT``, message by message."""

    answer = ExecStatus.COPY_OUT
    wanted = "COPY ... TO STDOUT"

    def __init__(self, connection: Connection, statement: bytes) -> None:
        super().__init__(connection, statement)
        self._pieces: list[bytes] = []

    def read(self) -> Chunk | None:
        """Return the messages received since the last call, or None; raises as `pump` does."""
        self.pump()
        pieces, self._pieces = self._pieces, []
        return PayloadChunk(pieces) if pieces else None

    def _abort(self, reason: str) -> None:
        del reason  # a cancel request carries no text
        if self._state is State.STARTING:
            self._cancel()
        elif self._state is State.COPYING:
            self._throw_away()
            self._move(State.ENDING)

    def _pump_data(self) -> None:
        size, before = 0, -1
        while before < size < CHUNK_SIZE and self._state is State.COPYING:
            before = size
            self._pgconn.consume_input()  # libpq reads 8 or 16 kB at a time
            size += self._take_messages()
        self._moved += size

    def _take_messages(self) -> int:
        size = 0
        count, data = self._pgconn.get_copy_data(1)
        while count > 0:
            self._pieces.append(bytes(data))
            size += count
            count, data = self._pgconn.get_copy_data(1)
        if count < 0:
            self._move(State.ENDING)
        return size


class LibpqCopyIn(_LibpqConversation):
    """``COPY ... FROM STDIN``; libpq frames the payload of each chunk anew."""

    answer = ExecStatus.COPY_IN
    wanted = "COPY ... FROM STDIN"

    def __init__(self, connection: Connection, statement: bytes) -> None:
        super().__init__(connection, statement)
        self._listened_at = 0
        self._notices: list[Diagnostic] = []
        self._is_unexplained = False

    def offer(self, chunk: Chunk) -> None:
        if self._state is not State.COPYING:
            return  # the server has refused the COPY: `pump` raises the error
        payload = memoryview(chunk.payload)
        self._outgoing = [
            payload[start : start + PIECE_SIZE] for start in range(0, len(payload), PIECE_SIZE)
        ]

    def finish(self) -> None:
        if self._state is State.COPYING:
            self._pgconn.put_copy_end(None)
            self._move(State.ENDING)

    def _abort(self, reason: str) -> None:
        if self._state is State.COPYING:
            self._leave(reason)
        elif self._state in (State.STARTING, State.ENDING) and self.error is None:
            self._cancel()

    def start(self) -> None:
        self._connection.add_notice_handler(self._notices.append)
        super().start()

    def _release(self) -> None:
        if self._state not in RESTING:
            self._connection.remove_notice_handler(self._notices.append)
        super()._release()

    def _leave(self, reason: str) -> None:
        self._outgoing = []
        self._pgconn.put_copy_end(reason.encode("utf-8", "replace"))
        self._move(State.ENDING)

    def _pump_data(self) -> None:
        is_idle = not self._outgoing
        while self._pgconn.flush() == 0 and self._outgoing:
            piece = self._outgoing.pop(0)
            self._pgconn.put_copy_data(piece)
            self._moved += len(piece)
        if is_idle or self._outgoing or self._moved - self._listened_at >= LISTEN_EVERY:
            self._listened_at = self._moved
            self._listen()

    def _listen(self) -> None:
        """Drain notices, and detect an error of the server.

        libpq does not report an error during COPY IN. But a server sends little else then: data
        without a notice by the next call is an error.
        """
        self._notices.clear()
        poller = select.poll()
        poller.register(self._pgconn.socket, select.POLLIN)
        has_data = bool(poller.poll(0))
        if has_data:
            self._pgconn.consume_input()
        self._pgconn.is_busy()  # makes libpq deliver buffered notices
        if self._is_unexplained and not self._notices:
            self._leave("the server refused a row")
        self._is_unexplained = has_data and not self._notices
