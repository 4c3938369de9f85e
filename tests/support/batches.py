"""Receivers of batches, chunks for them, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copyd.copyman import BatchReceiver, ReceiverFault
from tests.support.refused_rows import BATCH_ROWS

if TYPE_CHECKING:
    from copyd.copyman import CopyManager, Receiver, Reject
    from tests.contract.copyman.conftest import Bench

COPY_T = "COPY t FROM STDIN"
CHECKED = "CREATE TABLE t (i int CONSTRAINT c CHECK (i >= 0))"


def numbers(count: int, *bad: int) -> list[list[bytes]]:
    """Ten rows a chunk; `bad` ones are negative."""
    rows = [b"%d\n" % (-number if number in bad else number) for number in range(1, count + 1)]
    return [rows[start : start + 10] for start in range(0, count, 10)]


def faults_of(copy: CopyManager) -> dict[Receiver, BaseException]:
    """Run the copy to its end, dropping whoever faults; returns what each raised."""
    faults: dict[Receiver, BaseException] = {}
    with copy:
        while copy.receivers:
            try:
                list(copy)
            except ReceiverFault as fault:
                faults |= fault.faults
    return faults


def batch_receiver(
    bench: Bench, rejects: list[Reject], statement: str = COPY_T, **options: Any
) -> BatchReceiver:
    """A receiver in a transaction, that notes what it rejects."""
    options = {"batch_rows": BATCH_ROWS, "on_reject": rejects.append, **options}
    connection = options.pop("connection", None) or bench.connect(autocommit=False)
    return BatchReceiver(connection, statement, link=bench.links[connection], **options)
