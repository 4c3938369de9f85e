"""COPY spoken by us on the borrowed byte stream of an idle libpq connection.

libpq never notices: it opened the transaction before and asks an empty query after, which brings
its idea of the transaction up to date. In between every byte of the stream is ours, from the
Query message to ReadyForQuery, and CopyData is passed on as it stands.
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
"""Bytes that are worth sending to end a message that nobody wants any more, to keep a connection."""


class _WireConversation(Conversation):
    """From the Query message until ReadyForQuery and libpq's own empty query after it."""

    answer: bytes
    """The message with which the server enters the wanted kind of COPY."""

    def __init__(
        self, connection: Connection, statement: bytes, stream: Stream, *, block_size: int
    ) -> None:
        super().__init__(connection, statement)
        self._stream: Stream | None = stream
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
            self._stream = None

    def _copy_events(self) -> int:
        return select.POLLIN | (0 if self._has_sent_all else select.POLLOUT)

    @property
    def _has_sent_all(self) -> bool:
        return not self._outgoing and (self._stream is None or self._stream.is_flushed)

    def _pump_copy(self) -> None:
        if self._stream is not None:
            self._pump_stream(self._stream)
            # A server that refuses is ready before it has the rest of the message it was in.
            if self._is_ready and self._has_sent_all:
                self._hand_back()

    @abstractmethod
    def _pump_stream(self, stream: Stream) -> None:
        """Send and receive what can be without waiting."""

    def _send(self, stream: Stream) -> None:
        """Send what is outgoing, or as much of it as is taken."""
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
        """Receive one block from the server; None where nothing has come."""
        rest = len(self._rest)
        count = stream.receive(self._view[rest:])
        if not count:
            return None
        self._block[:rest] = self._rest
        stop = rest + count
        cut = self._scanner.feed(self._block, stop)
        self._rest = bytes(self._view[stop - cut.rest : stop])
        for message in cut.others:
            self._hear(message)
        return cut

    def _hear(self, message: Message) -> None:
        """Act on one message; a changed parameter is read and dropped."""
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
                self._cancel()  # it may have many rows
            case b"I":
                self._refuse_statement()
            case b"E":
                self._fail(server_error(message.body, self._connection.info.encoding))
            case b"Z":
                self._is_ready = True
            case b"N":
                hand_on_notice(self._connection, message.body)

    def _enter_copy(self, message: Message) -> None:
        """The server is in COPY: as wanted, or it must be made to leave it."""
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
        """ReadyForQuery: give the stream back and let libpq see where the server stands."""
        if self._rest or not self._scanner.is_between_messages:
            raise ProtocolError("the server went on after it was ready for the next query")
        if self.tag is None and self._error is None:
            raise ProtocolError("the server ended the statement without a verdict")
        self._release()
        self._move(State.RETURNING)
        if self.is_last:
            self._query = Query(self._connection, b"")
        else:
            self._move(State.ENDED)


