from __future__ import annotations

import io
import json

from rich.console import Console

from copyd.copyman import Link
from copyd.observe import report
from copyd.transfers import Outcome, Report, Verdict

ENDED = Report(
    verdict=Verdict.PARTIAL,
    seconds=2.5,
    outcomes=(
        Outcome("eu", Verdict.SUCCEEDED, 1_000, 5_000_000, 2.0, 1, Link("plain", "why"), None),
        Outcome("us", Verdict.FAILED, 0, 0, 0.0, 0, None, "there is no table t"),
    ),
)


def test_the_closing_table_names_each_destination_its_rows_and_its_reason() -> None:
    text = io.StringIO()
    Console(file=text, width=120).print(report.table(ENDED))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert lines[1:] == [
        "eu 1,000 5.0 MB 2.00 2 succeeded",
        "us 0 0 bytes 0.00 0 failed: there is no table t",
    ]


def test_the_json_report_carries_plain_numbers() -> None:
    parsed = json.loads(report.as_json(ENDED))
    assert parsed["verdict"] == "partial"
    assert parsed["destinations"][0] == {
        "destination": "eu",
        "verdict": "succeeded",
        "cause": None,
        "rows": 1_000,
        "bytes": 5_000_000,
        "seconds": 2.0,
        "bytes_per_second": 2_500_000,
        "passes": 1,
        "link": "plain",
        "link_reason": "why",
    }
