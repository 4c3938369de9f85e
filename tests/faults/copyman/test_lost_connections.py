"""Connections cut, stalled and reset at every message, servers stopped and killed."""

from __future__ import annotations

import os
import signal
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from copyd.copyman import (
    CopyFail,
    CopyManager,
    IteratorProducer,
    ProducerFault,
    ReceiverFault,
    StatementProducer,
    StatementReceiver,
)
from tests.contract.copyman.conftest import is_usable
from tests.support.proxy import Action, Proxy
from tests.support.servers import running_server

if TYPE_CHECKING:
    from copyd.cluster import Installation
    from copyd.connection import Connection
    from tests.contract.copyman.conftest import Bench

LINES = [[b"1\n"], [b"2\n"], [b"3\n"]]
INTO_T, INTO_U = "COPY t FROM STDIN", "COPY u FROM STDIN"
ROWS = "COPY (SELECT i FROM generate_series(1, 3) i) TO STDOUT"


def boundaries(stream: bytes) -> list[int]:
    """Where the messages of `stream` begin; in its middle too, where it is longer than a header."""
    places, position = [], 0
    while position < len(stream):
        length = int.from_bytes(stream[position + 1 : position + 5], "big")
        places += [position, position + 3]
        position += 1 + length
    return places


def manager_for(bench: Bench, port: int, *, is_source: bool) -> tuple[CopyManager, Connection]:
    """A small copy with one connection through `port`, and short timeouts."""
    proxied = bench.connect(port=port)
    if is_source:
        manager = CopyManager(bench.producer(ROWS, proxied), bench.receiver(INTO_U))
    else:
        through, direct = bench.receiver(INTO_T, proxied), bench.receiver(INTO_U)
        manager = CopyManager(IteratorProducer(LINES), through, direct)
    manager.stall_timeout = manager.producer_stall_timeout = manager.verdict_timeout = 0.1
    manager.realign_timeout = 0.1
    return manager, proxied


def messages_of(bench: Bench, way: str, *, is_source: bool) -> list[int]:
    """Where to attack: found in a copy in which nothing goes wrong."""
    with Proxy(bench.server.port) as proxy:
        manager, proxied = manager_for(bench, proxy.port, is_source=is_source)
        start = len(getattr(proxy, way).seen)
        manager.run()
        stream = bytes(getattr(proxy, way).seen[start:])
        proxied.close()
    return boundaries(stream)


def go_on_without_the_lost(manager: CopyManager) -> bool:
    """Run the copy, dropping whoever faults; returns whether it was entered."""
    is_entered = False
    try:
        with manager as copy:
            is_entered = True
            while copy.receivers:
                try:
                    list(copy)
                    break
                except ReceiverFault:
                    pass
    except CopyFail:
        pass
    return is_entered


@pytest.fixture(params=["plain", "libpq"])
def lossy_bench(request: pytest.FixtureRequest, plain_bench: Bench) -> Bench:
    """Without encryption, so that the messages can be seen."""
    plain_bench.kinds = cycle([request.param])
    plain_bench.execute("CREATE TABLE t (i int); CREATE TABLE u (i int)")
    return plain_bench


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_a_destination_lost_at_any_message_never_hurts_the_other(
    lossy_bench: Bench, way: str, action: Action
) -> None:
    bench = lossy_bench
    for place in messages_of(bench, way, is_source=False):
        bench.execute("TRUNCATE t, u")
        with Proxy(bench.server.port) as proxy:
            manager, proxied = manager_for(bench, proxy.port, is_source=False)
            getattr(proxy, way).after(place, action)
            is_entered = go_on_without_the_lost(manager)
            assert bench.count("u") == (3 if is_entered else 0)
            completed = {receiver.connection for receiver in manager.completed}  # type: ignore[attr-defined]
            assert bench.count("t") in ((3,) if proxied in completed else (0, 3))
            getattr(proxy, way).release()
            proxied.close()


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_a_source_lost_at_any_message_leaves_nothing_or_everything(
    lossy_bench: Bench, way: str, action: Action
) -> None:
    bench = lossy_bench
    for place in messages_of(bench, way, is_source=True):
        bench.execute("TRUNCATE u")
        with Proxy(bench.server.port) as proxy:
            manager, proxied = manager_for(bench, proxy.port, is_source=True)
            getattr(proxy, way).after(place, action)
            go_on_without_the_lost(manager)
            assert bench.count("u") == (3 if manager.completed else 0)
            getattr(proxy, way).release()
            proxied.close()


def test_a_destination_stopped_by_a_signal_is_dropped_while_the_other_two_finish(
    bench: Bench,
) -> None:
    bench.execute("CREATE TABLE a (i int); CREATE TABLE b (i int); CREATE TABLE c (i int)")
    first, stopped, last = (bench.receiver(f"COPY {name} FROM STDIN") for name in "abc")
    producer = bench.producer("COPY (SELECT generate_series(1, 1500000)) TO STDOUT")
    pid = stopped.connection.info.backend_pid
    with CopyManager(producer, first, stopped, last, stall_timeout=0.5) as copy:
        copy.realign_timeout = 0.2
        next(copy)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(ReceiverFault) as caught:
                list(copy)
            assert set(caught.value.faults) == {stopped}
            assert isinstance(caught.value.faults[stopped], TimeoutError)
            list(copy)
            assert copy.completed == {first, last}
        finally:
            os.kill(pid, signal.SIGCONT)
    assert bench.count("a") == bench.count("c") == 1_500_000
    assert bench.count("b") == 0
    assert stopped.connection.closed or is_usable(stopped.connection)


@pytest.mark.parametrize("victim", ["source", "destination"])
def test_a_server_that_is_killed_is_a_fault_and_nothing_of_it_is_kept(
    plain_bench: Bench, installation: Installation, victim: str
) -> None:
    """The other end lives on a server of its own."""
    plain_bench.execute("CREATE TABLE t (i int)")
    endless = "COPY (SELECT generate_series(1, 100000000)) TO STDOUT"
    with running_server(installation) as doomed:
        with doomed.connect() as connection:
            connection.execute("CREATE TABLE t (i int)")
            if victim == "source":
                producer = StatementProducer(connection, endless)
                receiver = plain_bench.receiver(INTO_T)
            else:
                producer = plain_bench.producer(endless)
                receiver = StatementReceiver(connection, INTO_T)
            fault = ProducerFault if victim == "source" else ReceiverFault
            with pytest.raises(CopyFail), CopyManager(producer, receiver) as copy:
                next(copy)
                doomed.cluster.kill()
                with pytest.raises(fault):
                    list(copy)
            assert connection.closed
        survivor = receiver.connection if victim == "source" else producer.connection
        assert is_usable(survivor)
    assert plain_bench.count("t") == 0
