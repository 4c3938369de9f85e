"""A run that is over: a table for people, JSON for machines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.transfers import Outcome, Report
    from copyd.transfers.verify import Compared, Comparison

Document = dict[str, Any]
"""What is one JSON object."""

_COLOURS = {"succeeded": "green", "partial": "yellow", "unknown": "yellow", "failed": "red"}
_LIKENESS_COLOURS = {"equal": "green", "not compared": "yellow", "differs": "red"}


def table(report: Report, *, is_private: bool = False) -> Table:
    """Return the closing table: a line a destination, MB/s of COPY payload.

    `is_private`: one person alone sees it, so that servers may quote rows.
    """
    rendered = Table(box=None, pad_edge=False, header_style="bold")
    rendered.add_column("destination", overflow="fold")
    for title in ("read", "loaded", "rejected", "rows", "bytes", "seconds", "MB/s"):
        rendered.add_column(title, justify="right")
    rendered.add_column("verdict", overflow="fold")
    for outcome in report.outcomes:
        verdict = outcome.verdict.value
        why = outcome.words if is_private and outcome.words else outcome.cause
        reason = "".join(f": {said}" for said in (why, *outcome.notes) if said)
        rendered.add_row(
            Text(outcome.destination),
            f"{outcome.counts.read:,}",
            f"{outcome.counts.loaded:,}",
            f"{outcome.counts.rejected:,}",
            f"{outcome.counts.rows:,}",
            decimal(outcome.counts.size),
            f"{outcome.seconds:.2f}",
            f"{_rate(outcome):.0f}",
            Text.assemble((verdict, _COLOURS[verdict]), reason),
        )
    return rendered


def as_json(told: Document | Sequence[Document]) -> str:
    """Return one JSON document of an object, or of several."""
    return json.dumps(told, ensure_ascii=False, indent=2)


def document(report: Report, comparison: Comparison | None = None) -> Document:
    """Return the report for JSON: bytes of payload, seconds, bytes per second.

    With a `comparison` each destination has "verified", null where it was not to be compared.
    """
    return {
        "transfer": report.transfer,
        "run": report.run,
        "verdict": report.verdict.value,
        "seconds": round(report.seconds, 6),
        "destinations": [
            _fields(outcome) | _verified(outcome, comparison) for outcome in report.outcomes
        ],
    }


def failure(transfer: str, cause: str, seconds: float) -> Document:
    """Return the report of a run that could not begin: it has no name."""
    return {
        "transfer": transfer,
        "run": None,
        "verdict": "failed",
        "cause": cause,
        "seconds": round(seconds, 6),
        "destinations": [],
    }


def comparison_table(comparison: Comparison) -> Table:
    """Return a line for each destination and table."""
    rendered = Table(box=None, pad_edge=False, header_style="bold")
    rendered.add_column("destination", overflow="fold")
    rendered.add_column("table", overflow="fold")
    for title in ("source rows", "rows there"):
        rendered.add_column(title, justify="right")
    rendered.add_column("verdict", overflow="fold")
    for each in comparison.tables:
        likeness = each.likeness.value
        rendered.add_row(
            Text(each.destination),
            Text(each.table if each.table == each.there else f"{each.table} in {each.there}"),
            _count(each.source_rows),
            _count(each.rows),
            Text.assemble((likeness, _LIKENESS_COLOURS[likeness]), _because(each.reason)),
        )
    if comparison.cause is not None:
        rendered.add_row("", "", "", "", Text(f"not compared{_because(comparison.cause)}"))
    return rendered


def comparison_document(comparison: Comparison) -> Document:
    """Return the comparison for JSON."""
    return {
        "transfer": comparison.transfer,
        "verdict": comparison.likeness.value,
        "cause": comparison.cause,
        "seconds": round(comparison.seconds, 6),
        "tables": [
            {"destination": each.destination} | _compared(each) for each in comparison.tables
        ],
    }


def _verified(outcome: Outcome, comparison: Comparison | None) -> Document:
    if comparison is None:
        return {}
    if outcome.verdict.value != "succeeded":
        return {"verified": None}
    verified = {
        "verdict": comparison.likeness_at(outcome.destination).value,
        "cause": comparison.cause,
        "tables": [_compared(each) for each in comparison.at(outcome.destination)],
    }
    return {"verified": verified}


def _compared(each: Compared) -> Document:
    return {
        "table": each.table,
        "there": each.there,
        "source_rows": each.source_rows,
        "rows": each.rows,
        "verdict": each.likeness.value,
        "reason": each.reason,
    }


def _count(rows: int | None) -> str:
    return "" if rows is None else f"{rows:,}"


def _because(reason: str | None) -> str:
    return "" if reason is None else f": {reason}"


def _fields(outcome: Outcome) -> Document:
    return {
        "destination": outcome.destination,
        "verdict": outcome.verdict.value,
        "cause": outcome.cause,
        "read": outcome.counts.read,
        "loaded": outcome.counts.loaded,
        "rejected": outcome.counts.rejected,
        "rows": outcome.counts.rows,
        "bytes": outcome.counts.size,
        "seconds": round(outcome.seconds, 6),
        "bytes_per_second": round(_rate(outcome) * 1e6),
        "passes": outcome.passes,
        "faults": outcome.faults,
        "reconciliations": outcome.reconciliations,
        "link": outcome.link.name if outcome.link else None,
        "link_reason": outcome.link.reason if outcome.link else None,
        "format": outcome.format.name if outcome.format else None,
        "format_reason": outcome.format.reason if outcome.format else None,
        "analyze_seconds": round(outcome.analyze_seconds, 6),
        "notes": list(outcome.notes),
    }


def _rate(outcome: Outcome) -> float:
    """Megabytes of payload a second."""
    return outcome.counts.size / 1e6 / outcome.seconds if outcome.seconds else 0.0
