"""Leaving a copy with the data cut at any byte, then going on with the same connections.

``COPYD_EARLY_EXITS`` is how many exits are tried on each link; 300 takes minutes.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from copyd.copyman import CopyFail, CopyManager, IteratorProducer, ReceiverFault
from tests.contract.copyman.conftest import is_usable
from tests.support.proxy import Action, Proxy

if TYPE_CHECKING:
    from tests.contract.copyman.conftest import Bench

EXITS = int(os.environ.get("COPYD_EARLY_EXITS", "10"))
SOURCE = """
    COPY (SELECT i, repeat('x', i % 300) FROM generate_series(1, 60000) i) TO STDOUT (FORMAT {})
"""


def test_connections_are_ordinary_ones_after_exits_at_random_bytes(bench: Bench) -> None:
    """Each time the destination stalls after a random number of bytes, and the block is left."""
    bench.execute("CREATE TABLE t (i int, x text)")
    chance = random.Random(3)
    source = bench.connect()
    with Proxy(bench.server.port) as proxy:
        target = bench.connect(port=proxy.port)
        for _ in range(EXITS):
            form = chance.choice(["TEXT", "CSV", "BINARY"])
            producer = bench.producer(SOURCE.format(form), source)
            receiver = bench.receiver(f"COPY t FROM STDIN (FORMAT {form})", target)
            with pytest.raises(CopyFail), CopyManager(producer, receiver) as copy:
                copy.stall_timeout = 0.05
                proxy.to_server.after(chance.randrange(1, 1_000_000), Action.STALL)
                with pytest.raises(ReceiverFault):
                    list(copy)
                copy.reconcile(receiver)
                proxy.to_server.release()
            assert is_usable(source)
            assert is_usable(target)
            row = target.execute("SELECT count(*) FROM t").fetchone()
            assert row == (0,)
        target.close()


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_an_exit_after_each_number_of_cycles_keeps_nothing(bench: Bench, size: int) -> None:
    bench.execute("CREATE TABLE t (x text)")
    target = bench.connect()
    for cycles in range(6):
        lines = IteratorProducer([[b"x" * size + b"\n"]] * 6)
        with (
            pytest.raises(CopyFail),
            CopyManager(lines, bench.receiver("COPY t FROM STDIN", target)) as copy,
        ):
            for _ in range(cycles):
                next(copy)
        assert target.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_an_exit_within_a_row_of_many_megabytes_closes_rather_than_pads(bench: Bench) -> None:
    """What the destination is still owed is too much to send for nothing."""
    bench.execute("CREATE TABLE t (x text)")
    source = "COPY (SELECT repeat('x', 20000000)) TO STDOUT"
    producer, receiver = bench.producer(source), bench.receiver("COPY t FROM STDIN")
    with pytest.raises(CopyFail), CopyManager(producer, receiver) as copy:
        next(copy)
    assert receiver.connection.closed or is_usable(receiver.connection)
    assert is_usable(producer.connection)
    assert bench.count("t") == 0


def test_an_exit_within_a_row_pads_it_and_keeps_the_connection(plain_bench: Bench) -> None:
    """What is owed is little enough to send; without it the server would wait for ever."""
    plain_bench.execute("CREATE TABLE t (x text)")
    source = "COPY (SELECT repeat('x', 900000) FROM generate_series(1, 50)) TO STDOUT"
    for cycles in range(1, 8):
        producer, receiver = plain_bench.producer(source), plain_bench.receiver("COPY t FROM STDIN")
        with pytest.raises(CopyFail), CopyManager(producer, receiver) as copy:
            for _ in range(cycles):
                next(copy)
        assert is_usable(receiver.connection)
        assert is_usable(producer.connection)
    assert plain_bench.count("t") == 0
