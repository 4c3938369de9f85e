"""A server that sends little at a time, buffers that hold much, and one that takes little of them."""

from __future__ import annotations

import socket
from time import sleep
from typing import TYPE_CHECKING

import psycopg
import pytest

from copyd.copyman import (
    CopyFail,
    CopyManager,
    IteratorProducer,
    NullReceiver,
    StatementProducer,
    StatementReceiver,
    manager,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.copyman.conftest import Bench

# A server hands on what it has when it has 8 kB.
SLOWLY = """
    COPY (SELECT repeat('x', 9000) || pg_sleep(0.1) FROM generate_series(1, 5)) TO STDOUT
"""
MUCH = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 7000)) TO STDOUT"


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times that a manager gave a producer, as it gives them."""
    given: list[float] = []
    give: Callable[[float], None] = sleep

    def note(seconds: float) -> None:
        given.append(seconds)
        give(seconds)

    monkeypatch.setattr(manager, "sleep", note)
    return given


def test_a_server_that_sends_little_is_given_a_moment_before_it_is_read_again(
    bench: Bench, moments: list[float]
) -> None:
    with CopyManager(bench.producer(SLOWLY), NullReceiver()) as copy:
        cycles = [num_messages for num_messages, _ in copy]
    assert sum(cycles) == 5
    assert len(cycles) > 1
    assert len(cycles) - 1 <= len(moments) <= len(cycles)


def test_an_iterator_is_never_waited_for(moments: list[float]) -> None:
    with CopyManager(IteratorProducer([[b"x\n"]] * 20), NullReceiver()) as copy:
        assert len(list(copy)) == 20
    assert moments == []


@pytest.mark.parametrize("is_tcp", [False, True])
def test_a_local_socket_gets_a_larger_buffer_and_tcp_finds_its_own(
    plain_bench: Bench, *, is_tcp: bool
) -> None:
    plain_bench.execute("CREATE TABLE t (i int)")
    with psycopg.connect(plain_bench.conninfo(is_tcp=is_tcp), autocommit=True) as connection:
        before = _send_buffer(connection)
        producer = StatementProducer(plain_bench.connect(), "COPY (SELECT 1) TO STDOUT")
        with CopyManager(producer, StatementReceiver(connection, "COPY t FROM STDIN")) as copy:
            assert (_send_buffer(connection) > before) is not is_tcp
            list(copy)
    assert plain_bench.count("t") == 1


@pytest.fixture
def slow(plain_bench: Bench) -> Bench:
    """With a table t that takes a megabyte and a half a second at most, without ever stopping."""
    plain_bench.execute("""
        CREATE TABLE t (x text);
        CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(0.0005); RETURN NEW; END';
        CREATE TRIGGER nap BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nap()
    """)
    return plain_bench


def test_one_that_is_slow_and_never_stops_does_not_stall_though_its_buffer_hides_it(
    slow: Bench,
) -> None:
    """It takes seconds to make so much room in it that a poll tells of it."""
    receiver = slow.receiver("COPY t FROM STDIN")
    with CopyManager(slow.producer(MUCH), receiver, stall_timeout=0.5, verdict_timeout=0.5) as copy:
        list(copy)
    assert receiver.rows == slow.count("t") == 7_000


def test_one_that_is_slow_is_not_waited_for_when_its_copy_is_left(slow: Bench) -> None:
    """It would take seconds to take in what its buffer holds, and others may wait for its end."""
    receiver = slow.receiver("COPY t FROM STDIN")
    copy = CopyManager(slow.producer(MUCH), receiver)
    copy.realign_timeout = 0.2
    with pytest.raises(CopyFail), copy:
        while receiver.progress < 500_000:
            next(copy)
        if _send_buffer(receiver.connection) < 2 * 1024 * 1024:
            pytest.skip("the kernel gives no large buffer: net.core.wmem_max")
    assert receiver.connection.closed
    assert slow.count("t") == 0


def _send_buffer(connection: psycopg.Connection) -> int:
    with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
        return same.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
