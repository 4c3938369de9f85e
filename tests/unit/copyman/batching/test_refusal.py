"""What a server's words say of a row."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import DiagnosticField

from copyd.copyman.batching.refusal import Refusal, is_about_a_row


def said(kind: type[psycopg.Error], function: str = "") -> psycopg.Error:
    fields: dict[int, bytes | None] = {
        DiagnosticField.SQLSTATE: (kind.sqlstate or "").encode(),
        DiagnosticField.SOURCE_FUNCTION: function.encode(),
        DiagnosticField.MESSAGE_PRIMARY: b"secret",
        DiagnosticField.CONTEXT: b"COPY t, line 2",
        DiagnosticField.CONSTRAINT_NAME: b"c",
    }
    return kind("secret", info=fields, encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "function", "is_about"),
    [
        (errors.InvalidTextRepresentation, "pg_strtoint32", True),
        (errors.CheckViolation, "ExecConstraints", True),
        (errors.ProgramLimitExceeded, "", True),
        (errors.RaiseException, "exec_stmt_raise", True),
        (errors.InsufficientPrivilege, "exec_stmt_raise", True),
        (errors.InsufficientPrivilege, "aclcheck_error", False),
        (errors.SerializationFailure, "exec_stmt_raise", False),
        (errors.DiskFull, "mdextend", False),
        (errors.QueryCanceled, "ProcessInterrupts", False),
        (errors.UndefinedTable, "", False),
        (errors.AdminShutdown, "", False),
    ],
)
def test_a_row_is_to_blame_for_its_data_and_for_what_a_trigger_raised(
    kind: type[psycopg.Error], function: str, is_about: bool
) -> None:
    assert is_about_a_row(said(kind, function)) is is_about


def test_an_error_without_a_state_is_nobodys_row() -> None:
    assert not is_about_a_row(errors.OperationalError("lost"))


def test_a_refusal_knows_what_was_said_and_does_not_show_it() -> None:
    refusal = Refusal.of(said(errors.ForeignKeyViolation))
    assert (refusal.sqlstate, refusal.line, refusal.constraint) == ("23503", 2, "c")
    assert refusal.message == "secret"
    assert refusal.may_pass
    assert "secret" not in repr(refusal)
