"""What a fault is counted as."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from copyd.copyman import CannotReconcile
from copyd.errors import CopydError
from copyd.server_errors import CLASSES
from copyd.transfers.faults import NOBODYS, OTHERS, SourceFailed, kind
from copyd.transfers.stop import RunStopped


def caused_by(cause: Exception) -> CopydError:
    error = CopydError("a sentence of ours")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.AdminShutdown("x"), "intervention"),
        (errors.UniqueViolation("x"), "constraint"),
        (errors.InvalidTextRepresentation("x"), "data"),
        (errors.DiskFull("x"), "resources"),
        (errors.InsufficientPrivilege("x"), "definition_or_privilege"),
        (errors.lookup("38000")("x"), "other"),
        (TimeoutError("x"), "stall"),
        (CannotReconcile("x"), "stall"),
        (psycopg.OperationalError("x"), "connection"),
        (ConnectionResetError("x"), "connection"),
        (CopydError("a guard"), "refused"),
        (caused_by(psycopg.OperationalError("x")), "connection"),
        (caused_by(errors.LockNotAvailable("x")), "state_or_lock"),
        (SourceFailed("x"), "source"),
        (RunStopped("x"), "stopped"),
        (ValueError("x"), "other"),
    ],
    ids=repr,
)
def test_a_fault_is_of_one_kind(error: Exception, expected: str) -> None:
    assert kind(error) == expected
    assert expected in {*(each.kind for each in CLASSES.values()), *OTHERS}


def test_nobody_is_blamed_for_kinds_that_there_are() -> None:
    assert set(OTHERS) >= NOBODYS
