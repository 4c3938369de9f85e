"""A copy in batches keeps bad rows out on every link, beside others, and at a small cost."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from copyd.cluster.poll import wait_for
from copyd.copyman import (
    BatchReceiver,
    CopyManager,
    IteratorProducer,
    NullProducer,
    NullReceiver,
    ReceiverFault,
    Reject,
    transfer,
)
from copyd.copyman.batching.receiver import MOST_WAITING
from tests.contract.copyman.conftest import is_usable
from tests.support.batches import CHECKED, batch_receiver, faults_of, numbers
from tests.support.wiretap import Blow, Plan, Wiretap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.copyman.conftest import Bench
    from tests.support.servers import Server

COPY_T = "COPY t FROM STDIN"


@pytest.fixture
def wiretap(server: Server) -> Iterator[Wiretap]:
    """To be asked for before the bench, so that it outlives its connections."""
    with Wiretap(server.port) as tap:
        yield tap


@pytest.mark.parametrize("batch_rows", [7_000, 1_000_000])
def test_bad_rows_are_kept_out_whatever_links_the_data_travels_on(
    bench: Bench, batch_rows: int
) -> None:
    bench.execute("CREATE TABLE t (i int PRIMARY KEY, x text NOT NULL)")
    source = """
        COPY (SELECT CASE WHEN i % 5000 = 3 THEN 'bad ' || i ELSE i::text END,
                     CASE WHEN i % 5000 = 4 THEN NULL ELSE repeat('x', i % 50) END
              FROM generate_series(1, 20000) i) TO STDOUT"""
    rejects: list[Reject] = []
    receiver = batch_receiver(bench, rejects, batch_rows=batch_rows)
    plain = bench.receiver("COPY everything FROM STDIN")
    bench.execute("CREATE TABLE everything (i text, x text)")
    producer = bench.producer(source)
    transfer(producer, receiver, plain)
    receiver.connection.commit()
    assert [reject.ordinal for reject in rejects] == [
        i + k for i in range(0, 20_000, 5_000) for k in (3, 4)
    ]
    assert [reject.refusal.sqlstate for reject in rejects] == ["22P02", "23502"] * 4
    assert bench.count("t") == receiver.loaded == 20_000 - 8
    assert (receiver.read, plain.rows) == (20_000, 20_000)
    assert is_usable(receiver.connection)
    assert is_usable(producer.connection)


def test_nothing_at_all_is_a_good_copy(bench: Bench) -> None:
    bench.execute(CHECKED)
    receiver = batch_receiver(bench, [])
    transfer(NullProducer(), receiver)
    assert (receiver.rows, receiver.read, receiver.rejected) == (0, 0, 0)
    assert receiver.connection.info.transaction_status is TransactionStatus.INTRANS
    assert is_usable(receiver.connection)


def test_chunks_without_rows_do_no_harm(plain_bench: Bench) -> None:
    plain_bench.execute(CHECKED)
    rejects: list[Reject] = []
    receiver = batch_receiver(plain_bench, rejects)
    chunks = numbers(30, 11)
    transfer(IteratorProducer([[], chunks[0], [], [], *chunks[1:], []]), receiver)
    assert (receiver.read, receiver.loaded) == (30, 29)
    assert [reject.row for reject in rejects] == [b"-11\n"]


def test_it_can_run_again_in_another_copy(bench: Bench) -> None:
    bench.execute(CHECKED)
    rejects: list[Reject] = []
    receiver = batch_receiver(bench, rejects)
    for run in (1, 2):
        transfer(IteratorProducer(numbers(20, 3)), receiver)
        assert (receiver.read, receiver.loaded, receiver.rejected) == (20, 19, 1)
        assert len(rejects) == run
    receiver.connection.commit()
    assert bench.count("t") == 38


def test_rows_larger_than_a_batch_are_batches_of_their_own(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int, x text CHECK (x <> repeat('b', 700000)))")
    source = """
        COPY (SELECT i, repeat(CASE WHEN i IN (2, 5) THEN 'b' ELSE 'g' END, 700000)
              FROM generate_series(1, 5) i) TO STDOUT"""
    rejects: list[Reject] = []
    receiver = batch_receiver(bench, rejects, batch_rows=1_000, batch_size=100_000)
    transfer(bench.producer(source), receiver)
    receiver.connection.commit()
    assert [(reject.ordinal, reject.batch) for reject in rejects] == [(2, 2), (5, 5)]
    assert rejects[0].row == b"2\t" + b"b" * 700_000 + b"\n"
    assert bench.rows("SELECT i FROM t ORDER BY i") == [(1,), (3,), (4,)]


def test_a_row_refused_while_much_of_it_is_to_come_closes_the_connection(
    plain_bench: Bench,
) -> None:
    """The server needs the rest of a message; beyond 64 MB that is not worth its sending."""
    plain_bench.execute("CREATE TABLE t (i int)")
    producer = plain_bench.producer(
        "COPY (SELECT repeat('x', 10000) FROM generate_series(1, 30) "
        "UNION ALL SELECT repeat('y', 72000000)) TO STDOUT"
    )
    receiver = batch_receiver(plain_bench, [], batch_rows=1_000_000)
    neighbour = NullReceiver()
    faults = faults_of(CopyManager(producer, receiver, neighbour))
    assert isinstance(faults.get(receiver), (psycopg.OperationalError, type(None)))
    assert receiver.connection.closed if faults else receiver.rejected == 31
    assert neighbour.progress > 72_000_000


def test_the_others_go_on_while_one_isolates(wiretap: Wiretap, plain_bench: Bench) -> None:
    plain_bench.execute(f"{CHECKED}; CREATE TABLE u (i int)")
    rejects: list[Reject] = []
    wiretap.arm(Plan("to_server", "before", Blow.HOLD, text=b"ROLLBACK TO SAVEPOINT"))
    connection = plain_bench.connect(autocommit=False, port=wiretap.port)
    receiver = batch_receiver(plain_bench, rejects, batch_rows=20, connection=connection)
    neighbour = plain_bench.receiver("COPY u FROM STDIN")
    chunks = numbers(1_000, 5, 500)
    with CopyManager(IteratorProducer(chunks), receiver, neighbour) as copy:
        for _ in range(len(chunks)):
            next(copy)
        assert wiretap.struck.wait(10)
        assert receiver.is_behind
        assert receiver.read == 0
        size = sum(len(row) for chunk in chunks for row in chunk)
        assert wait_for(lambda: neighbour.progress > size, timeout=10)
        wiretap.release()
        list(copy)
        assert copy.completed == {receiver, neighbour}
    assert [reject.row for reject in rejects] == [b"-5\n", b"-500\n"]
    assert (receiver.loaded, neighbour.rows) == (998, 1_000)
    assert not receiver.is_behind


def test_one_that_is_done_and_has_to_leave_all_the_same_is_closed(plain_bench: Bench) -> None:
    """So it is where an interrupt comes between its verdict and the manager's note of it."""
    plain_bench.execute(CHECKED)
    receiver = batch_receiver(plain_bench, [], batch_rows=20)
    transfer(IteratorProducer(numbers(100)), receiver)
    assert (receiver.loaded, receiver.connection.closed) == (100, False)
    receiver.abort("the copy was given up")
    assert receiver.connection.closed
    assert plain_bench.count("t") == 0


