"""What happens when a party fails in the middle, and how the rest go on, on every link."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors

from copyd.copyman import (
    CallReceiver,
    CannotReconcile,
    CopyFail,
    CopyManager,
    Fault,
    IteratorProducer,
    NullReceiver,
    ProducerFault,
    ReceiverFault,
    transfer,
)
from tests.contract.copyman.conftest import eventually, is_usable
from tests.support.proxy import Action, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.copyman.chunk import Chunk
    from tests.contract.copyman.conftest import Bench

MANY = "COPY (SELECT generate_series(1, 400000)) TO STDOUT"
ENDLESS = "COPY (SELECT generate_series(1, 100000000)) TO STDOUT"
SILENT = """
    COPY (SELECT i, CASE i WHEN 5000 THEN pg_advisory_lock(1) END FROM generate_series(1, 5000) i)
    TO STDOUT
"""
CHUNKS = [[b"%d\n" % i for i in range(start, start + 10)] for start in range(0, 100, 10)]


class Recorder(NullReceiver):
    """Keeps what it is given; raises at the chosen steps, counted from 1."""

    def __init__(self, *, bad_offers: Sequence[int] = (), bad_pumps: Sequence[int] = ()) -> None:
        super().__init__()
        self.lines: list[bytes] = []
        self._new: list[bytes] = []
        self._bad = {"offer": list(bad_offers), "pump": list(bad_pumps)}
        self._done = {"offer": 0, "pump": 0}

    def _step(self, kind: str) -> None:
        self._done[kind] += 1
        if self._done[kind] in self._bad[kind]:
            raise OSError(f"{kind} {self._done[kind]}")

    def offer(self, chunk: Chunk) -> None:
        self._step("offer")
        self._new = list(chunk.pieces)

    def pump(self) -> bool:
        if self._new:
            self._step("pump")
            self.lines += self._new
            self._new = []
        return True

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._new = []


ALL_LINES = [line for chunk in CHUNKS for line in chunk]


def test_the_faults_have_a_common_parent_and_copyfail_is_none_of_them() -> None:
    assert issubclass(ProducerFault, Fault)
    assert issubclass(ReceiverFault, Fault)
    assert not issubclass(CopyFail, Fault)


@pytest.mark.parametrize("step", ["bad_offers", "bad_pumps"])
def test_a_receiver_that_raises_is_dropped_and_all_others_get_every_chunk(step: str) -> None:
    bad, worse, good = Recorder(**{step: [3]}), Recorder(**{step: [3]}), Recorder()
    with CopyManager(IteratorProducer(CHUNKS), bad, worse, good) as copy:
        assert [next(copy), next(copy)] == [(10, 20), (10, 30)]
        with pytest.raises(ReceiverFault, match=r"2 receiver\(s\) faulted") as caught:
            next(copy)
        assert caught.value.manager is copy
        assert set(caught.value.faults) == {bad, worse}
        assert isinstance(caught.value.faults[bad], OSError)
        assert copy.receivers == {good}
        assert good.lines == ALL_LINES[:30]
        list(copy)
        assert copy.completed == {good}
    assert good.lines == ALL_LINES
    assert bad.lines == ALL_LINES[:20]


@pytest.mark.parametrize("step", ["bad_offers", "bad_pumps"])
def test_a_reconciled_receiver_gets_every_line_once(step: str) -> None:
    bad, good = Recorder(**{step: [1, 2, 7, 12]}), Recorder()
    counted = faulted = 0
    with CopyManager(IteratorProducer(CHUNKS), bad, good) as copy:
        while copy.receivers:
            try:
                for messages, _ in copy:
                    counted += messages
            except ReceiverFault as fault:
                faulted += 1
                for receiver in fault.faults:
                    copy.reconcile(receiver)
    assert faulted == 4
    assert bad.lines == good.lines == ALL_LINES
    assert copy.completed == {bad, good}
    assert counted == 100


def test_a_dropped_callable_is_not_called_again() -> None:
    calls: list[list[bytes]] = []

    def refuse(lines: list[bytes]) -> None:
        calls.append(lines)
        raise OSError("refused")

    with CopyManager(IteratorProducer(CHUNKS), CallReceiver(refuse), NullReceiver()) as copy:
        with pytest.raises(ReceiverFault):
            next(copy)
        list(copy)
    assert calls == [CHUNKS[0]]


def test_the_sums_hold_when_the_last_cycle_faulted() -> None:
    bad, good = Recorder(bad_pumps=[10]), NullReceiver()
    counted: list[tuple[int, int]] = []
    with CopyManager(IteratorProducer(CHUNKS), bad, good) as copy:
        with pytest.raises(ReceiverFault):
            counted.extend(copy)
        counted.extend(copy)
    assert sum(messages for messages, _ in counted) + 90 == 190
    assert sum(size for _, size in copy) == 0


def test_the_sums_hold_when_the_only_receiver_is_gone(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int CHECK (i < 1000))")
    producer, receiver = bench.producer(ENDLESS), bench.receiver("COPY t FROM STDIN")
    counted: list[tuple[int, int]] = []
    with pytest.raises(CopyFail, match="no receivers"), CopyManager(producer, receiver) as copy:
        with pytest.raises(ReceiverFault) as caught:
            for step in copy:
                counted.append(step)  # noqa: PERF402 - it must keep what came before the fault
        assert isinstance(caught.value.faults[receiver], errors.CheckViolation)
        counted += copy
    assert counted
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_a_late_reconcile_is_refused_because_data_was_missed() -> None:
    bad, good = Recorder(bad_pumps=[2]), Recorder()
    with CopyManager(IteratorProducer(CHUNKS), bad, good) as copy:
        with pytest.raises(ReceiverFault):
            list(copy)
        next(copy)
        with pytest.raises(CannotReconcile, match="has missed data"):
            copy.reconcile(bad)
        list(copy)
    assert good.lines == ALL_LINES


def test_a_receiver_that_left_copy_cannot_be_reconciled(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int CHECK (i < 1000)); CREATE TABLE u (i int)")
    bad, good = bench.receiver("COPY t FROM STDIN"), bench.receiver("COPY u FROM STDIN")
    with CopyManager(bench.producer(MANY), bad, good) as copy:
        with pytest.raises(ReceiverFault):
            list(copy)
        with pytest.raises(CannotReconcile, match="left COPY"):
            copy.reconcile(bad)
        list(copy)
    assert bench.count("u") == 400_000
    assert bench.count("t") == 0


@pytest.mark.parametrize("is_reconciled", [True, False], ids=["reconciled", "dropped"])
def test_a_stalled_destination_faults_and_nobody_else_is_hurt(
    bench: Bench, is_reconciled: bool
) -> None:
    bench.execute("CREATE TABLE t (i int); CREATE TABLE u (i int)")
    with Proxy(bench.server.port) as proxy:
        stalled = bench.receiver("COPY t FROM STDIN", bench.connect(port=proxy.port))
        good = bench.receiver("COPY u FROM STDIN")
        producer = bench.producer("COPY (SELECT generate_series(1, 3000000)) TO STDOUT")
        with CopyManager(producer, stalled, good, stall_timeout=0.3) as copy:
            proxy.to_server.after(100_001, Action.STALL)
            with pytest.raises(ReceiverFault) as caught:
                list(copy)
            assert set(caught.value.faults) == {stalled}
            assert isinstance(caught.value.faults[stalled], TimeoutError)
            proxy.to_server.release()
            copy.stall_timeout = None
            if is_reconciled:
                copy.reconcile(stalled)
            list(copy)
        assert bench.rows("SELECT count(*), sum(i) FROM u") == [(3_000_000, 4_500_001_500_000)]
        arrived = 3_000_000 if is_reconciled else 0
        assert eventually(lambda: bench.count("t") == arrived)
        assert stalled.rows == (3_000_000 if is_reconciled else None)
        assert stalled.connection.closed or is_usable(stalled.connection)
        stalled.connection.close()


def test_a_dropped_destinations_connection_is_usable_after_the_copy(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    receiver = bench.receiver("COPY t FROM STDIN")
    bad = Recorder(bad_pumps=[1])
    with CopyManager(bench.producer(MANY), bad, receiver) as copy:
        with pytest.raises(ReceiverFault):
            next(copy)
        list(copy)
    assert is_usable(receiver.connection)
    assert receiver.rows == 400_000


def test_a_cancelled_destination_is_a_fault_with_the_servers_error(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer, receiver = bench.producer(ENDLESS), bench.receiver("COPY t FROM STDIN")
    with pytest.raises(CopyFail), CopyManager(producer, receiver) as copy:
        next(copy)
        bench.execute(f"SELECT pg_cancel_backend({receiver.connection.info.backend_pid})")
        with pytest.raises(ReceiverFault) as caught:
            list(copy)
    assert isinstance(caught.value.faults[receiver], errors.QueryCanceled)
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_a_destination_that_dies_while_the_source_is_silent_is_noticed(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int, x text)")
    producer, receiver = bench.producer(SILENT), bench.receiver("COPY t FROM STDIN")
    with bench.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(1)")
        with (
            pytest.raises(CopyFail),
            CopyManager(producer, receiver, producer_stall_timeout=0.2) as copy,
        ):
            with pytest.raises(ProducerFault):
                list(copy)  # to where the source is silent
            copy.producer_stall_timeout = None
            bench.execute(f"SELECT pg_terminate_backend({receiver.connection.info.backend_pid})")
            with pytest.raises(ReceiverFault) as caught:
                next(copy)
    assert isinstance(caught.value.faults[receiver], psycopg.OperationalError)
    assert receiver.connection.closed
    assert is_usable(producer.connection)


def test_a_silent_source_is_at_fault_after_its_timeout_and_may_go_on(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int, x text)")
    producer, receiver = bench.producer(SILENT), bench.receiver("COPY t FROM STDIN")
    with bench.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(1)")
        with CopyManager(producer, receiver, producer_stall_timeout=0.2) as copy:
            with pytest.raises(ProducerFault) as caught:
                list(copy)
            assert isinstance(caught.value.__cause__, TimeoutError)
            holder.execute("SELECT pg_advisory_unlock(1)")
            copy.producer_stall_timeout = None
            list(copy)
            assert copy.completed == {receiver}
    assert bench.count("t") == 5_000


FAILING = "COPY (SELECT 1 / (300000 - i) FROM generate_series(1, 400000) i) TO STDOUT"


@pytest.mark.parametrize(
    ("statement", "attack", "kind"),
    [
        (FAILING, "SELECT 1", errors.DivisionByZero),
        (ENDLESS, "SELECT pg_cancel_backend({pid})", errors.QueryCanceled),
        (ENDLESS, "SELECT pg_terminate_backend({pid})", psycopg.OperationalError),
    ],
    ids=["error", "cancel", "terminate"],
)
def test_a_trapped_fault_of_the_source_fails_the_copy_all_the_same(
    bench: Bench, statement: str, attack: str, kind: type[Exception]
) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer, receiver = bench.producer(statement), bench.receiver("COPY t FROM STDIN")
    with pytest.raises(CopyFail) as failed, CopyManager(producer, receiver) as copy:
        next(copy)
        bench.execute(attack.format(pid=producer.connection.info.backend_pid))
        with pytest.raises(ProducerFault) as caught:
            list(copy)
        assert isinstance(caught.value.__context__, kind)
        assert caught.value.__cause__ is caught.value.__context__
        assert caught.value.manager is copy
        assert list(copy) == []
    assert failed.value.producer_fault is caught.value.__cause__
    assert bench.count("t") == 0
    assert is_usable(receiver.connection)
    assert producer.connection.closed == (attack.find("terminate") > 0)


def test_a_statement_timeout_of_the_source_is_its_fault(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int, x text)")
    producer, receiver = bench.producer(SILENT), bench.receiver("COPY t FROM STDIN")
    producer.connection.execute("SET statement_timeout = 200")
    with bench.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(CopyFail) as caught:
            transfer(producer, receiver)
    assert isinstance(caught.value.producer_fault, errors.QueryCanceled)
    assert is_usable(producer.connection)


def broken(*, at: int) -> Iterator[list[bytes]]:
    for number, chunk in enumerate(CHUNKS):
        if number == at:
            raise OSError("broken")
        yield chunk


def test_a_generator_that_raised_is_never_taken_for_one_that_ended(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    receiver = bench.receiver("COPY t FROM STDIN")
    faulted = 0
    with (
        pytest.raises(CopyFail) as caught,
        CopyManager(IteratorProducer(broken(at=5)), receiver) as copy,
    ):
        while copy.receivers and faulted < 10:
            try:
                list(copy)
                break
            except ProducerFault:
                faulted += 1
    assert faulted == 2
    assert isinstance(caught.value.producer_fault, EOFError)
    assert bench.count("t") == 0


class Hiccups:
    """An iterator that raises once and then goes on."""

    def __init__(self) -> None:
        self._steps: list[list[bytes] | None] = [*CHUNKS[:4], None, *CHUNKS[4:]]

    def __iter__(self) -> Iterator[list[bytes]]:
        return self

    def __next__(self) -> list[bytes]:
        if not self._steps:
            raise StopIteration
        step = self._steps.pop(0)
        if step is None:
            raise OSError("hiccup")
        return step


def test_a_source_that_can_go_on_after_its_fault_may_still_succeed(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    receiver = bench.receiver("COPY t FROM STDIN")
    with CopyManager(IteratorProducer(Hiccups()), receiver) as copy:
        with pytest.raises(ProducerFault, match="hiccup"):
            list(copy)
        list(copy)
    assert bench.rows("SELECT count(*), sum(i) FROM t") == [(100, 4_950)]


def test_run_raises_copyfail_only_with_the_fault_as_context() -> None:
    with pytest.raises(CopyFail) as caught:
        CopyManager(IteratorProducer(CHUNKS), Recorder(bad_pumps=[2])).run()
    assert isinstance(caught.value.__context__, ReceiverFault)
    with pytest.raises(CopyFail) as caught:
        CopyManager(IteratorProducer(broken(at=1)), NullReceiver()).run()
    assert isinstance(caught.value.__context__, ProducerFault)


NOISY = """
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE WARNING '%', repeat('w', 500); RETURN new; END $$;
    CREATE TABLE t (i int);
    CREATE TRIGGER shout BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION shout()
