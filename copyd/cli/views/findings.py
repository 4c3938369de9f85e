"""The findings of a check as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.transfers.check import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def table(findings: Iterable[Finding]) -> Table:
    """Return a line for each finding; a dash if it is not about a transfer or table."""
    rendered = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("transfer", "server", "table", "severity", "sentence"):
        rendered.add_column(title, overflow="fold")
    for each in findings:
        rendered.add_row(
            Text(each.transfer or "-"),
            Text(each.server),
            Text(each.table or "-"),
            Text(each.severity, _COLOURS[each.severity]),
            Text(each.sentence),
        )
    return rendered


def as_json(findings: Iterable[Finding]) -> str:
    """Return the findings as one JSON object."""
    return json.dumps(
        {"findings": [asdict(each) for each in findings]}, ensure_ascii=False, indent=2
    )
