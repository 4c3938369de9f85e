"""The result of a run, or of a comparison: a table for people, JSON for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.filesize import decimal
from rich.text import Text

from copyd.cli.views.grid import grid

if TYPE_CHECKING:
    from rich.table import Table

    from copyd.transfers import Outcome, Report
    from copyd.transfers.verify import Compared, Comparison

Document = dict[str, Any]  # a JSON object

_COLOURS = {"succeeded": "green", "partial": "yellow", "unknown": "yellow", "failed": "red"}
_LIKENESS_COLOURS = {"equal": "green", "not compared": "yellow", "differs": "red"}


def table(report: Report, *, is_private: bool = False) -> Table:
    """Return a table with a line for each destination; bytes and MB/s are of COPY payload.

    `is_private`: the table may show the server's own message, which may quote rows.
    """
    titles = ("read", "loaded", "rejected", "rows", "bytes", "seconds", "MB/s")
    rendered = grid("destination", *titles, "verdict")
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


def document(report: Report, comparison: Comparison | None = None) -> Document:
    """Return the report for JSON; "bytes" are of COPY payload.

    With a `comparison` each destination has "verified", null if its run did not succeed.
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
    """Return the report of a run that could not begin, and so has no identifier."""
    return {
        "transfer": transfer,
        "run": None,
        "verdict": "failed",
        "cause": cause,
        "seconds": round(seconds, 6),
        "destinations": [],
    }


def comparison_table(comparison: Comparison) -> Table:
    """Return a table with a line for each table at each destination."""
    rendered = grid("destination", "table", "source rows", "destination rows", "verdict")
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
    """Return the comparison for JSON; "there": the table's name at the destination."""
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
    return {
        "verified": {
            "verdict": comparison.likeness_at(outcome.destination).value,
            "cause": comparison.cause,
            "tables": [_compared(each) for each in comparison.at(outcome.destination)],
        }
    }


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
    counts = outcome.counts
    return {
        "destination": outcome.destination,
        "verdict": outcome.verdict.value,
        "cause": outcome.cause,
        "read": counts.read,
        "loaded": counts.loaded,
        "rejected": counts.rejected,
        "rows": counts.rows,
        "bytes": counts.size,
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
    # In MB/s.
    return outcome.counts.size / 1e6 / outcome.seconds if outcome.seconds else 0.0
