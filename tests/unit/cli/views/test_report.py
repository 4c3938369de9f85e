from __future__ import annotations

import io
import json

from rich.console import Console

from copyd.cli.views import report
from copyd.copyman import Link
from copyd.events import Counts
from copyd.transfers import Outcome, Report, Verdict
from copyd.transfers.source.formats import ChosenFormat

ENDED = Report(
    transfer="orders",
    run="7f",
    verdict=Verdict.PARTIAL,
    seconds=2.5,
    outcomes=(
        Outcome(
            "eu",
            Verdict.SUCCEEDED,
            counts=Counts(rows=1_000, read=1_200, rejected=7, size=5_000_000),
            seconds=2.0,
            passes=1,
            link=Link("plain", "why"),
            format=ChosenFormat("text", "because"),
            analyze_seconds=0.25,
            notes=("after its COMMIT: no",),
        ),
        Outcome("us", Verdict.FAILED, faults=2, cause="there is no table t"),
    ),
)


def test_the_closing_table_names_each_destination_its_rows_and_its_reason() -> None:
    text = io.StringIO()
    Console(file=text, width=120).print(report.table(ENDED))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert lines[1:] == [
        "eu 1,200 1,193 7 1,000 5.0 MB 2.00 2 succeeded: after its COMMIT: no",
        "us 0 0 0 0 0 bytes 0.00 0 failed: there is no table t",
    ]


def test_the_json_report_carries_plain_numbers() -> None:
    parsed = json.loads(json.dumps(report.document(ENDED)))
    assert (parsed["transfer"], parsed["run"], parsed["verdict"]) == ("orders", "7f", "partial")
    assert parsed["destinations"][0] == {
        "destination": "eu",
        "verdict": "succeeded",
        "cause": None,
        "read": 1_200,
        "loaded": 1_193,
        "rejected": 7,
        "rows": 1_000,
        "bytes": 5_000_000,
        "seconds": 2.0,
        "bytes_per_second": 2_500_000,
        "passes": 1,
        "faults": 0,
        "reconciliations": 0,
        "link": "plain",
        "link_reason": "why",
        "format": "text",
        "format_reason": "because",
        "analyze_seconds": 0.25,
        "notes": ["after its COMMIT: no"],
    }


def test_a_run_that_could_not_begin_has_no_name() -> None:
    assert json.loads(json.dumps([report.failure("orders", "no", 0.5)])) == [
        {
            "transfer": "orders",
            "run": None,
            "verdict": "failed",
            "cause": "no",
            "seconds": 0.5,
            "destinations": [],
        }
    ]