"""


def test_a_destination_that_floods_warnings_is_drained_and_heard(bench: Bench) -> None:
    bench.execute(NOISY)
    receiver = bench.receiver("COPY t FROM STDIN")
    heard: list[str | None] = []
    receiver.connection.add_notice_handler(lambda notice: heard.append(notice.severity))
    transfer(bench.producer("COPY (SELECT generate_series(1, 20000)) TO STDOUT"), receiver)
    assert bench.count("t") == 20_000
    assert heard == ["WARNING"] * 20_000


def test_a_source_that_warns_between_rows_is_heard_and_its_rows_are_whole(bench: Bench) -> None:
    bench.execute("""
        CREATE TABLE t (i int);
        CREATE FUNCTION warn(i int) RETURNS int LANGUAGE plpgsql AS
            $$ BEGIN IF i % 100 = 0 THEN RAISE NOTICE 'at %', i; END IF; RETURN i; END $$
    """)
    producer = bench.producer("COPY (SELECT warn(i) FROM generate_series(1, 5000) i) TO STDOUT")
    heard: list[str | None] = []
    producer.connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    transfer(producer, bench.receiver("COPY t FROM STDIN"))
    assert heard == [f"at {i}" for i in range(100, 5_001, 100)]
    assert bench.rows("SELECT count(*), sum(i) FROM t") == [(5_000, 12_502_500)]


def test_two_copies_may_run_at_the_same_time_in_two_threads(bench: Bench) -> None:
    bench.execute("CREATE TABLE a (i int); CREATE TABLE b (i int)")
    copies = [
        CopyManager(bench.producer(MANY), bench.receiver(f"COPY {table} FROM STDIN"))
        for table in ("a", "b")
    ]
    threads = [threading.Thread(target=copy.run) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.count("a") == bench.count("b") == 400_000
