"""The status and the history as JSON: keys as in copyd.status, times in Unix seconds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from copyd.observe.progress import Progress
    from copyd.observe.records import RunRecord
    from copyd.status import ObserverStatus, Status

Document = dict[str, Any]


def document(
    status: Status,
    progress: Mapping[str, Progress],
    observers: Iterable[ObserverStatus] = (),
    *,
    now: float,
) -> Document:
    """Return `status` with the "progress" of each running transfer, null for the others.

    "beat_age" is the time since the daemon's loop last iterated; `now` is the monotonic clock's.
    """
    content = asdict(status) | {"observers": [asdict(each) for each in observers]}
    content["beat_age"] = round(max(now - content.pop("beat"), 0.0), 3)
    for transfer in content["transfers"]:
        found = progress.get(transfer["name"])
        transfer["progress"] = None if found is None else _progress(found)
    return content


def history_document(runs: Iterable[RunRecord]) -> Document:
    """Return runs of the history; the counts of a destination are keys of their own."""
    content = [asdict(run) for run in runs]
    for run in content:
        for destination in run["destinations"]:
            counts = destination.pop("counts")
            destination |= {**counts, "loaded": counts["read"] - counts["rejected"]}
    return {"runs": content}


def _progress(found: Progress) -> Document:
    destinations = [
        {
            "name": each.name,
            "state": each.state,
            "pass": each.pass_number,
            "rows": each.rows,
            "bytes": each.size,
            "bytes_per_second": round(each.speed),
        }
        for each in found.destinations
    ]
    return {"run": found.run, "estimated_rows": found.estimated_rows, "destinations": destinations}