def test_one_that_is_too_far_behind_is_waited_for(wiretap: Wiretap, plain_bench: Bench) -> None:
    plain_bench.execute(f"{CHECKED}; CREATE TABLE u (i int)")
    chunks = numbers(1_000, 5)
    size = len(b"".join(chunks[-2]))
    wiretap.arm(Plan("to_server", "before", Blow.HOLD, text=b"ROLLBACK TO SAVEPOINT"))
    connection = plain_bench.connect(autocommit=False, port=wiretap.port)
    receiver = batch_receiver(
        plain_bench, [], batch_rows=20, batch_size=size, connection=connection
    )
    neighbour = plain_bench.receiver("COPY u FROM STDIN")
    given = 0
    with CopyManager(IteratorProducer(chunks), receiver, neighbour, stall_timeout=0.3) as copy:
        with pytest.raises(ReceiverFault) as caught:
            for _ in copy:
                given += 1
        assert isinstance(caught.value.faults[receiver], TimeoutError)
        assert MOST_WAITING <= given <= MOST_WAITING + 5
        copy.reconcile(receiver)
        wiretap.release()
        list(copy)
        assert copy.completed == {receiver, neighbour}
    assert (receiver.loaded, neighbour.rows) == (999, 1_000)


def test_a_neighbour_that_faults_while_one_isolates_is_dropped_alone(
    wiretap: Wiretap, plain_bench: Bench
) -> None:
    plain_bench.execute(
        f"{CHECKED}; CREATE TABLE u (i int CHECK (i <> 300)); CREATE TABLE w (i int)"
    )
    wiretap.arm(Plan("to_server", "before", Blow.HOLD, text=b"ROLLBACK TO SAVEPOINT"))
    connection = plain_bench.connect(autocommit=False, port=wiretap.port)
    receiver = batch_receiver(plain_bench, [], batch_rows=20, connection=connection)
    sick = plain_bench.receiver("COPY u FROM STDIN")
    well = plain_bench.receiver("COPY w FROM STDIN")
    with CopyManager(IteratorProducer(numbers(1_000, 5)), receiver, sick, well) as copy:
        next(copy)
        next(copy)
        assert wiretap.struck.wait(10)
        plain_bench.execute(f"SELECT pg_terminate_backend({sick.connection.info.backend_pid})")
        with pytest.raises(ReceiverFault) as caught:
            list(copy)
        assert set(caught.value.faults) == {sick}
        assert receiver.is_behind
        wiretap.release()
        list(copy)
        assert copy.completed == {receiver, well}
    assert (receiver.loaded, receiver.rejected, well.rows) == (999, 1, 1_000)


