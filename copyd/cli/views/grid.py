"""The style of all tables on a terminal."""

from __future__ import annotations

from rich.table import Table

NUMBERS = frozenset(
    {"read", "loaded", "rejected", "rejects", "rows", "source rows", "destination rows", "bytes"}
    | {"seconds", "MB/s", "restarts"}
)


def grid(*titles: str) -> Table:
    """Return a table without rows; columns of numbers, by their title, are aligned right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        # Folded: an error must not be cut off.
        table.add_column(title, overflow="fold", justify="right" if title in NUMBERS else "left")
    return table
