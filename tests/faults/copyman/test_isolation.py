"""Interrupts, lost connections and killed servers at every step of keeping refused rows out."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from copyd.copyman import (
    BatchReceiver,
    CopyFail,
    CopyManager,
    IteratorProducer,
    ReceiverFault,
    Reject,
)
from tests.contract.copyman.conftest import is_usable
from tests.support.proxy import Action, Proxy
from tests.support.servers import running_server

if TYPE_CHECKING:
    from copyd.cluster import Installation
    from copyd.copyman import Receiver
    from tests.contract.copyman.conftest import Bench

TABLES = """
    CREATE TABLE parent (i int PRIMARY KEY);
    INSERT INTO parent VALUES (1);
    CREATE TABLE t (i int CHECK (i > 0), p int REFERENCES parent);
    CREATE TABLE u (i int, p int)"""
CHUNKS = [
    [b"1\t1\n", b"-2\t1\n", b"3\t9\n"],
    [b"4\t1\n", b"5\t1\n"],
    [b"-6\t1\n", b"7\t1\n", b"8\t1\n"],
]
ROWS = sum(map(len, CHUNKS))
GOOD = 5
BATCH_ROWS = 5


@dataclass
class Trial:
    """One small copy to a table that refuses rows, through `port`, and to one that does not."""

    bench: Bench
    port: int | None = None
    rejects: list[Reject] = field(default_factory=list)
    faults: dict[Receiver, BaseException] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.connection = self.bench.connect(autocommit=False, port=self.port)
        self.receiver = BatchReceiver(
            self.connection,
            "COPY t FROM STDIN",
            batch_rows=BATCH_ROWS,
            on_reject=self.rejects.append,
            link=self.bench.links[self.connection],
        )
        self.neighbour = self.bench.receiver("COPY u FROM STDIN")
        self.manager = CopyManager(
            IteratorProducer(CHUNKS), self.receiver, self.neighbour, drops_at_start=True
        )

    def run(self, *, stall_timeout: float | None = None) -> None:
        self.manager.stall_timeout = self.manager.verdict_timeout = stall_timeout
        with self.manager as copy:
            while copy.receivers:
                try:
                    list(copy)
                except ReceiverFault as fault:
                    self.faults |= fault.faults

    def check(self) -> None:
        """The neighbour has all; the other one has all that is good, or nothing and says why."""
        assert self.bench.count("u") == ROWS
        assert set(self.faults) <= {self.receiver}
        if self.receiver in self.manager.completed:
            assert not self.faults
            self.connection.commit()
            assert self.bench.count("t") == self.receiver.loaded == GOOD
            assert len(self.rejects) == ROWS - GOOD
        else:
            assert isinstance(self.faults[self.receiver], (psycopg.Error, TimeoutError))
            assert self.connection.closed
            assert self.bench.count("t") == 0


@pytest.fixture
def bench_of_trials(bench: Bench) -> Bench:
    bench.execute(TABLES)
    return bench


@pytest.fixture
def plain_bench_of_trials(plain_bench: Bench) -> Bench:
    """Without encryption, so that messages can be seen."""
    plain_bench.execute(TABLES)
    return plain_bench


def steps_of(bench: Bench, way: str) -> list[int]:
    """Where the messages of an undisturbed copy begin, one way, and where the last one ends."""
    with Proxy(bench.server.port) as proxy:
        trial = Trial(bench, proxy.port)
        start = len(getattr(proxy, way).seen)
        trial.run()
        stream = bytes(getattr(proxy, way).seen[start:])
        trial.check()
        trial.connection.close()
    places, position = [], 0
    while position < len(stream):
        places.append(position)
        position += 1 + int.from_bytes(stream[position + 1 : position + 5], "big")
    return places


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("action", [Action.CUT, Action.RESET])
@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_a_connection_lost_at_any_message_of_isolating_is_a_fault_of_its_own(
    plain_bench_of_trials: Bench, way: str, action: Action
) -> None:
    bench = plain_bench_of_trials
    steps = steps_of(bench, way)
    for step in steps if action is Action.CUT else steps[::3]:
        bench.execute("TRUNCATE t, u")
        with Proxy(bench.server.port) as proxy:
            trial = Trial(bench, proxy.port)
            getattr(proxy, way).after(step, action)
            trial.run()
            trial.check()
            trial.connection.close()
            trial.neighbour.connection.close()


@pytest.mark.usefixtures("no_leaks")
def test_a_connection_that_stalls_while_it_isolates_is_closed_at_its_verdict(
    plain_bench_of_trials: Bench,
) -> None:
    bench = plain_bench_of_trials
    for step in steps_of(bench, "to_server")[1::4]:
        bench.execute("TRUNCATE t, u")
        with Proxy(bench.server.port) as proxy:
            trial = Trial(bench, proxy.port)
            proxy.to_server.after(step, Action.STALL)
            trial.manager.realign_timeout = 0.1
            trial.run(stall_timeout=0.1)
            trial.connection.close()
            proxy.to_server.release()
            trial.neighbour.connection.close()
        assert isinstance(trial.faults[trial.receiver], (psycopg.Error, TimeoutError))
        assert bench.count("u") == ROWS
        assert bench.count("t") == 0


@pytest.mark.parametrize("link", ["plain", "libpq"])
def test_a_backend_killed_at_any_step_of_isolating_is_a_fault_of_its_own(
    plain_bench_of_trials: Bench, link: str
) -> None:
    bench = plain_bench_of_trials
    bench.kinds = iter(lambda: link, None)
    reasons = set()
    for step in steps_of(bench, "to_server"):
        bench.execute("TRUNCATE t, u")
        with Proxy(bench.server.port) as proxy:
            trial = Trial(bench, proxy.port)
            proxy.to_server.after(step, Action.STALL)
            killer = threading.Thread(target=_kill, args=(proxy, trial))
            killer.start()
            trial.run()
            killer.join()
            trial.check()
            trial.connection.close()
            trial.neighbour.connection.close()
        reasons |= {type(fault) for fault in trial.faults.values()}
    assert psycopg.errors.AdminShutdown in reasons


def _kill(proxy: Proxy, trial: Trial) -> None:
    """Wait until the server waits for the next message, then end it."""
    assert proxy.to_server.reached.wait(10)
    trial.bench.execute(f"SELECT pg_terminate_backend({trial.connection.info.backend_pid})")
    proxy.to_server.release()


class _Interrupted(BatchReceiver):
    """Is interrupted when it is pumped for the ``moment``-th time."""

    moment = 0
    pumped = 0

    def pump(self) -> bool:
        self.pumped += 1
        if self.pumped == self.moment:
            raise KeyboardInterrupt
        return super().pump()


@pytest.mark.usefixtures("no_leaks")
def test_an_interrupt_at_any_step_leaves_the_transaction_as_it_was(bench_of_trials: Bench) -> None:
    bench = bench_of_trials
    closed: list[int] = []
    for moment in count(1):
        trial = Trial(bench)
        trial.connection.execute("CREATE TEMP TABLE mine AS SELECT 1")
        interrupted = _Interrupted(
            trial.connection,
            "COPY t FROM STDIN",
            batch_rows=BATCH_ROWS,
            on_reject=trial.rejects.append,
            link=bench.links[trial.connection],
        )
        interrupted.moment = moment
        trial.manager = CopyManager(IteratorProducer(CHUNKS), interrupted, trial.neighbour)
        try:
            trial.run()
        except KeyboardInterrupt:
            if trial.connection.closed:  # its savepoint was released already, or just now
                closed.append(moment)
            else:
                assert_nothing_was_added(trial.connection)
            assert bench.count("t") == 0
        else:
            break
        finally:
            trial.connection.close()
            trial.neighbour.connection.close()
    assert moment > 5  # how often it is pumped is up to the machine
    assert len(closed) <= 3


def assert_nothing_was_added(connection: psycopg.Connection[Any]) -> None:
    """The caller's transaction goes on, with what was in it before."""
    assert connection.info.transaction_status is TransactionStatus.INTRANS
    found = connection.execute("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM mine)")
    assert found.fetchone() == (0, 1)


