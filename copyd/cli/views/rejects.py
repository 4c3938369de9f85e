"""Rejects for people and as JSON. Control characters are escaped: they hold rows of others."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from rich.text import Text

from copyd.cli.views.grid import grid
from copyd.loading.rejects import Standing, harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.table import Table

    from copyd.loading.rejects import KeptRow, KeptTable

_SAID = ("detail", "hint", "context", "column", "constraint")


def table(found: Iterable[KeptTable]) -> Table:
    """Return a table with a line for each table of each run."""
    rendered = grid("run", "destination", "table", "rejects", "time", "reasons", "standing")
    for each in found:
        is_pending = each.standing is Standing.PENDING
        rendered.add_row(
            Text(harmless(each.run)),
            Text(harmless(each.destination)),
            Text(harmless(str(each.table))),
            Text(f"{each.rows:,}"),
            Text(_time(each) or "-"),
            Text(", ".join(f"{state}: {count:,}" for state, count in each.reasons.items())),
            Text(each.standing.value, "yellow" if is_pending else ""),
        )
    return rendered


def lines(of: KeptTable, rows: Iterable[KeptRow]) -> Iterator[str]:
    """Yield the rows as lines: where, why, and the row itself."""
    standing = ", pending" if of.standing is Standing.PENDING else ""
    place = harmless(f"{of.destination}, run {of.run}, {of.table}{standing}")
    for each in rows:
        record = each.record
        yield f"{place}: row {record.ordinal}, batch {record.batch}"
        yield f"  {record.sqlstate}: {harmless(record.message)}"
        for name in _SAID:
            said = getattr(record, name)
            if said is not None:
                yield f"  {name}: {harmless(said)}"
        yield f"  row: {_text(each.row)}"


def as_json(documents: Iterable[dict[str, object]]) -> str:
    """Return an array of objects, in ASCII."""
    return json.dumps(list(documents), indent=2)


def table_document(of: KeptTable) -> dict[str, object]:
    """Return a line of `table`, the file, and the COPY that loads it again."""
    return {
        "transfer": of.transfer,
        "destination": of.destination,
        "run": of.run,
        "schema": of.table.schema,
        "table": of.table.name,
        "standing": of.standing.value,
        "time": _time(of),
        "rejects": of.rows,
        "reasons": dict(of.reasons),
        "file": str(of.data),
        "statement": of.statement,
    }


def row_document(of: KeptTable, each: KeptRow) -> dict[str, object]:
    """Return a row and its reason; in base64 where it is no UTF-8."""
    text, encoded = _in_json(each.row)
    return {
        "transfer": of.transfer,
        "destination": of.destination,
        "run": of.run,
        "standing": of.standing.value,
        **asdict(each.record),
        "row": text,
        "row_base64": encoded,
    }


def _in_json(row: bytes | None) -> tuple[str | None, str | None]:
    if row is None:
        return None, None
    try:
        return row.decode(), None
    except UnicodeDecodeError:
        return None, b64encode(row).decode()


def _time(of: KeptTable) -> str | None:
    if of.sealed_at is None:
        return None
    return datetime.fromtimestamp(of.sealed_at, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


def _text(row: bytes | None) -> str:
    if row is None:
        return "(not written yet)"
    return harmless(row.removesuffix(b"\n").decode("utf-8", "backslashreplace"), keep="\t")
