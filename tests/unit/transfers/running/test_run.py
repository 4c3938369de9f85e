from __future__ import annotations

import pytest

from copyd.transfers import Verdict
from copyd.transfers.running.run import judge

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
    ("verdicts", "expected"),
    [
        ([GOOD, GOOD, BAD], Verdict.PARTIAL),
        ([GOOD, BAD, BAD], Verdict.FAILED),
        ([GOOD, LOST, BAD], Verdict.UNKNOWN),
        ([GOOD, GOOD, GOOD], Verdict.SUCCEEDED),
    ],
)
def test_too_few_successes_are_a_failure(verdicts: list[Verdict], expected: Verdict) -> None:
    assert judge(verdicts, minimum=2) is expected
