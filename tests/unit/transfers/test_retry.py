from __future__ import annotations

import psycopg
import pytest

from copyd.errors import CopydError
from copyd.transfers.retry import is_transient, pause
from copyd.transfers.transfer import Reintroduce


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.AdminShutdown("going down"),
        psycopg.errors.DiskFull("no space"),
        psycopg.errors.DeadlockDetected("deadlock"),
        psycopg.errors.LockNotAvailable("locked"),
        psycopg.errors.ReadOnlySqlTransaction("standby"),
        psycopg.OperationalError("connection lost"),
        ConnectionResetError("reset"),
        TimeoutError("stalled"),
    ],
)
def test_what_may_pass_by_itself_is_transient(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.UniqueViolation("twice"),
        psycopg.errors.UndefinedTable("no table"),
        psycopg.errors.InsufficientPrivilege("not allowed"),
        ValueError("ours"),
        CopydError("a sentence without a cause"),
    ],
)
def test_what_stays_wrong_is_not_transient(error: Exception) -> None:
    assert not is_transient(error)


def test_a_sentence_is_as_transient_as_its_cause() -> None:
    sentence = CopydError("cannot connect")
    sentence.__cause__ = psycopg.OperationalError("refused")
    assert is_transient(sentence)


def test_pauses_double_up_to_the_longest_and_are_jittered() -> None:
    reintroduce = Reintroduce(attempts=9, backoff=1.0, max_backoff=10.0)
    for faults, longest in [(1, 1.0), (2, 2.0), (4, 8.0), (5, 10.0), (60, 10.0)]:
        pauses = {pause(faults, reintroduce) for _ in range(50)}
        assert longest / 2 <= min(pauses) <= max(pauses) <= longest
        assert len(pauses) > 1
