"""Leaving the block in every way, and what becomes of transactions, on every link."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from copyd.copyman import (
    CopyFail,
    CopyManager,
    IteratorProducer,
    OutcomeUnknown,
    ReceiverFault,
    transfer,
)
from tests.contract.copyman.conftest import eventually, is_usable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.copyman.conftest import Bench

FEW = "COPY (SELECT i FROM generate_series(1, 10) i) TO STDOUT"
MANY = "COPY (SELECT generate_series(1, 300000)) TO STDOUT"
ENDLESS = "COPY (SELECT generate_series(1, 100000000)) TO STDOUT"
INTO_T = "COPY t FROM STDIN"
SILENT = """
    COPY (SELECT CASE i WHEN 5000 THEN pg_advisory_lock(2) END FROM generate_series(1, 5000) i)
    TO STDOUT
"""
LOCKED = "SELECT pg_advisory_lock(2)"


@pytest.fixture(autouse=True)
def table(schema: str, bench: Bench) -> None:
    assert schema
    bench.execute("CREATE TABLE t (i int)")


@pytest.mark.parametrize(
    ("source", "cycles"), [(FEW, 0), (FEW, 1), (MANY, 0), (MANY, 1), (ENDLESS, 0), (ENDLESS, 2)]
)
def test_leaving_before_the_iterator_is_exhausted_fails_the_copy(
    bench: Bench, source: str, cycles: int
) -> None:
    producer, receiver = bench.producer(source), bench.receiver(INTO_T)
    with pytest.raises(CopyFail) as caught, CopyManager(producer, receiver) as copy:
        for _ in range(cycles):
            next(copy)
    assert caught.value.reason == "the copy was given up before its end"
    assert str(caught.value) == caught.value.reason
    assert caught.value.manager is copy
    assert (caught.value.receiver_faults, caught.value.producer_fault) == (None, None)
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_leaving_an_iterators_copy_early_fails_it_too(bench: Bench, cycles: int) -> None:
    receiver = bench.receiver(INTO_T)
    lines = IteratorProducer([[b"1\n"], [b"2\n"], [b"3\n"]])
    with pytest.raises(CopyFail), CopyManager(lines, receiver) as copy:
        for _ in range(cycles):
            next(copy)
    assert bench.count("t") == 0
    assert is_usable(receiver.connection)


def test_a_source_is_cancelled_when_the_copy_is_left(bench: Bench) -> None:
    producer, receiver = bench.producer(ENDLESS), bench.receiver(INTO_T)
    with pytest.raises(CopyFail), CopyManager(producer, receiver) as copy:
        next(copy)
    assert str(bench.state(producer.connection)).startswith("idle:")
    assert str(bench.state(receiver.connection)).startswith("idle:")


@pytest.mark.parametrize("moment", ["at once", "in the loop"])
@pytest.mark.parametrize("source", [FEW, ENDLESS])
def test_an_exception_of_the_block_fails_the_copy(bench: Bench, moment: str, source: str) -> None:
    producer, receiver = bench.producer(source), bench.receiver(INTO_T)
    with (
        pytest.raises(CopyFail, match="KeyError: 'mine'") as caught,
        CopyManager(producer, receiver) as copy,
    ):
        if moment == "in the loop":
            next(copy)
        raise KeyError("mine")
    assert isinstance(caught.value.__context__, KeyError)
    assert caught.value.__cause__ is caught.value.__context__
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_an_exception_after_exhaustion_fails_the_copy_and_the_transaction_decides(
    bench: Bench,
) -> None:
    producer = bench.producer(FEW)
    receiver = bench.receiver(INTO_T, bench.connect(autocommit=False))
    with pytest.raises(CopyFail) as caught, CopyManager(producer, receiver) as copy:
        list(copy)
        raise KeyError("mine")
    assert isinstance(caught.value.__context__, KeyError)
    assert receiver.rows == 10
    receiver.connection.rollback()
    assert bench.count("t") == 0


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_stays_itself_with_the_copyfail_as_its_context(
    bench: Bench, kind: type[BaseException]
) -> None:
    producer, receiver = bench.producer(ENDLESS), bench.receiver(INTO_T)
    with pytest.raises(kind) as caught, CopyManager(producer, receiver) as copy:
        next(copy)
        raise kind
    assert isinstance(caught.value.__context__, CopyFail)
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """As in a program at a terminal; one started in the background may ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
def test_a_real_interrupt_while_waiting_ends_the_copy_in_good_order(bench: Bench) -> None:
    producer = bench.producer(SILENT)
    receiver = bench.receiver(INTO_T)

    def interrupt() -> None:
        eventually(lambda: str(bench.state(receiver.connection)).startswith("active: COPY"))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with bench.connect() as holder:
        holder.execute(LOCKED)
        with pytest.raises(KeyboardInterrupt), CopyManager(producer, receiver) as copy:
            thread.start()
            list(copy)
        thread.join()
    for connection in (producer.connection, receiver.connection):
        assert connection.closed or is_usable(connection)
    assert bench.count("t") == 0


def test_in_transactions_nothing_is_kept_after_a_rollback(bench: Bench) -> None:
    bad = bench.receiver("COPY bad FROM STDIN", bench.connect(autocommit=False))
    good = bench.receiver(INTO_T, bench.connect(autocommit=False))
    producer = bench.producer(ENDLESS, bench.connect(autocommit=False))
    bench.execute("CREATE TABLE bad (i int CHECK (i < 100))")
    with pytest.raises(CopyFail):
        transfer(producer, good, bad)
    assert good.connection.info.transaction_status == TransactionStatus.INERROR
    assert bad.connection.info.transaction_status == TransactionStatus.INERROR
    good.connection.rollback()
    bad.connection.rollback()
    assert bench.count("t") == bench.count("bad") == 0
    assert is_usable(good.connection)


