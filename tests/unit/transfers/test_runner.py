from __future__ import annotations

import pytest

from copyd.transfers import Verdict
from copyd.transfers.runner import judge

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
