"""How copyd.copyman looks to a user's type checker: mypy checks this file with the others."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from typing_extensions import assert_type

from copyd.copyman import (
    CallReceiver,
    CopyFail,
    CopyManager,
    IteratorProducer,
    Link,
    NullProducer,
    NullReceiver,
    Producer,
    Receiver,
    ReceiverFault,
    StatementProducer,
    StatementReceiver,
    transfer,
)

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg
    from psycopg.rows import DictRow

WRONG = """
import psycopg
from copyd.copyman import CopyManager, IteratorProducer, NullProducer, StatementReceiver

def use(connection: psycopg.Connection, other: psycopg.AsyncConnection) -> None:
    CopyManager(NullProducer(), NullProducer())
    IteratorProducer(["text"])
    StatementReceiver(other, "COPY t FROM STDIN")
    StatementReceiver(connection, "COPY t FROM STDIN", link="tls")
"""


def use(connection: psycopg.Connection[Any], other: psycopg.Connection[DictRow]) -> None:
    """Never called: what it asserts is for the type checker."""
    producer = StatementProducer(connection, "COPY t TO STDOUT", link="wire")
    receiver = StatementReceiver(other, "COPY t FROM STDIN")
    assert_type(receiver.rows, "int | None")
    assert_type(receiver.link, "Link | None")
    producers: list[Producer] = [producer, IteratorProducer([[b"a"]]), NullProducer()]
    receivers: list[Receiver] = [receiver, CallReceiver(print), NullReceiver()]
    assert_type(transfer(producers[0], *receivers), tuple[int, int])
    with CopyManager(producer, *receivers, stall_timeout=1.5) as copy:
        assert_type(copy, CopyManager)
        for step in copy:
            assert_type(step, tuple[int, int])
        assert_type(copy.completed, set[Receiver])


def look(fault: ReceiverFault, failure: CopyFail) -> None:
    assert_type(fault.faults, dict[Receiver, BaseException])
    assert_type(failure.receiver_faults, "dict[Receiver, BaseException] | None")
    assert_type(failure.producer_fault, "BaseException | None")
    assert_type(Link("plain", "no encryption").reason, str)


def test_wrong_uses_are_refused_by_the_type_checker(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text(WRONG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(sample)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = {line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line}
    assert lines == {"6", "7", "8", "9"}, done.stdout + done.stderr
