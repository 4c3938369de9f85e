"""A run that is over: a table for people, JSON for machines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from copyd.transfers import Outcome, Report

_COLOURS = {"succeeded": "green", "partial": "yellow", "unknown": "yellow", "failed": "red"}


def table(report: Report) -> Table:
    """Return the closing table: a line a destination, MB/s of COPY payload."""
    rendered = Table(box=None, pad_edge=False, header_style="bold")
    rendered.add_column("destination", overflow="fold")
    for title in ("rows", "bytes", "seconds", "MB/s"):
        rendered.add_column(title, justify="right")
    rendered.add_column("verdict", overflow="fold")
    for outcome in report.outcomes:
        verdict = outcome.verdict.value
        reason = f": {outcome.cause}" if outcome.cause else ""
        rendered.add_row(
            Text(outcome.destination),
            f"{outcome.rows:,}",
            decimal(outcome.size),
            f"{outcome.seconds:.2f}",
            f"{_rate(outcome):.0f}",
            Text.assemble((verdict, _COLOURS[verdict]), reason),
        )
    return rendered


def as_json(report: Report) -> str:
    """Return the report as one JSON object; bytes of payload, seconds, bytes per second."""
    return json.dumps(
        {
            "verdict": report.verdict.value,
            "seconds": round(report.seconds, 6),
            "destinations": [_fields(outcome) for outcome in report.outcomes],
        },
        ensure_ascii=False,
        indent=2,
    )


def failure_as_json(cause: str) -> str:
    """Return the report of a run that could not begin."""
    return json.dumps(
        {"verdict": "failed", "cause": cause, "destinations": []}, ensure_ascii=False, indent=2
    )


def _fields(outcome: Outcome) -> dict[str, Any]:
    return {
        "destination": outcome.destination,
        "verdict": outcome.verdict.value,
        "cause": outcome.cause,
        "rows": outcome.rows,
        "bytes": outcome.size,
        "seconds": round(outcome.seconds, 6),
        "bytes_per_second": round(_rate(outcome) * 1e6),
        "passes": outcome.passes,
        "link": outcome.link.name if outcome.link else None,
        "link_reason": outcome.link.reason if outcome.link else None,
    }


def _rate(outcome: Outcome) -> float:
    """Megabytes of payload a second."""
    return outcome.size / 1e6 / outcome.seconds if outcome.seconds else 0.0