@pytest.mark.parametrize("cycles", range(len(CHUNKS) + 1))
def test_leaving_after_any_cycle_leaves_the_transaction_as_it_was(
    bench_of_trials: Bench, cycles: int
) -> None:
    trial = Trial(bench_of_trials)
    trial.connection.execute("CREATE TEMP TABLE mine AS SELECT 1")
    with pytest.raises(CopyFail), trial.manager as copy:
        for _ in range(cycles):
            next(copy)
    assert_nothing_was_added(trial.connection)
    assert bench_of_trials.count("u") == 0


def test_an_interrupt_within_a_step_closes_the_connection(bench_of_trials: Bench) -> None:
    trial = Trial(bench_of_trials)

    def interrupt(reject: Reject) -> None:
        raise KeyboardInterrupt(reject.ordinal)

    receiver = BatchReceiver(
        trial.connection, "COPY t FROM STDIN", batch_rows=BATCH_ROWS, on_reject=interrupt
    )
    with (
        pytest.raises(KeyboardInterrupt),
        CopyManager(IteratorProducer(CHUNKS), receiver, trial.neighbour) as copy,
    ):
        list(copy)
    assert trial.connection.closed
    assert is_usable(trial.neighbour.connection)
    assert bench_of_trials.count("t") == 0


SILENT = """
    COPY (SELECT i, CASE i WHEN 3000 THEN pg_advisory_lock(6) END IS NULL
          FROM generate_series(-1, 3000) i) TO STDOUT
"""


