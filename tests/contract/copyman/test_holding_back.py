"""A receiver that is slow, not silent: how long the others are held back by it, on every link."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from itertools import cycle, pairwise
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from psycopg import errors

from copyd.copyman import (
    CallReceiver,
    CopyManager,
    IteratorProducer,
    NullReceiver,
    OutcomeUnknown,
    ReceiverFault,
)
from tests.support.proxy import Action, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

    from copyd.copyman import Receiver
    from copyd.copyman.chunk import Chunk
    from tests.contract.copyman.conftest import Bench

MANY = "COPY (SELECT generate_series(1, 1000000)) TO STDOUT"
ALL_OF_MANY = [(1_000_000, 500_000_500_000)]
SUMS = "SELECT count(*), sum(i) FROM {}"
TABLES = "CREATE TABLE t (i int); CREATE TABLE u (i int); CREATE TABLE v (i int)"
INTO_T = "COPY t FROM STDIN"
DRIP = 10_000  # bytes a second
SHORT = 0.2  # the end of a copy need not wait long for one that drips
SLOW_VERDICT = """
    CREATE TABLE t (i int);
    CREATE FUNCTION dally() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_lock(2); RETURN NULL; END $$;
    CREATE TRIGGER dally AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION dally()
"""


class Punctual(NullReceiver):
    """Has taken each chunk some time after it was offered; `delays` are used in turn."""

    def __init__(self, delays: Sequence[float]) -> None:
        super().__init__()
        self._delays = cycle(delays)
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.join()
        os.close(self._reader)
        os.close(self._writer)

    def offer(self, chunk: Chunk) -> None:
        super().offer(chunk)
        self._timer = threading.Timer(next(self._delays), os.write, (self._writer, b"."))
        self._timer.start()

    def pump(self) -> bool:
        if self._timer is not None:
            try:
                os.read(self._reader, 1)
            except BlockingIOError:
                return False
            self._timer.join()
            self._timer = None
        return True

    def fileno(self) -> int | None:
        return self._reader if self._timer is not None else None


def chunks(count: int) -> IteratorProducer:
    return IteratorProducer([[b"line\n"]] * count)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_a_dripping_destination_is_dropped_and_the_rest_go_on(bench: Bench) -> None:
    bench.execute(TABLES)
    with Proxy(bench.server.port) as proxy:
        slow = bench.receiver(INTO_T, bench.connect(port=proxy.port))
        good = bench.receiver("COPY u FROM STDIN")
        with CopyManager(bench.producer(MANY), slow, good, stall_timeout=5, max_wait=0.5) as copy:
            copy.realign_timeout = SHORT
            proxy.to_server.drip(DRIP)
            with pytest.raises(ReceiverFault) as caught:
                list(copy)
            assert set(caught.value.faults) == {slow}
            assert isinstance(caught.value.faults[slow], TimeoutError)
            assert str(caught.value.faults[slow]) == "held the others back for 0.5 s"
            assert 0.5 <= copy.held_back(slow) < 1.0
            assert copy.held_back(good) == 0.0
            list(copy)
            assert copy.completed == {good}
        assert bench.rows(SUMS.format("u")) == ALL_OF_MANY
        assert bench.count("t") == 0
        slow.connection.close()


def test_two_that_drip_are_both_dropped_for_the_one_that_does_not(bench: Bench) -> None:
    bench.execute(TABLES)
    with Proxy(bench.server.port) as first, Proxy(bench.server.port) as second:
        slow = bench.receiver(INTO_T, bench.connect(port=first.port))
        slower = bench.receiver("COPY v FROM STDIN", bench.connect(port=second.port))
        good = bench.receiver("COPY u FROM STDIN")
        faults: dict[Receiver, BaseException] = {}
        with CopyManager(bench.producer(MANY), slow, slower, good, max_wait=0.5) as copy:
            copy.realign_timeout = SHORT
            first.to_server.drip(DRIP)
            second.to_server.drip(DRIP // 2)
            while copy.receivers:
                try:
                    list(copy)
                except ReceiverFault as fault:
                    faults |= fault.faults
        assert faults.keys() == {slow, slower}
        assert {str(fault) for fault in faults.values()} == {"held the others back for 0.5 s"}
        assert bench.rows(SUMS.format("u")) == ALL_OF_MANY
        slow.connection.close()
        slower.connection.close()


def test_one_that_stalls_is_reconciled_until_its_time_is_used_up(bench: Bench) -> None:
    bench.execute(TABLES)
    held_back = []
    with Proxy(bench.server.port) as proxy:
        stalled = bench.receiver(INTO_T, bench.connect(port=proxy.port))
        good = bench.receiver("COPY u FROM STDIN")
        producer = bench.producer(MANY)
        with CopyManager(producer, stalled, good, stall_timeout=0.2, max_wait=0.9) as copy:
            copy.realign_timeout = SHORT
            proxy.to_server.after(100_001, Action.STALL)
            while copy.receivers:
                try:
                    list(copy)
                except ReceiverFault:
                    held_back.append(copy.held_back(stalled))
                    if held_back[-1] < 0.9:
                        copy.reconcile(stalled)
            assert copy.completed == {good}
        proxy.to_server.release()
        assert bench.rows(SUMS.format("u")) == ALL_OF_MANY
        stalled.connection.close()
    steps = [after - before for before, after in pairwise(held_back[:-1])]
    assert 0.19 < median(steps) < 0.4
    assert 0.9 <= held_back[-1] < 1.3


def test_one_that_has_used_up_its_time_is_at_fault_as_soon_as_another_waits(
    bench: Bench,
) -> None:
    bench.execute(TABLES)
    with Proxy(bench.server.port) as proxy:
        stalled = bench.receiver(INTO_T, bench.connect(port=proxy.port))
        good = bench.receiver("COPY u FROM STDIN")
        with CopyManager(bench.producer(MANY), stalled, good, max_wait=0.5) as copy:
            proxy.to_server.after(100_001, Action.STALL)
            with pytest.raises(ReceiverFault):
                list(copy)
            copy.reconcile(stalled)
            began = monotonic()
            with pytest.raises(ReceiverFault, match="held the others back"):
                list(copy)
            assert monotonic() - began < 0.5
            proxy.to_server.release()
            copy.max_wait = None
            copy.reconcile(stalled)
            list(copy)
            assert copy.completed == {stalled, good}
        assert bench.rows(SUMS.format("t")) == bench.rows(SUMS.format("u")) == ALL_OF_MANY


def test_one_that_is_alone_holds_nobody_back(bench: Bench) -> None:
    bench.execute(TABLES)
    with Proxy(bench.server.port) as proxy:
        alone = bench.receiver(INTO_T, bench.connect(port=proxy.port))
        few = "COPY (SELECT generate_series(1, 100000)) TO STDOUT"
        with CopyManager(bench.producer(few), alone, max_wait=0.1) as copy:
            proxy.to_server.drip(1_000_000)
            list(copy)
            assert copy.held_back(alone) == 0.0
            assert copy.completed == {alone}
    assert bench.count("t") == 100_000


def test_one_whose_neighbours_are_gone_holds_nobody_back(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int); CREATE TABLE u (i int CHECK (i < 1000))")
    with Proxy(bench.server.port) as proxy:
        slow = bench.receiver(INTO_T, bench.connect(port=proxy.port))
        bad = bench.receiver("COPY u FROM STDIN")
        few = "COPY (SELECT generate_series(1, 100000)) TO STDOUT"
        with CopyManager(bench.producer(few), slow, bad) as copy:
            proxy.to_server.drip(1_000_000)
            with pytest.raises(ReceiverFault) as caught:
                list(copy)
            assert isinstance(caught.value.faults[bad], errors.CheckViolation)
            copy.max_wait = 0.0
            list(copy)
            assert copy.held_back(slow) == 0.0
            assert copy.completed == {slow}


def test_a_verdict_that_the_others_have_waited_for_long_enough_is_unknown(bench: Bench) -> None:
    bench.execute(f"CREATE TABLE u (i int); {SLOW_VERDICT}")
    slow, good = bench.receiver(INTO_T), bench.receiver("COPY u FROM STDIN")
    with bench.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(2)")
        few = "COPY (SELECT generate_series(1, 10)) TO STDOUT"
        with CopyManager(bench.producer(few), slow, good, max_wait=0.3) as copy:
            with pytest.raises(ReceiverFault, match=r"held the others back for 0\.3 s") as caught:
                list(copy)
            assert isinstance(caught.value.faults[slow], OutcomeUnknown)
            assert copy.completed == {good}
            assert slow.connection.closed
            assert copy.held_back(slow) >= 0.3
    assert bench.count("u") == 10


def test_all_that_are_equally_slow_go_on(stack: ExitStack) -> None:
    slow = [stack.enter_context(Punctual([0.1])) for _ in range(3)]
    with CopyManager(chunks(10), *slow, max_wait=0.4) as copy:
        list(copy)
        assert copy.completed == set(slow)
        assert max(map(copy.held_back, slow)) < 0.4


def test_those_that_take_turns_at_being_late_go_on(stack: ExitStack) -> None:
    one = stack.enter_context(Punctual([0.15, 0.0]))
    other = stack.enter_context(Punctual([0.0, 0.15]))
    with CopyManager(chunks(12), one, other, max_wait=0.5) as copy:
        list(copy)
        assert copy.completed == {one, other}


def test_lateness_adds_up_over_the_steps(stack: ExitStack) -> None:
    late, good = stack.enter_context(Punctual([0.1])), NullReceiver()
    taken = 0
    with CopyManager(chunks(12), late, good, max_wait=0.5) as copy:
        with pytest.raises(ReceiverFault) as caught:
            for _ in copy:
                taken += 1
        assert set(caught.value.faults) == {late}
        list(copy)
        assert copy.completed == {good}
    assert 2 <= taken <= 5


def test_what_was_held_back_before_counts_too(stack: ExitStack) -> None:
    late, good = stack.enter_context(Punctual([0.1])), NullReceiver()
    with CopyManager(chunks(3), late, good, max_wait=0.5) as copy:
        copy.charge(late, 0.45)
        assert copy.held_back(late) == pytest.approx(0.45, abs=0.05)
        with pytest.raises(ReceiverFault, match="held the others back"):
            list(copy)
        list(copy)
        assert copy.completed == {good}


def test_the_time_in_a_callable_is_its_own(stack: ExitStack) -> None:
    busy, late = threading.Event(), stack.enter_context(Punctual([0.05]))
    slow = CallReceiver(lambda _: busy.wait(0.2))
    with CopyManager(chunks(5), slow, late, NullReceiver(), max_wait=0.6) as copy:
        list(copy)
        assert copy.completed >= {slow, late}
        assert copy.held_back(slow) >= 1.0
        assert copy.held_back(late) < 0.6


def test_only_receivers_of_the_copy_are_asked_for() -> None:
    copy = CopyManager(chunks(1), NullReceiver())
    with pytest.raises(RuntimeError, match="not a receiver of this copy"):
        copy.held_back(NullReceiver())
