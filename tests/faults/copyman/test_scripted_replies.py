"""Replies that a real server rarely gives, cut at every byte: nothing is lost, nothing forwarded."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors

from copyd.copyman import (
    CallReceiver,
    CopyFail,
    CopyManager,
    IteratorProducer,
    NullReceiver,
    StatementProducer,
    StatementReceiver,
    transfer,
)
from copyd.copyman.chunk import PayloadChunk
from tests.support.scripted_server import (
    COPY_IN,
    COPY_OUT,
    DONE,
    READY,
    ScriptedServer,
    complete,
    error,
    message,
    notice,
    notification,
    parameter,
    row,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.connection import Connection
    from copyd.copyman import LinkName

NOISE = notice("n\nd") + parameter("TimeZone", "Mars") + notification("c", "\nd") + notice("")
LINES = [b"one\n", b"two\n", b"d\n", b"x" * 300 + b"\n"]


@contextmanager
def talking_to(
    script: Sequence[bytes | threading.Event], *, epilogue: bytes = b""
) -> Iterator[tuple[ScriptedServer, Connection]]:
    with (
        ScriptedServer(script, epilogue) as server,
        psycopg.connect(server.conninfo, autocommit=True) as connection,
    ):
        yield server, connection


def noisy_rows() -> bytes:
    noisy = NOISE.join(row(line) for line in LINES)
    return COPY_OUT + NOISE + noisy + NOISE + DONE + NOISE + complete("COPY 4") + NOISE + READY


def collect(connection: Connection, link: LinkName = "wire") -> tuple[list[bytes], int | None]:
    got: list[bytes] = []
    producer = StatementProducer(connection, "COPY t TO STDOUT", link=link)
    counted, size = transfer(producer, CallReceiver(got.extend))
    assert (counted, size) == (len(LINES), sum(map(len, LINES)))
    return got, producer.rows


@pytest.mark.parametrize("link", ["wire", "libpq"])
def test_rows_among_noise_arrive_alone_and_the_notices_are_heard(link: LinkName) -> None:
    with talking_to([noisy_rows()]) as (_, connection):
        heard: list[str | None] = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        assert collect(connection, link) == (LINES, 4)
        assert len(heard) == 2 * NOISY_PLACES
        connection.execute("SET x = 1")


NOISY_PLACES = len(LINES) + 3


def test_a_stream_cut_at_every_byte_says_the_same() -> None:
    stream = noisy_rows()
    for place in range(1, len(stream)):
        with talking_to([stream[:place], stream[place:]]) as (_, connection):
            assert collect(connection) == (LINES, 4)


def test_a_stream_that_arrives_byte_by_byte_says_the_same() -> None:
    stream = noisy_rows()
    with talking_to([stream[i : i + 1] for i in range(len(stream))]) as (_, connection):
        assert collect(connection) == (LINES, 4)


@pytest.mark.parametrize(
    "script",
    [
        error("XX000", "odd") + READY,
        COPY_OUT + error("XX000", "odd") + READY,
        COPY_OUT + row(b"a\n") + error("XX000", "odd") + READY,
        COPY_OUT + row(b"a\n") + DONE + error("XX000", "odd") + READY,
        COPY_OUT + row(b"a\n") + DONE + complete("COPY 1") + error("XX000", "odd") + READY,
        COPY_OUT + row(b"a\n") + NOISE + error("XX000", "odd") + NOISE + READY,
    ],
)
def test_an_error_at_any_place_fails_the_copy_and_keeps_the_connection(script: bytes) -> None:
    with talking_to([script]) as (_, connection):
        producer = StatementProducer(connection, "COPY t TO STDOUT")
        with pytest.raises(CopyFail) as caught:
            transfer(producer, NullReceiver())
        assert isinstance(caught.value.producer_fault, errors.InternalError_)
        assert caught.value.producer_fault.diag.message_primary == "odd"
        assert producer.rows is None
        connection.execute("SET x = 1")


@pytest.mark.parametrize(
    "script",
    [
        b"d\0\0\0\3",
        COPY_OUT + b"d\0\0\0\0",
        COPY_OUT + READY,
        COPY_OUT + row(b"a\n") + DONE + READY,
        message(b"H", b"\0"),
        COPY_OUT + DONE + complete("COPY 0") + READY + b"d\0",
    ],
)
def test_a_reply_against_the_protocol_closes_the_connection(script: bytes) -> None:
    with talking_to([script]) as (_, connection):
        with pytest.raises(CopyFail) as caught:
            transfer(StatementProducer(connection, "COPY t TO STDOUT"), NullReceiver())
        assert caught.value.producer_fault is not None
        assert connection.closed


def test_noise_at_a_destination_is_read_and_its_notices_are_heard() -> None:
    verdict = NOISE + complete("COPY 4") + NOISE + READY
    with talking_to([NOISE + COPY_IN + NOISE], epilogue=verdict) as (server, connection):
        heard: list[str | None] = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        receiver = StatementReceiver(connection, "COPY t FROM STDIN")
        transfer(IteratorProducer([[line] for line in LINES]), receiver)
        assert receiver.rows == 4
        assert server.received == [b"Q", b"Q", *[b"d"] * 4, b"c", b"Q"]
        assert len(heard) == 8


def test_a_destination_that_refuses_is_told_no_more_than_the_end_of_its_message() -> None:
    script = [COPY_IN, error("23505", "twice"), READY]
    with talking_to(script, epilogue=READY) as (server, connection):
        receiver = StatementReceiver(connection, "COPY t FROM STDIN")
        with pytest.raises(CopyFail) as caught:
            transfer(IteratorProducer([[b"x" * 1_000_000 + b"\n"]] * 20), receiver)
        assert "twice" in str(caught.value)
        assert b"c" not in server.received
        connection.execute("SET x = 1")


def test_a_failure_reaches_the_server_without_what_it_says() -> None:
    reply = error("57014", "COPY from stdin failed") + READY
    with talking_to([COPY_IN], epilogue=reply) as (server, connection):
        receiver = StatementReceiver(connection, "COPY t FROM STDIN")
        with (
            pytest.raises(CopyFail, match="a row's value"),
            CopyManager(IteratorProducer([[b"a\n"], [b"b\n"]]), receiver) as copy,
        ):
            next(copy)
            raise ValueError("a row's value")
        assert server.received[-2:] == [b"f", b"Q"]
        assert server.last_words == b"the copy was given up\0"


def test_a_server_that_sends_a_torn_header_while_nobody_waits_is_heard_whole() -> None:
    stream = COPY_OUT + row(b"a\n")
    rest = row(b"b\n") + DONE + complete("COPY 2") + READY
    with talking_to([stream + rest[:3], rest[3:]]) as (_, connection):
        got: list[bytes] = []
        producer = StatementProducer(connection, "COPY t TO STDOUT")
        transfer(producer, CallReceiver(got.extend))
        assert got == [b"a\n", b"b\n"]


def pump_until(receiver: StatementReceiver, *, is_in_copy: bool) -> None:
    while receiver.can_resume != is_in_copy:
        receiver.pump()


def pump_to_the_end(receiver: StatementReceiver) -> None:
    while not receiver.pump():
        pass


def test_what_is_offered_to_a_destination_that_has_just_refused_is_not_sent() -> None:
    """Anything sent now would be taken for the next statement."""
    is_entered, is_offered = threading.Event(), threading.Event()
    script: list[bytes | threading.Event] = [COPY_IN, is_entered]
    script += [error("23505", "twice"), is_offered, READY]
    with talking_to(script) as (server, connection):
        receiver = StatementReceiver(connection, "COPY t FROM STDIN", link="wire")
        receiver.start()
        pump_until(receiver, is_in_copy=True)
        is_entered.set()
        pump_until(receiver, is_in_copy=False)
        receiver.offer(PayloadChunk([b"x\n"]))
        is_offered.set()
        with pytest.raises(errors.UniqueViolation):
            pump_to_the_end(receiver)
        connection.execute("SET x = 1")
        assert b"d" not in server.received
