from __future__ import annotations

import psycopg
import pytest

from copyd.transfers import Verdict
from copyd.transfers.runner import judge, judge_commit

GOOD, BAD, LOST = Verdict.SUCCEEDED, Verdict.FAILED, Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([GOOD, GOOD], Verdict.SUCCEEDED),
        ([BAD, BAD], Verdict.FAILED),
        ([GOOD, BAD], Verdict.PARTIAL),
        ([GOOD, LOST], Verdict.PARTIAL),
        ([LOST], Verdict.UNKNOWN),
        ([BAD, LOST], Verdict.UNKNOWN),
    ],
)
def test_a_runs_verdict_follows_from_its_destinations(
    verdicts: list[Verdict], expected: Verdict
) -> None:
    assert judge(verdicts) is expected


@pytest.mark.parametrize(
    ("error", "is_lost", "expected"),
    [
        (None, False, GOOD),
        (None, True, GOOD),
        (psycopg.errors.ForeignKeyViolation("no parent"), False, BAD),
        (psycopg.OperationalError("connection lost"), True, LOST),
        (TimeoutError("no answer"), False, LOST),
    ],
)
def test_only_a_confirmed_commit_succeeds_and_only_a_refused_one_fails(
    error: Exception | None, is_lost: bool, expected: Verdict
) -> None:
    assert judge_commit(error, is_lost=is_lost) is expected
