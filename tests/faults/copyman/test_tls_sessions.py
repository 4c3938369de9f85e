"""libpq's TLS session, borrowed: records that cannot be sent, connections that are closed."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import pytest

from copyd.copyman import CopyFail, CopyManager
from copyd.copyman.links.tls import TlsStream
from copyd.wire import query
from tests.contract.copyman.conftest import is_usable
from tests.support.proxy import DEADLINE, Action, Proxy
from tests.support.scripted_server import READY, message

if TYPE_CHECKING:
    from tests.contract.copyman.conftest import Bench

MUCH = 64 * 1024 * 1024
"""More bytes than all the buffers between a client and a server hold."""
ENDLESS = "COPY (SELECT generate_series(1, 100000000)) TO STDOUT"
NOTHING = query(b"--" + b"x" * 100_000)
"""A long question without a statement."""
ANSWER = message(b"I") + READY


def wait_for(events: int, descriptor: int) -> None:
    poller = select.poll()
    poller.register(descriptor, events)
    assert poller.poll(DEADLINE * 1_000)


def send_until_full(stream: TlsStream) -> tuple[int, memoryview]:
    """Ask nothing again and again; returns how many times, and what of the last is not taken."""
    asked, outgoing = 0, memoryview(b"")
    while stream.is_flushed:
        assert asked * len(NOTHING) < MUCH
        if not outgoing:
            asked, outgoing = asked + 1, memoryview(NOTHING)
        taken = stream.send([outgoing])
        assert taken
        outgoing = outgoing[taken:]
    return asked, outgoing


def test_a_record_that_is_begun_and_not_sent_is_flushed_before_anything_else(
    tls_bench: Bench,
) -> None:
    with Proxy(tls_bench.server.port) as proxy:
        connection = tls_bench.connect(port=proxy.port)
        stream = TlsStream(connection)
        proxy.to_server.after(0, Action.STALL)
        asked, outgoing = send_until_full(stream)
        assert stream.send([memoryview(NOTHING)]) == 0
        assert stream.send([]) == 0
        proxy.to_server.release()
        while outgoing or not stream.is_flushed:
            wait_for(select.POLLOUT, connection.fileno())
            outgoing = outgoing[stream.send([outgoing] if outgoing else []) :]
        said, inbox = b"", memoryview(bytearray(len(ANSWER)))
        while len(said) < asked * len(ANSWER):
            wait_for(select.POLLIN, connection.fileno())
            while count := stream.receive(inbox):
                said += inbox[:count]
        assert said == ANSWER * asked
        stream.close()
        assert is_usable(connection)


@pytest.mark.parametrize("end", ["source", "destination"])
@pytest.mark.parametrize("is_left", [False, True])
def test_a_connection_closed_during_its_copy_fails_the_copy(
    tls_bench: Bench, end: str, is_left: bool
) -> None:
    """Closing frees the session that is borrowed: it must not be touched any more."""
    tls_bench.execute("CREATE TABLE t (i int)")
    producer, receiver = tls_bench.producer(ENDLESS), tls_bench.receiver("COPY t FROM STDIN")
    closed = producer.connection if end == "source" else receiver.connection
    with pytest.raises(CopyFail), CopyManager(producer, receiver) as copy:
        next(copy)
        closed.close()
        if not is_left:
            list(copy)
    assert tls_bench.count("t") == 0
