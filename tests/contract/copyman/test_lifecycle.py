"""A copy from its start to its end, on every link."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg.errors import InvalidTextRepresentation

from copyd.copyman import (
    CallReceiver,
    CopyFail,
    CopyManager,
    IteratorProducer,
    NullProducer,
    NullReceiver,
    ReceiverFault,
    transfer,
)
from tests.contract.copyman.conftest import is_usable

if TYPE_CHECKING:
    from tests.contract.copyman.conftest import Bench

NUMBERS = "COPY (SELECT i, 'row ' || i FROM generate_series(1, 10000) i) TO STDOUT"


def test_a_transfer_copies_every_row_once_and_leaves_both_ends_usable(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int, x text)")
    producer, receiver = bench.producer(NUMBERS), bench.receiver("COPY t FROM STDIN")
    messages, size = transfer(producer, receiver)
    assert messages == 10_000
    assert producer.rows == receiver.rows == 10_000
    assert bench.rows("SELECT count(*), sum(i), sum(length(x)) FROM t") == [
        (10_000, 50_005_000, 78_894)
    ]
    assert size == 38_894 + 78_894 + 2 * 10_000
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


@pytest.mark.parametrize("destinations", [3, 16])
def test_one_source_feeds_many_destinations(bench: Bench, destinations: int) -> None:
    for number in range(destinations):
        bench.execute(f"CREATE TABLE t{number} (i int, x text)")
    receivers = [bench.receiver(f"COPY t{number} FROM STDIN") for number in range(destinations)]
    transfer(bench.producer(NUMBERS), *receivers)
    assert {bench.count(f"t{number}") for number in range(destinations)} == {10_000}


def test_leaving_early_fails_the_copy_and_keeps_nothing(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer = bench.producer("COPY (SELECT generate_series(1, 30000000)) TO STDOUT")
    receiver = bench.receiver("COPY t FROM STDIN")
    with pytest.raises(CopyFail), CopyManager(producer, receiver) as copy:
        next(copy)
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_a_bad_row_is_a_fault_with_the_servers_own_words_and_the_others_finish(
    bench: Bench,
) -> None:
    bench.execute("CREATE TABLE good (i text)")
    bench.execute("CREATE TABLE bad (i int)")
    source = "SELECT CASE i WHEN 3 THEN 'x' ELSE i::text END FROM generate_series(1, 700000) i"
    good, bad = bench.receiver("COPY good FROM STDIN"), bench.receiver("COPY bad FROM STDIN")
    sent = 0
    with CopyManager(bench.producer(f"COPY ({source}) TO STDOUT"), good, bad) as copy:
        with pytest.raises(ReceiverFault) as caught:
            for _, size in copy:
                sent += size
        for _ in copy:
            pass
        assert copy.completed == {good}
    assert set(caught.value.faults) == {bad}
    error = caught.value.faults[bad]
    assert isinstance(error, InvalidTextRepresentation)
    assert error.diag.context == 'COPY bad, line 3, column i: "x"'
    assert sent < 3 * 1024 * 1024
    assert bench.count("good") == 700_000
    assert bench.count("bad") == 0
    assert is_usable(bad.connection)


def test_an_exception_in_the_block_becomes_copyfail_with_its_cause(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int, x text)")
    producer, receiver = bench.producer(NUMBERS), bench.receiver("COPY t FROM STDIN")
    with pytest.raises(CopyFail) as caught, CopyManager(producer, receiver):
        raise KeyError("mine")
    assert isinstance(caught.value.__context__, KeyError)
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_a_terminated_destination_is_dropped_and_the_rest_go_on(bench: Bench) -> None:
    bench.execute("CREATE TABLE a (i int)")
    bench.execute("CREATE TABLE b (i int)")
    a, b = bench.receiver("COPY a FROM STDIN"), bench.receiver("COPY b FROM STDIN")
    numbers = bench.producer("COPY (SELECT generate_series(1, 1000000)) TO STDOUT")
    with CopyManager(numbers, a, b) as copy:
        next(copy)
        bench.execute(f"SELECT pg_terminate_backend({b.connection.info.backend_pid})")
        with pytest.raises(ReceiverFault) as caught:
            for _ in copy:
                pass
        assert set(caught.value.faults) == {b}
        for _ in copy:
            pass
    assert bench.count("a") == 1_000_000
    assert b.connection.closed


def test_a_source_error_fails_the_copy_at_every_destination(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    source = "SELECT 1 / (500000 - i) FROM generate_series(1, 600000) i"
    producer, receiver = (
        bench.producer(f"COPY ({source}) TO STDOUT"),
        bench.receiver("COPY t FROM STDIN"),
    )
    with pytest.raises(CopyFail, match="division by zero") as caught:
        transfer(producer, receiver)
    assert caught.value.producer_fault is not None
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_the_caller_commits(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int, x text)")
    connection = bench.connect(autocommit=False)
    transfer(bench.producer(NUMBERS), bench.receiver("COPY t FROM STDIN", connection))
    assert bench.count("t") == 0
    connection.commit()
    assert bench.count("t") == 10_000


def test_lines_go_from_an_iterator_to_a_callable_and_to_a_table(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    lines = [b"%d\n" % number for number in range(1_000)]
    got: list[bytes] = []
    chunks = [lines[start : start + 20] for start in range(0, 1_000, 20)]
    counts = transfer(
        IteratorProducer([*chunks[:5], [], *chunks[5:]]),
        CallReceiver(got.extend),
        bench.receiver("COPY t FROM STDIN"),
        NullReceiver(),
    )
    assert got == lines
    assert counts == (1_000, sum(map(len, lines)))
    assert bench.count("t") == 1_000


def test_a_callable_gets_whole_lines_from_a_statement(bench: Bench) -> None:
    got: list[bytes] = []
    transfer(bench.producer(NUMBERS), CallReceiver(got.extend))
    assert got == [b"%d\trow %d\n" % (number, number) for number in range(1, 10_001)]


def test_nothing_to_nowhere_is_a_good_copy() -> None:
    assert transfer(NullProducer(), NullReceiver()) == (0, 0)