def test_each_of_three_keeps_out_what_its_own_table_refuses(bench: Bench) -> None:
    bench.execute("CREATE TABLE t1 (i int CHECK (i % 1000 <> 1)); CREATE TABLE t2 (i int UNIQUE)")
    bench.execute("CREATE TABLE t3 (i smallint); INSERT INTO t2 VALUES (17), (18)")
    rejects: dict[str, list[Reject]] = {"t1": [], "t2": [], "t3": []}
    receivers = [
        batch_receiver(bench, rejects[name], f"COPY {name} FROM STDIN", batch_rows=5_000)
        for name in rejects
    ]
    transfer(bench.producer("COPY (SELECT generate_series(1, 33000)) TO STDOUT"), *receivers)
    assert [len(each) for each in rejects.values()] == [33, 2, 233]
    assert [receiver.loaded for receiver in receivers] == [32_967, 32_998, 32_767]


@pytest.mark.parametrize("every", [7, 300, 990])
def test_looking_for_rows_that_a_check_refuses_leaves_nothing_behind(
    plain_bench: Bench, every: int
) -> None:
    for name in ("t", "plain"):
        plain_bench.execute(f"CREATE TABLE {name} (i int PRIMARY KEY, CHECK (i > 0))")
    rows = 20_000
    bad = range(every, rows, every)
    receiver = batch_receiver(plain_bench, [], batch_rows=rows)
    transfer(IteratorProducer(numbers(rows, *bad)), receiver)
    receiver.connection.commit()
    good = [[row for row in chunk if not row.startswith(b"-")] for chunk in numbers(rows, *bad)]
    transfer(IteratorProducer(good), plain_bench.receiver("COPY plain FROM STDIN"))
    assert receiver.rejected == len(bad)
    size = "pg_relation_size('{0}'), pg_relation_size('{0}_pkey')"
    ours, theirs = (plain_bench.rows(f"SELECT {size.format(name)}") for name in ("t", "plain"))
    assert ours == theirs


