"""Entering, states, reuse, and what may stand at either end, on every link."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors, sql

from copyd.copyman import (
    CannotReconcile,
    CopyFail,
    CopyManager,
    IteratorProducer,
    NullProducer,
    NullReceiver,
    StatementProducer,
    StatementReceiver,
    transfer,
)
from tests.contract.copyman.conftest import is_usable

if TYPE_CHECKING:
    from tests.contract.copyman.conftest import Bench

NUMBERS = "COPY (SELECT i FROM generate_series(1, 10000) i) TO STDOUT"
INTO_T = "COPY t FROM STDIN"


def test_run_ends_in_the_same_state_as_iterating_by_hand(bench: Bench) -> None:
    bench.execute("CREATE TABLE a (i int); CREATE TABLE b (i int)")
    CopyManager(bench.producer(NUMBERS), bench.receiver("COPY a FROM STDIN")).run()
    with CopyManager(bench.producer(NUMBERS), bench.receiver("COPY b FROM STDIN")) as copy:
        for _ in copy:
            pass
    assert bench.rows("SELECT i FROM a ORDER BY ctid") == bench.rows(
        "SELECT i FROM b ORDER BY ctid"
    )
    assert bench.count("a") == 10_000


def test_entering_starts_copy_on_every_connection_and_returns_the_manager(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int); CREATE TABLE u (i int)")
    producer = bench.producer("COPY (SELECT generate_series(1, 10000000)) TO STDOUT")
    receivers = [bench.receiver(INTO_T), bench.receiver("COPY u FROM STDIN")]
    manager = CopyManager(producer, *receivers)
    with pytest.raises(CopyFail), manager as entered:
        assert entered is manager
        for connection in [producer.connection, *(r.connection for r in receivers)]:
            assert str(bench.state(connection)).startswith("active: COPY")


def test_entering_twice_is_refused_and_the_running_copy_goes_on(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    receiver = bench.receiver(INTO_T)
    with CopyManager(bench.producer(NUMBERS), receiver) as copy:
        with pytest.raises(RuntimeError, match="runs once; this one is copying"):
            copy.__enter__()
        for _ in copy:
            pass
    assert bench.count("t") == 10_000


def test_a_manager_that_has_ended_cannot_be_entered_again() -> None:
    manager = CopyManager(NullProducer(), NullReceiver())
    manager.run()
    with pytest.raises(RuntimeError, match=r"runs once; this one is ended"):
        manager.run()


def test_iterating_before_entering_says_so_and_touches_nothing(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer, receiver = bench.producer(NUMBERS), bench.receiver(INTO_T)
    with pytest.raises(RuntimeError, match="not started"):
        next(CopyManager(producer, receiver))
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_iterating_after_the_end_stops_again_and_again() -> None:
    manager = CopyManager(IteratorProducer([[b"x\n"]]), NullReceiver())
    assert iter(manager) is manager
    with manager as copy:
        assert list(copy) == [(1, 2)]
        assert list(copy) == []
    assert list(manager) == []
    assert list(manager) == []


def test_a_producer_runs_once_and_a_second_manager_does_not_hurt_it(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer = bench.producer(NUMBERS)
    with CopyManager(producer, bench.receiver(INTO_T)) as copy:
        with pytest.raises(RuntimeError, match=r"StatementProducer .* ran already"):
            CopyManager(producer, NullReceiver()).run()
        for _ in copy:
            pass
    with pytest.raises(RuntimeError, match=r"StatementProducer .* ran already"):
        CopyManager(producer, NullReceiver()).run()
    assert bench.count("t") == 10_000


def test_an_iterator_producer_runs_once() -> None:
    producer = IteratorProducer([[b"x\n"]])
    transfer(producer, NullReceiver())
    with pytest.raises(RuntimeError, match=r"IteratorProducer .* ran already"):
        transfer(producer, NullReceiver())


def test_a_receiver_can_run_again(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    receiver = bench.receiver(INTO_T)
    transfer(bench.producer(NUMBERS), receiver)
    transfer(bench.producer(NUMBERS), receiver)
    assert bench.count("t") == 20_000


def test_the_same_receiver_given_twice_counts_once() -> None:
    receiver = NullReceiver()
    assert CopyManager(NullProducer(), receiver, receiver).receivers == {receiver}


def test_a_copy_without_receivers_fails_and_leaves_the_source_alone(bench: Bench) -> None:
    producer = bench.producer(NUMBERS)
    with pytest.raises(CopyFail) as caught:
        CopyManager(producer).run()
    assert caught.value.reason == "no receivers"
    assert is_usable(producer.connection)


def test_every_party_describes_itself_at_any_moment(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer, receiver = bench.producer(NUMBERS), bench.receiver(INTO_T)
    manager = CopyManager(producer, receiver)
    assert repr(manager).startswith("<CopyManager not started, from <StatementProducer 'COPY (SEL")
    assert "not started" in repr(receiver)
    with manager as copy:
        next(copy)
        assert "copying" in repr(manager)
        assert "bytes>" in repr(receiver)
        for _ in copy:
            pass
        assert "exhausted" in repr(manager)
    assert "ended" in repr(manager)
    assert "COPY 10000" in repr(receiver)
    receiver.connection.close()
    assert "a closed connection" in repr(receiver)
    assert repr(NullReceiver()) == "<NullReceiver, 0 bytes>"


def test_nothing_from_a_null_producer_completes_the_copy_at_a_table(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    receiver = bench.receiver(INTO_T)
    assert transfer(NullProducer(), receiver) == (0, 0)
    assert receiver.rows == 0
    assert str(receiver.tag.text if receiver.tag else None) == "COPY 0"


def test_a_null_receiver_takes_everything(bench: Bench) -> None:
    producer = bench.producer(NUMBERS)
    assert transfer(producer, NullReceiver()) == (10_000, 48_894)
    assert producer.rows == 10_000


def test_lines_from_an_iterator_fill_a_table(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    transfer(IteratorProducer([[b"%d\n" % i] for i in range(500)]), bench.receiver(INTO_T))
    assert bench.rows("SELECT count(*), sum(i) FROM t") == [(500, 124_750)]


def test_an_empty_chunk_is_a_cycle_of_nothing() -> None:
    with CopyManager(IteratorProducer([[b"a\n"], [], [b"b\n"]]), NullReceiver()) as copy:
        assert list(copy) == [(1, 2), (0, 0), (1, 2)]


def test_lines_that_are_not_bytes_are_a_fault_of_the_producer() -> None:
    with pytest.raises(CopyFail) as caught:
        transfer(IteratorProducer([["text\n"]]), NullReceiver())  # type: ignore[list-item]
    assert isinstance(caught.value.producer_fault, TypeError)


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1", "SELECT generate_series(1, 1000000)", INTO_T, "CREATE TABLE u (i int)", ""],
)
def test_a_source_statement_of_another_kind_fails_at_entry(bench: Bench, statement: str) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer, receiver = bench.producer(statement), bench.receiver(INTO_T)
    with pytest.raises(CopyFail, match=r"not one COPY") as caught, CopyManager(producer, receiver):
        pytest.fail("it was entered")
    assert isinstance(caught.value.producer_fault, psycopg.ProgrammingError)
    assert str(bench.state(receiver.connection)).startswith("idle")
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


@pytest.mark.parametrize("statement", ["SELECT 1", "INSERT INTO t VALUES (1)", "COPY t TO STDOUT"])
def test_a_receiver_statement_of_another_kind_fails_at_entry(bench: Bench, statement: str) -> None:
    bench.execute("CREATE TABLE t (i int)")
    good, wrong = bench.receiver(INTO_T), bench.receiver(statement)
    producer = bench.producer(NUMBERS)
    with pytest.raises(CopyFail) as caught, CopyManager(producer, good, wrong):
        pytest.fail("it was entered")
    assert set(caught.value.receiver_faults or {}) == {wrong}
    for party in (producer, good, wrong):
        assert is_usable(party.connection)


@pytest.mark.parametrize("statement", ["COPY missing TO STDOUT", "COPY (SELECT 1/0) TO STDOUT"])
def test_an_error_of_the_source_at_entry_puts_no_destination_into_copy(
    bench: Bench, statement: str
) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer, receiver = bench.producer(statement), bench.receiver(INTO_T)
    with pytest.raises(CopyFail) as caught:
        CopyManager(producer, receiver).run()
    assert isinstance(caught.value.producer_fault, psycopg.Error)
    assert caught.value.__cause__ is not None
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_an_error_of_one_destination_at_entry_stops_the_others(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    receivers = [bench.receiver(s) for s in (INTO_T, "COPY missing FROM STDIN", INTO_T)]
    producer = bench.producer(NUMBERS)
    with pytest.raises(CopyFail, match='"missing" does not exist') as caught:
        CopyManager(producer, *receivers).run()
    faults = caught.value.receiver_faults or {}
    assert set(faults) == {receivers[1]}
    assert isinstance(faults[receivers[1]], errors.UndefinedTable)
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert all(is_usable(receiver.connection) for receiver in receivers)


def test_a_locked_destination_fails_at_entry_when_its_lock_timeout_is_over(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer, receiver = bench.producer(NUMBERS), bench.receiver(INTO_T)
    receiver.connection.execute("SET lock_timeout = '100ms'")
    with bench.connect(autocommit=False) as other:
        other.execute("LOCK TABLE t")
        with pytest.raises(CopyFail) as caught:
            CopyManager(producer, receiver).run()
    assert isinstance((caught.value.receiver_faults or {})[receiver], errors.LockNotAvailable)
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_a_destination_that_does_not_enter_in_time_is_stalled(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer, receiver = bench.producer(NUMBERS), bench.receiver(INTO_T)
    with bench.connect(autocommit=False) as other:
        other.execute("LOCK TABLE t")
        with pytest.raises(CopyFail) as caught:
            CopyManager(producer, receiver, stall_timeout=0.2).run()
        assert isinstance((caught.value.receiver_faults or {})[receiver], TimeoutError)
        assert is_usable(receiver.connection)
    assert is_usable(producer.connection)


@pytest.mark.parametrize("closed", ["source", "destination"])
def test_a_closed_connection_is_a_clear_error_at_entry(bench: Bench, closed: str) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer, receiver, other = (
        bench.producer(NUMBERS),
        bench.receiver(INTO_T),
        bench.receiver(INTO_T),
    )
    (producer if closed == "source" else receiver).connection.close()
    with pytest.raises(CopyFail, match="the connection is closed"):
        transfer(producer, receiver, other)
    assert is_usable(other.connection)


def test_a_connection_in_a_failed_transaction_is_refused(bench: Bench) -> None:
    connection = bench.connect(autocommit=False)
    with pytest.raises(errors.DivisionByZero):
        connection.execute("SELECT 1/0")
    with pytest.raises(CopyFail, match="INERROR"):
        transfer(bench.producer(NUMBERS), bench.receiver(INTO_T, connection))
    assert is_usable(connection)


def test_a_connection_in_pipeline_mode_is_refused(bench: Bench) -> None:
    connection = bench.connect()
    with connection.pipeline(), pytest.raises(CopyFail, match="pipeline mode"):
        transfer(bench.producer(NUMBERS, connection), NullReceiver())
    assert is_usable(connection)


def test_one_connection_cannot_be_both_ends(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    connection = bench.connect()
    producer = bench.producer("COPY (SELECT generate_series(1, 2000000)) TO STDOUT", connection)
    with pytest.raises(CopyFail, match="the connection is in another COPY") as caught:
        transfer(producer, receiver := bench.receiver(INTO_T, connection))
    assert set(caught.value.receiver_faults or {}) == {receiver}
    assert is_usable(connection)


def test_a_receiver_in_use_is_refused_and_its_running_copy_goes_on(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    receiver = bench.receiver(INTO_T)
    with CopyManager(bench.producer(NUMBERS), receiver) as copy:
        with pytest.raises(CopyFail, match="in another COPY"):
            transfer(NullProducer(), receiver)
        for _ in copy:
            pass
        assert copy.completed == {receiver}
    assert bench.count("t") == 10_000


def test_what_is_no_connection_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"expected a psycopg.Connection, got str"):
        StatementProducer("host=localhost", NUMBERS)  # type: ignore[arg-type]


def test_statements_may_be_composed(bench: Bench) -> None:
    bench.execute('CREATE TABLE "Odd name" (i int)')
    connection = bench.connect()
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier("Odd name"))
    receiver = StatementReceiver(connection, statement, link=bench.links[connection])
    transfer(bench.producer(NUMBERS), receiver)
    assert bench.count('"Odd name"') == 10_000
    assert "Odd name" in repr(receiver)


def test_a_stranger_cannot_be_reconciled() -> None:
    with CopyManager(NullProducer(), NullReceiver()) as copy:
        with pytest.raises(RuntimeError, match="not a receiver of this copy"):
            copy.reconcile(NullReceiver())
        with pytest.raises(StopIteration):
            next(copy)


def test_an_attached_receiver_may_be_reconciled_to_no_effect() -> None:
    receiver = NullReceiver()
    with CopyManager(IteratorProducer([[b"a\n"]]), receiver) as copy:
        copy.reconcile(receiver)
        assert list(copy) == [(1, 2)]
        with pytest.raises(CannotReconcile):
            copy.reconcile(receiver)


@pytest.mark.usefixtures("no_leaks")
def test_a_copy_leaves_no_descriptors_behind(plain_bench: Bench) -> None:
    plain_bench.execute("CREATE TABLE t (i int)")
    source = psycopg.connect(plain_bench.conninfo(), autocommit=True)
    target = psycopg.connect(plain_bench.conninfo(), autocommit=True)
    with source, target:
        transfer(StatementProducer(source, NUMBERS), StatementReceiver(target, INTO_T))
        with pytest.raises(CopyFail):
            transfer(StatementProducer(source, NUMBERS), StatementReceiver(target, "COPY x"))
    gc.collect()
