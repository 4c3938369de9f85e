"""The findings of a check: a table for people, JSON for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from copyd.cli.views.grid import grid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from copyd.transfers.check import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def table(findings: Iterable[Finding]) -> Table:
    """Return a table with a line for each finding; a dash where it concerns no transfer or table."""
    rendered = grid("transfer", "server", "table", "severity", "sentence")
    for each in findings:
        rendered.add_row(
            Text(each.transfer or "-"),
            Text(each.server),
            Text(each.table or "-"),
            Text(each.severity, _COLOURS[each.severity]),
            Text(each.sentence),
        )
    return rendered