@pytest.mark.parametrize("reason", ["checks", "foreign keys"])
def test_no_more_than_64_savepoints_are_left_behind(plain_bench: Bench, reason: str) -> None:
    plain_bench.execute("CREATE TABLE parent (i int PRIMARY KEY)")
    plain_bench.execute("INSERT INTO parent SELECT generate_series(1, 1000000)")
    check = "CHECK (i > 0)" if reason == "checks" else "REFERENCES parent"
    plain_bench.execute(f"CREATE TABLE t (i int {check})")
    bad = range(7, 6_000, 13)
    receiver = batch_receiver(plain_bench, [], batch_rows=20)
    transfer(IteratorProducer(numbers(6_000, *bad)), receiver)
    receiver.connection.commit()
    assert receiver.rejected == len(bad)
    assert plain_bench.count("t") == 6_000 - len(bad)
    (writers,) = plain_bench.rows("SELECT count(DISTINCT xmin::text) FROM t")[0]
    assert writers <= 64


@pytest.mark.parametrize("why", ["check", "key"])
def test_looking_at_large_rows_takes_few_at_a_time(plain_bench: Bench, why: str) -> None:
    plain_bench.execute("CREATE TABLE t (i int PRIMARY KEY CHECK (i > 0), x text)")
    plain_bench.execute("INSERT INTO t VALUES (100, '')")
    size, rows = 200_000, 200
    chunks = [
        [b"%d\t%s\n" % (-i if why == "check" and i == 100 else i, b"x" * size)]
        for i in range(1, rows)
    ]
    receiver = batch_receiver(plain_bench, [], batch_rows=rows, batch_size=size * rows)
    producer = IteratorProducer(chunks)
    tracemalloc.start()
    try:
        transfer(producer, receiver)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert receiver.rejected == 1
    assert peak < 2.3 * size * rows, f"{peak / size:.0f} rows"


BATCH_SIZE = 2_000_000


def test_three_that_isolate_at_once_keep_a_small_multiple_of_a_batch(plain_bench: Bench) -> None:
    receivers: list[BatchReceiver] = []
    for name in ("t1", "t2", "t3"):
        plain_bench.execute(f"CREATE TABLE {name} (i int CHECK (i % 1000 <> 0), x text)")
        receivers.append(
            batch_receiver(
                plain_bench, [], f"COPY {name} FROM STDIN", batch_rows=10**6, batch_size=BATCH_SIZE
            )
        )
    source = "COPY (SELECT i, repeat('x', 100) FROM generate_series(1, 80000) i) TO STDOUT"
    producer = plain_bench.producer(source)
    tracemalloc.start()
    try:
        transfer(producer, *receivers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [receiver.rejected for receiver in receivers] == [80, 80, 80]
    print(f"{peak / BATCH_SIZE:.1f} batches at most")
    assert peak < 3 * 5 * BATCH_SIZE


TOO_MUCH = """
import resource, sys
import psycopg
from copyd.copyman import (
    BatchReceiver, CopyManager, IteratorProducer, NullReceiver, ReceiverFault)

chunks = [[b"%d\\t%s\\n" % (i, b"x" * 90) for i in range(n, n + 50)] for n in range(0, 40000, 50)]
with psycopg.connect(sys.argv[1]) as connection:
    connection.execute("CREATE TEMP TABLE t (i int, x text)")
    receiver = BatchReceiver(
        connection, "COPY t FROM STDIN", batch_size=10_000, on_reject=print)
    neighbour = NullReceiver()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))
    with CopyManager(IteratorProducer(chunks), receiver, neighbour) as copy:
        try:
            list(copy)
        except ReceiverFault as fault:
            print(type(fault.faults[receiver]).__name__, fault.faults[receiver])
        list(copy)
    print(neighbour.progress == sum(len(row) for chunk in chunks for row in chunk))
    print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
"""


def test_a_disk_that_is_full_is_a_fault_that_says_so(plain_bench: Bench) -> None:
    command = [sys.executable, "-W", "error", "-c", TOO_MUCH, plain_bench.conninfo()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stderr == ""
    said, is_complete, rows = ran.stdout.splitlines()
    assert said.startswith("CopydError rows that wait for their server cannot be kept in ")
    assert "File too large" in said
    assert (is_complete, rows) == ("True", "0")
