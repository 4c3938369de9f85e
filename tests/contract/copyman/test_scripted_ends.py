"""The ends that `copyd.testing` ships keep the ports' contract, beside real ones and without any."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from psycopg import errors

from copyd.copyman import (
    CannotReconcile,
    CopyFail,
    CopyManager,
    OutcomeUnknown,
    ProducerFault,
    ReceiverFault,
    transfer,
)
from copyd.testing import ScriptedProducer, ScriptedReceiver

if TYPE_CHECKING:
    from tests.contract.copyman.conftest import Bench

ROWS = [b"%d\n" % number for number in range(100)]


def source(**script: object) -> ScriptedProducer:
    return ScriptedProducer(ROWS, chunk_rows=10, **script)  # type: ignore[arg-type]


def test_every_row_arrives_once_and_both_ends_say_how_many() -> None:
    producer, receiver = source(), ScriptedReceiver()
    assert transfer(producer, receiver) == (100, len(b"".join(ROWS)))
    assert receiver.lines == ROWS
    assert producer.rows == receiver.rows == 100
    assert receiver.tag is not None
    assert receiver.tag.text == "COPY 100"


def test_they_work_beside_real_connections(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    real, scripted = bench.receiver("COPY t FROM STDIN"), ScriptedReceiver()
    transfer(source(), real, scripted)
    assert real.rows == scripted.rows == bench.count("t") == 100
    again = ScriptedReceiver()
    transfer(bench.producer("COPY (SELECT generate_series(0, 99)) TO STDOUT"), again)
    assert again.lines == ROWS


@pytest.mark.parametrize("step", ["start", 1, 10, "end"])
def test_a_refusal_ends_a_receiver_and_the_others_go_on(step: int | str) -> None:
    error = errors.CheckViolation("no")
    bad, good = ScriptedReceiver(refuses_at=step, error=error), ScriptedReceiver()  # type: ignore[arg-type]
    with CopyManager(source(), bad, good, drops_at_start=True) as copy:
        with pytest.raises(ReceiverFault) as caught:
            list(copy)
        assert caught.value.faults == {bad: error}
        with pytest.raises(CannotReconcile):
            copy.reconcile(bad)
        list(copy)
        assert copy.completed == {good}
    assert good.lines == ROWS
    assert (bad.rows, bad.tag) == (None, None)


def test_a_fault_may_be_reconciled_and_every_row_arrives_once() -> None:
    bad, good = ScriptedReceiver(faults_at=[1, 2, 10]), ScriptedReceiver()
    faulted: list[object] = []
    with CopyManager(source(), bad, good) as copy:
        while copy.receivers:
            try:
                list(copy)
            except ReceiverFault as fault:
                faulted += map(type, fault.faults.values())
                copy.reconcile(bad)
    assert faulted == [ConnectionError] * 3
    assert bad.lines == good.lines == ROWS


def test_a_stall_is_a_fault_and_ends_when_it_is_released() -> None:
    slow, good = ScriptedReceiver(stalls_at=[3]), ScriptedReceiver()
    with CopyManager(source(), slow, good, stall_timeout=0.01) as copy:
        with pytest.raises(ReceiverFault) as caught:
            list(copy)
        assert isinstance(caught.value.faults[slow], TimeoutError)
        copy.reconcile(slow)
        slow.release()
        list(copy)
    assert slow.lines == good.lines == ROWS


def test_a_stall_is_waited_for_while_another_thread_may_release_it() -> None:
    slow = ScriptedReceiver(stalls_at=["start"])
    timer = threading.Timer(0.05, slow.release)
    timer.start()
    transfer(source(), slow)
    timer.join()
    assert slow.lines == ROWS


def test_a_stall_at_the_verdict_leaves_the_outcome_unknown() -> None:
    slow, good = ScriptedReceiver(stalls_at=["end"]), ScriptedReceiver()
    with CopyManager(source(), slow, good, verdict_timeout=0.01) as copy:
        with pytest.raises(ReceiverFault) as caught:
            list(copy)
        assert isinstance(caught.value.faults[slow], OutcomeUnknown)
        assert slow.is_closed
        list(copy)


def test_a_source_that_is_lost_fails_the_copy() -> None:
    producer, receiver = source(fault_after=25), ScriptedReceiver()
    with pytest.raises(CopyFail), CopyManager(producer, receiver) as copy:
        with pytest.raises(ProducerFault):
            list(copy)
        assert list(copy) == []
    assert receiver.lines == ROWS[:25]
    assert receiver.rows is producer.rows is None


def test_a_source_that_resumes_may_still_succeed() -> None:
    fault = OSError("hiccup")
    producer, receiver = source(fault_after=100, fault=fault, resumes=True), ScriptedReceiver()
    with CopyManager(producer, receiver) as copy:
        with pytest.raises(ProducerFault, match="hiccup"):
            list(copy)
        list(copy)
    assert receiver.lines == ROWS


def test_they_need_no_pytest() -> None:
    code = "import sys, copyd.testing; sys.exit('pytest' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
