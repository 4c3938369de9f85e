"""COPY on the borrowed byte stream of an idle libpq connection.

libpq opens the transaction before and sends an empty query afterwards, which updates its view of
the transaction. In between every byte of the stream is copyd's, from the Query message to
ReadyForQuery, and CopyData is relayed unchanged.
"""

from __future__ import annotations

import select
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from copyd.copyman.chunk import WireChunk
from copyd.copyman.links.conversation import LISTEN_EVERY, Conversation, State
from copyd.copyman.links.query import Query, hand_on_notice, server_error
from copyd.wire import (
    COPY_DONE,
    CommandTag,
    Message,
    ProtocolError,
    Scanner,
    copy_fail,
    copy_response,
    query,
)

if TYPE_CHECKING:
    from copyd.connection import Connection
    from copyd.copyman.chunk import Chunk
    from copyd.copyman.links.stream import Stream
    from copyd.wire import Cut

BLOCK_SIZE = 256 * 1024
INBOX_SIZE = 8 * 1024
LARGEST_PADDING = 1024 * 1024
"""The most bytes of padding that are sent to end a message and keep the connection."""


class _WireConversation(Conversation):
    """From the Query message until ReadyForQuery and libpq's empty query."""

    answer: bytes  # the message by which the server enters the wanted kind of COPY

    def __init__(
        self, connection: Connection, statement: bytes, stream: Stream, *, block_size: int
    ) -> None:
        super().__init__(connection, statement)
        self._stream: Stream | None = stream
        self._query: Query | None = None
        self._scanner = Scanner()
        self._block = bytearray(block_size)
        self._view = memoryview(self._block)
        self._rest = b""
        self._is_ready = False

    def start(self) -> None:
        self._outgoing = [memoryview(query(self._statement))]
        self._move(State.STARTING)

    def _release(self) -> None:
        super()._release()
        if self._stream is not None:
            self._stream.close()
        self._stream = self._query = None

    @property
    def events(self) -> int:
        if self._query is not None:
            return self._query.events
        return select.POLLIN | (0 if self._has_sent_all else select.POLLOUT)

    @property
    def _has_sent_all(self) -> bool:
        return not self._outgoing and (self._stream is None or self._stream.is_flushed)

    def _pump_copy(self) -> None:
        if self._query is not None and self._query.pump():
            self._query = None
            self._move(State.ENDED)
        elif self._stream is not None:
            self._pump_stream(self._stream)
            # A server that refuses is ready before the rest of the current message was sent.
            if self._is_ready and self._has_sent_all:
                self._hand_back()

    @abstractmethod
    def _pump_stream(self, stream: Stream) -> None:
        """Send and receive without waiting."""

    def _send(self, stream: Stream) -> None:
        while not self._has_sent_all:
            sent = stream.send(self._outgoing)
            if not sent:
                return
            self._moved += sent
            while self._outgoing and sent >= len(self._outgoing[0]):
                sent -= len(self._outgoing.pop(0))
            if sent:
                self._outgoing[0] = self._outgoing[0][sent:]

    def _receive(self, stream: Stream) -> Cut | None:
        rest = len(self._rest)
        count = stream.receive(self._view[rest:])
        if not count:
            return None
        self._block[:rest] = self._rest  # a part of a header
        stop = rest + count
        cut = self._scanner.feed(self._block, stop)
        self._rest = bytes(self._view[stop - cut.rest : stop])
        for message in cut.others:
            self._hear(message)
        return cut

    def _hear(self, message: Message) -> None:
        match message.kind:
            case b"G" | b"H":
                self._enter_copy(message)
            case b"C" if self._state is State.STARTING and self.preceding:
                self.preceding -= 1
            case b"C" if self._state is State.STARTING or self.tag is not None:
                self._refuse_statement()
            case b"C":
                self.tag = CommandTag.parse(message.body)
            case b"T":
                self._refuse_statement()
                self._cancel()  # a query may return many rows
            case b"I":
                self._refuse_statement()
            case b"E":
                self._fail(server_error(message.body, self._connection.info.encoding))
            case b"Z":
                self._is_ready = True
            case b"N":
                hand_on_notice(self._connection, message.body)

    def _enter_copy(self, message: Message) -> None:
        self._scanner.is_text = not copy_response(message.body).is_binary
        is_wanted = self._state is State.STARTING and message.kind == self.answer
        if is_wanted and not self._is_aborting:
            self._move(State.COPYING)
            return
        if not is_wanted:
            self._refuse_statement()
        if message.kind == b"G":
            self._outgoing.append(memoryview(copy_fail("the copy was given up")))
        else:
            self._cancel()

    def _hand_back(self) -> None:
        if self._rest or not self._scanner.is_between_messages:
            raise ProtocolError("the server went on after it was ready for the next query")
        if self.tag is None and self.error is None:
            raise ProtocolError("the server ended the statement without a verdict")
        self._release()
        self._move(State.RETURNING)
        if self.is_last:
            self._query = Query(self._connection, b"")
        else:
            self._move(State.ENDED)