def test_in_a_transaction_the_rows_are_there_when_the_caller_commits(bench: Bench) -> None:
    connection = bench.connect(autocommit=False)
    transfer(bench.producer(FEW), bench.receiver(INTO_T, connection))
    assert connection.info.transaction_status == TransactionStatus.INTRANS
    assert bench.count("t") == 0
    connection.commit()
    assert bench.count("t") == 10


def test_a_copy_joins_the_transaction_that_is_open(bench: Bench) -> None:
    connection = bench.connect()
    with connection.transaction(force_rollback=True):
        connection.execute("TRUNCATE t")
        transfer(bench.producer(FEW), bench.receiver(INTO_T, connection))
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (10,)
    assert bench.count("t") == 0
    assert is_usable(connection)


def test_the_transaction_is_the_one_that_psycopg_would_open(bench: Bench) -> None:
    source = bench.connect(autocommit=False)
    source.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    source.read_only = True
    source.deferrable = True
    transfer(bench.producer(FEW, source), bench.receiver(INTO_T))
    assert source.info.transaction_status == TransactionStatus.INTRANS
    for setting, value in {
        "isolation": "serializable",
        "read_only": "on",
        "deferrable": "on",
    }.items():
        assert source.execute(f"SHOW transaction_{setting}".encode()).fetchone() == (value,)
    source.rollback()
    source.read_only = False
    transfer(bench.producer(FEW, source), bench.receiver(INTO_T))
    assert source.execute("SHOW transaction_read_only").fetchone() == ("off",)


def test_a_read_only_destination_says_so_at_entry(bench: Bench) -> None:
    connection = bench.connect(autocommit=False)
    connection.read_only = True
    receiver = bench.receiver(INTO_T, connection)
    with pytest.raises(CopyFail) as caught:
        transfer(bench.producer(FEW), receiver)
    fault = (caught.value.receiver_faults or {})[receiver]
    assert isinstance(fault, errors.ReadOnlySqlTransaction)
    assert is_usable(connection)


def test_without_transactions_those_that_completed_keep_their_rows(bench: Bench) -> None:
    bench.execute("CREATE TABLE late (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    good, late = bench.receiver(INTO_T), bench.receiver("COPY late FROM STDIN")
    producer = bench.producer("COPY (SELECT 1 FROM generate_series(1, 10)) TO STDOUT")
    with CopyManager(producer, good, late) as copy:
        with pytest.raises(ReceiverFault) as caught:
            list(copy)
        assert isinstance(caught.value.faults[late], errors.UniqueViolation)
        assert copy.completed == {good}
        assert copy.receivers == set()
    assert (bench.count("t"), bench.count("late")) == (10, 0)
    assert is_usable(late.connection)


def test_a_copy_that_no_destination_completed_has_failed(bench: Bench) -> None:
    bench.execute("CREATE TABLE late (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    late = bench.receiver("COPY late FROM STDIN")
    producer = bench.producer("COPY (SELECT 1 FROM generate_series(1, 10)) TO STDOUT")
    with pytest.raises(CopyFail, match="no receivers"), CopyManager(producer, late) as copy:
        with pytest.raises(ReceiverFault):
            list(copy)
        assert list(copy) == []


SLOW_VERDICT = """
    CREATE FUNCTION dally() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_lock(2); RETURN NULL; END $$;
    CREATE TRIGGER dally AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION dally()
"""


def test_a_verdict_that_does_not_come_in_time_is_unknown_and_the_connection_closed(
    bench: Bench,
) -> None:
    bench.execute(SLOW_VERDICT + "; CREATE TABLE u (i int)")
    slow, good = bench.receiver(INTO_T), bench.receiver("COPY u FROM STDIN")
    with bench.connect() as holder:
        holder.execute(LOCKED)
        with CopyManager(bench.producer(FEW), slow, good, verdict_timeout=0.3) as copy:
            with pytest.raises(ReceiverFault) as caught:
                list(copy)
            assert isinstance(caught.value.faults[slow], OutcomeUnknown)
            assert copy.completed == {good}
            assert slow.connection.closed
            assert slow.rows is None
    assert bench.count("u") == 10


def test_a_slow_verdict_is_waited_for(bench: Bench) -> None:
    bench.execute(SLOW_VERDICT)
    receiver = bench.receiver(INTO_T)

    def unlock(holder: psycopg.Connection[tuple[object, ...]]) -> None:
        pid = receiver.connection.info.backend_pid
        waiting = f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"
        eventually(lambda: bench.rows(waiting) == [("advisory",)])
        holder.execute("SELECT pg_advisory_unlock(2)")

    with bench.connect() as holder:
        holder.execute(LOCKED)
        thread = threading.Thread(target=unlock, args=(holder,))
        thread.start()
        CopyManager(bench.producer(FEW), receiver, stall_timeout=0.2).run()
        thread.join()
    assert bench.count("t") == 10


def test_ordinary_statements_follow_a_copy_that_was_left_early_again_and_again(
    bench: Bench,
) -> None:
    source, target = bench.connect(), bench.connect()
    for number in range(5):
        copy = CopyManager(bench.producer(ENDLESS, source), bench.receiver(INTO_T, target))
        with pytest.raises(CopyFail), copy:
            for _ in range(number):
                next(copy)
        for connection in (source, target):
            assert connection.execute(
                "SELECT count(*) FROM generate_series(1, 1000)"
            ).fetchone() == (1_000,)
