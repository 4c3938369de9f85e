"""The samples of py-postgresql's page on copyman, with our constructors: they run, and they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd import copyman

if TYPE_CHECKING:
    from copyd.connection import Connection
    from copyd.copyman import StatementProducer, StatementReceiver
    from tests.contract.copyman.conftest import Bench

SEND = "COPY (SELECT i FROM generate_series(1, 200000) AS g(i)) TO STDOUT"
RECEIVE = "COPY loading_table FROM STDIN"


class Rate:
    """What the samples call update_rate."""

    def __init__(self) -> None:
        self.size = 0

    def update(self, num_bytes: int) -> None:
        self.size += num_bytes


@pytest.fixture
def source(bench: Bench) -> Connection:
    return bench.connect()


@pytest.fixture
def destination(bench: Bench) -> Connection:
    connection = bench.connect()
    connection.execute("CREATE TEMP TABLE loading_table (i int8)")
    return connection


@pytest.fixture
def producer(bench: Bench, source: Connection) -> StatementProducer:
    return bench.producer(SEND, source)


@pytest.fixture
def receiver(bench: Bench, destination: Connection) -> StatementReceiver:
    return bench.receiver(RECEIVE, destination)


def test_transfer(producer: StatementProducer, receiver: StatementReceiver) -> None:
    total_rows, total_bytes = copyman.transfer(producer, receiver)
    assert (total_rows, total_bytes) == (200_000, 1_288_895)


def test_the_loop(
    source: Connection,
    destination: Connection,
    producer: StatementProducer,
    receiver: StatementReceiver,
) -> None:
    rate = Rate()
    with source.transaction(), destination.transaction():  # noqa: SIM117 - as the page has it
        with copyman.CopyManager(producer, receiver) as copy:
            for _num_messages, num_bytes in copy:
                rate.update(num_bytes)
    assert rate.size == 1_288_895


def test_run(
    source: Connection,
    destination: Connection,
    producer: StatementProducer,
    receiver: StatementReceiver,
) -> None:
    with source.transaction(), destination.transaction():
        copyman.CopyManager(producer, receiver).run()
    assert receiver.rows == 200_000


def test_the_loop_that_looks_at_faults(
    source: Connection,
    destination: Connection,
    producer: StatementProducer,
    receiver: StatementReceiver,
) -> None:
    rate = Rate()
    with source.transaction(), destination.transaction():  # noqa: SIM117 - as the page has it
        with copyman.CopyManager(producer, receiver) as copy:
            while copy.receivers:
                try:
                    for _num_messages, num_bytes in copy:
                        rate.update(num_bytes)
                    break
                except copyman.ReceiverFault as cf:
                    # Access the original exception using the receiver as the key.
                    pytest.fail(str(cf.faults[receiver]))
    assert rate.size == 1_288_895


def test_the_loop_that_reconciles(
    source: Connection,
    destination: Connection,
    producer: StatementProducer,
    receiver: StatementReceiver,
) -> None:
    """Without a ``break``: it ends because ``receivers`` is empty at the end."""
    rate = Rate()
    with source.transaction(), destination.transaction():
        with copyman.CopyManager(producer, receiver) as copy:
            copy.stall_timeout = 0.0  # every moment in which the socket is full is a fault
            while copy.receivers:
                try:
                    for _num_messages, num_bytes in copy:
                        rate.update(num_bytes)
                except copyman.ReceiverFault as cf:
                    if isinstance(cf.faults[receiver], TimeoutError):
                        copy.reconcile(receiver)
                    else:
                        raise
        assert destination.execute("SELECT count(*), sum(i) FROM loading_table").fetchone() == (
            200_000,
            20_000_100_000,
        )
    assert rate.size == 1_288_895