class WireCopyOut(_WireConversation):
    """``COPY ... TO STDOUT``; a chunk stays in the block where it was received."""

    answer = b"H"
    wanted = "COPY ... TO STDOUT"

    def __init__(self, connection: Connection, statement: bytes, stream: Stream) -> None:
        super().__init__(connection, statement, stream, block_size=BLOCK_SIZE)
        self._received: WireChunk | None = None

    def read(self) -> Chunk | None:
        """Return the data of a block, or None; raises as `pump` does."""
        if self._received is None:
            self.pump()
        chunk, self._received = self._received, None
        return chunk

    def _abort(self, reason: str) -> None:
        del reason  # a cancel request carries no text
        self._received = None
        if self._state in (State.STARTING, State.COPYING):
            self._cancel()
        if self._state is State.COPYING:
            self._move(State.ENDING)

    def _pump_stream(self, stream: Stream) -> None:
        self._send(stream)
        # Until there is a chunk or nothing is left: a poll of the socket does not see bytes that
        # the TLS session has buffered.
        while self._received is None:
            resumed = self._scanner.owed
            cut = self._receive(stream)
            if cut is None:
                return
            self._moved += cut.size
            if cut.spans and not self._is_aborting:
                self._received = WireChunk(self._view, cut, resumed=resumed)


class WireCopyIn(_WireConversation):
    """``COPY ... FROM STDIN``; chunks are sent as the source framed them."""

    answer = b"G"
    wanted = "COPY ... FROM STDIN"

    def __init__(self, connection: Connection, statement: bytes, stream: Stream) -> None:
        super().__init__(connection, statement, stream, block_size=INBOX_SIZE)
        self.largest_padding = LARGEST_PADDING
        self._chunk: Chunk | None = None
        self._is_whole = False
        self._listened_at = 0

    @property
    def progress(self) -> int:
        """Bytes sent, less the bytes in the socket's buffer not read by a local server.

        A poll reports room only when much of the buffer is free; a slow server has not stalled
        until then. While leaving COPY, unread bytes are not subtracted: others may be waiting.
        """
        counts_unsent = self._stream is not None and not self._is_aborting
        return self._moved - (self._stream.unsent if counts_unsent else 0)  # type: ignore[union-attr]

    def start_with(self, chunk: Chunk, end: bytes) -> None:
        """Send the statement, all of its data and its end, without waiting in between.

        A server outside COPY ignores these messages: PostgreSQL documentation, "COPY
        Operations". `pump` is True after the verdict, as after `finish`.
        """
        self.start()
        self._outgoing += [*chunk.framed, memoryview(end)]
        self._is_whole = True

    def _enter_copy(self, message: Message) -> None:
        super()._enter_copy(message)
        if self._is_whole and self._state is State.COPYING:
            self._move(State.ENDING)

    def offer(self, chunk: Chunk) -> None:
        """Begin to send `chunk`; its memory must not change until `pump` returned True."""
        if self._state is State.COPYING:  # else the COPY was refused: `pump` raises the error
            self._chunk = chunk
            self._outgoing = list(chunk.framed)

    def finish(self) -> None:
        if self._state is State.COPYING:
            self._outgoing.append(memoryview(COPY_DONE))
            self._move(State.ENDING)

    def _abort(self, reason: str) -> None:
        if self._state is State.COPYING:
            self._realign()
            self._outgoing.append(memoryview(copy_fail(reason)))
            self._move(State.ENDING)
        elif self._state in (State.STARTING, State.ENDING) and self.error is None:
            self._cancel()

    def _pump_stream(self, stream: Stream) -> None:
        is_idle = self._has_sent_all
        try:
            self._send(stream)
        except psycopg.OperationalError:
            # The server's reason for closing the connection may have arrived before the reset.
            with suppress(psycopg.OperationalError):
                self._receive_all(stream)
            raise
        is_due = self._moved - self._listened_at >= LISTEN_EVERY
        if is_idle or self._outgoing or is_due or self._state is not State.COPYING:
            self._listened_at = self._moved
            self._receive_all(stream)

    def _receive_all(self, stream: Stream) -> None:
        while self._receive(stream) is not None:
            pass

    def _fail(self, error: psycopg.Error) -> None:
        # A server that refused the COPY still reads to the end of the current message.
        super()._fail(error)
        if self._state is State.COPYING:
            self._realign()
            self._move(State.ENDING)

    def _realign(self) -> None:
        """Cut the outgoing data at the end of the current message; pad a missing end."""
        if self._chunk is None:
            return
        missing = self._chunk.owed
        if self._outgoing:
            sent = sum(map(len, self._chunk.framed)) - sum(map(len, self._outgoing))
            missing = self._chunk.boundary(sent) - sent
        if missing > self.largest_padding:
            raise psycopg.OperationalError(f"connection closed: a row still owes {missing} bytes")
        # A copy, because the producer reuses the block before all of this is sent.
        padded = b"".join(self._outgoing)[:missing].ljust(missing, b"\0")
        self._outgoing = [memoryview(padded)] if padded else []