@pytest.mark.parametrize("batch_rows", [1, 1_000_000], ids=["between batches", "in a refused one"])
def test_a_backend_killed_while_its_receiver_waits_for_data_is_a_fault_at_once(
    bench: Bench, batch_rows: int
) -> None:
    """The source is silent until then, so nothing but the loss itself can be noticed."""
    bench.execute("CREATE TABLE t (i int CHECK (i <> 0), x bool); CREATE TABLE u (i int, x bool)")
    connection = bench.connect(autocommit=False)
    receiver = BatchReceiver(
        connection,
        "COPY t FROM STDIN",
        batch_rows=batch_rows,
        on_reject=list[Reject]().append,
        link=bench.links[connection],
    )
    neighbour = bench.receiver("COPY u FROM STDIN")
    with psycopg.connect(bench.conninfo(), autocommit=True) as locker:
        locker.execute("SELECT pg_advisory_lock(6)")
        with CopyManager(bench.producer(SILENT), receiver, neighbour) as copy:
            copy.producer_stall_timeout = 20
            next(copy)
            pid = connection.info.backend_pid
            locker.execute("SELECT pg_terminate_backend(%s)", [pid])
            with pytest.raises(ReceiverFault) as caught:
                list(copy)
            assert set(caught.value.faults) == {receiver}
            assert isinstance(caught.value.faults[receiver], psycopg.OperationalError)
            assert connection.closed
            locker.execute("SELECT pg_advisory_unlock(6)")
            list(copy)
    assert neighbour.rows == 3_002


def test_a_server_killed_while_it_isolates_is_a_fault_and_the_neighbour_completes(
    plain_bench: Bench, installation: Installation
) -> None:
    plain_bench.execute("CREATE TABLE u (i int)")
    neighbour = plain_bench.receiver("COPY u FROM STDIN")
    producer = plain_bench.producer("COPY (SELECT generate_series(-200000, 200000)) TO STDOUT")
    with running_server(installation) as doomed, doomed.connect(autocommit=False) as connection:
        connection.execute("CREATE TABLE t (i int CHECK (i % 100 <> 0))")
        receiver = BatchReceiver(
            connection, "COPY t FROM STDIN", batch_rows=1_000, on_reject=list[Reject]().append
        )
        with CopyManager(producer, receiver, neighbour) as copy:
            while not receiver.rejected:
                next(copy)
            doomed.cluster.kill()
            with pytest.raises(ReceiverFault) as caught:
                list(copy)
            assert isinstance(caught.value.faults[receiver], psycopg.OperationalError)
            list(copy)
        assert connection.closed
    assert neighbour.rows == 400_001
