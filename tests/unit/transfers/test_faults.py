from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from copyd.errors import CopydError
from copyd.transfers.faults import facts, is_transient


@pytest.mark.parametrize(
    "error",
    [
        errors.UniqueViolation("Key (name)=(secret) already exists."),
        errors.InvalidTextRepresentation('invalid input syntax for type integer: "secret"'),
        errors.RaiseException("I do not like secret"),
        errors.DataException("secret"),
    ],
)
def test_what_may_quote_a_row_is_told_by_its_code_and_name(error: psycopg.Error) -> None:
    said = facts(error)
    assert "secret" not in said
    assert said.startswith(f"{error.sqlstate} ")


def test_the_condition_has_postgresqls_own_name() -> None:
    assert facts(errors.UniqueViolation("x")) == "23505 unique_violation"


@pytest.mark.parametrize(
    "error",
    [
        errors.AdminShutdown("terminating connection due to administrator command"),
        errors.InsufficientPrivilege("permission denied for table t"),
        errors.LockNotAvailable("canceling statement due to lock timeout"),
        psycopg.OperationalError("connection refused"),
        CopydError("there is no table t"),
        TimeoutError("no progress for 5 s"),
    ],
)
def test_what_cannot_quote_a_row_is_told_in_its_own_words(error: Exception) -> None:
    assert facts(error) == str(error)


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