class WireCopyOut(_WireConversation):
    """``COPY ... TO STDOUT``; a chunk lies in the block that it was received in."""

    answer = b"H"
    wanted = "COPY ... TO STDOUT"

    def __init__(self, connection: Connection, statement: bytes, stream: Stream) -> None:
        super().__init__(connection, statement, stream, block_size=BLOCK_SIZE)
        self._received: WireChunk | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the server completed the COPY and libpq has its connection back."""
        return self._state is State.ENDED and self.tag is not None

    def read(self) -> Chunk | None:
        """Return the data of one block, None where none has come; raises as `pump` does."""
        if self._received is None:
            self.pump()
        chunk, self._received = self._received, None
        return chunk

    def _abort(self, reason: str) -> None:
        del reason  # a source keeps nothing, there is nothing to explain to it
        self._received = None
        if self._state in (State.STARTING, State.COPYING):
            self._cancel()
        if self._state is State.COPYING:
            self._move(State.ENDING)

    def _pump_stream(self, stream: Stream) -> None:
        self._send(stream)
        # Until there is data to hand out, or nothing left: a TLS session holds bytes that no
        # poll of the socket tells of.
        while self._received is None:
            resumed = self._scanner.owed
            cut = self._receive(stream)
            if cut is None:
                return
            self._moved += cut.size
            if cut.spans and not self._is_aborting:
                self._received = WireChunk(self._view, cut, resumed=resumed)


class WireCopyIn(_WireConversation):
    """``COPY ... FROM STDIN``; chunks are sent as they were framed at the source."""

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
        """Bytes sent, less about those that a local server has not taken from the socket's buffer.

        A poll reports room only once much of the buffer is free, and a slow server has not stalled
        until then. Not counted while it leaves: others may be waiting for that.
        """
        counts_unsent = self._stream is not None and not self._is_aborting
        return self._moved - (self._stream.unsent if counts_unsent else 0)  # type: ignore[union-attr]

    def start_with(self, chunk: Chunk, end: bytes) -> None:
        """Send the statement, all of its data and its end, without waiting between.

        A server that does not enter COPY ignores the messages of COPY: PostgreSQL documentation, "COPY
        Operations". `pump` is True once it has given its verdict, as after `finish`.
        """
        self.start()
        self._outgoing += [*chunk.framed, memoryview(end)]
        self._is_whole = True

    def _enter_copy(self, message: Message) -> None:
        super()._enter_copy(message)
        if self._is_whole and self._state is State.COPYING:
            self._move(State.ENDING)

    def offer(self, chunk: Chunk) -> None:
        """Begin to send `chunk`; its memory must stay as it is until `pump` returned True."""
        if self._state is State.COPYING:  # else the server refused meanwhile: `pump` will say so
            self._chunk = chunk
            self._outgoing = list(chunk.framed)

    def finish(self) -> None:
        """Send CopyDone; `pump` is True once the server has said COPY and how many rows."""
        if self._state is State.COPYING:
            self._outgoing.append(memoryview(COPY_DONE))
            self._move(State.ENDING)

    def _abort(self, reason: str) -> None:
        if self._state is State.COPYING:
            self._realign()
            self._outgoing.append(memoryview(copy_fail(reason)))
            self._move(State.ENDING)
        elif self._state in (State.STARTING, State.ENDING) and self._error is None:
            self._cancel()

    def _pump_stream(self, stream: Stream) -> None:
        is_idle = self._has_sent_all
        try:
            self._send(stream)
        except psycopg.OperationalError:
            self._read_final_messages(stream)
            raise
        is_due = self._moved - self._listened_at >= LISTEN_EVERY
        if is_idle or self._outgoing or is_due or self._state is not State.COPYING:
            self._listened_at = self._moved
            while self._receive(stream) is not None:
                pass

    def _read_final_messages(self, stream: Stream) -> None:
        """Read the server's reason for closing the connection: it may have come before the reset."""
        with suppress(psycopg.OperationalError):
            while self._receive(stream) is not None:
                pass

    def _fail(self, error: psycopg.Error) -> None:
        """The server refused the COPY: it ignores all but the end of the current message."""
        super()._fail(error)
        if self._state is State.COPYING:
            self._realign()
            self._move(State.ENDING)

    def _realign(self) -> None:
        """Cut what is outgoing to the end of the current message, padded if it is not here."""
        if self._chunk is None:
            return
        missing = self._chunk.owed
        if self._outgoing:
            sent = sum(map(len, self._chunk.framed)) - sum(map(len, self._outgoing))
            missing = self._chunk.boundary(sent) - sent
        if missing > self.largest_padding:
            raise psycopg.OperationalError(f"connection closed: a row still owes {missing} bytes")
        # Copied, because the block will be read into again before all this is sent.
        padded = b"".join(self._outgoing)[:missing].ljust(missing, b"\0")
        self._outgoing = [memoryview(padded)] if padded else []
