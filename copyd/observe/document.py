"""The status as one JSON object: names as in copyd.status, points in time in Unix seconds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from copyd.observe.progress import Progress
    from copyd.observe.records import Recorded
    from copyd.status import ObserverStatus, Status

Document = dict[str, Any]


def document(
    status: Status,
    progress: Mapping[str, Progress],
    observers: Iterable[ObserverStatus] = (),
    *,
    now: float,
) -> Document:
    """Return all of `status`, each transfer in flight with its "progress", null for the others.

    `now` is on the monotonic clock: "beat_age" is how long ago the daemon's loop went round.
    """
    told = asdict(status)
    told["observers"] = [asdict(each) for each in observers]
    told["beat_age"] = round(max(now - told.pop("beat"), 0.0), 3)
    for transfer in told["transfers"]:
        found = progress.get(transfer["name"])
        transfer["progress"] = None if found is None else _progress(found)
    return told


def history_document(runs: Iterable[Recorded]) -> Document:
    """Return runs of the history; the counts of a destination stand beside its other keys."""
    told = [asdict(run) for run in runs]
    for run in told:
        run["destinations"] = [_flat(each) for each in run["destinations"]]
    return {"runs": told}


def _flat(destination: Document) -> Document:
    counts = destination.pop("counts")
    return {**destination, **counts, "loaded": counts["read"] - counts["rejected"]}


def _progress(found: Progress) -> Document:
    return {
        "run": found.run,
        "estimated_rows": found.estimated_rows,
        "destinations": [
            {
                "name": each.name,
                "state": each.state,
                "pass": each.pass_number,
                "rows": each.rows,
                "bytes": each.size,
                "bytes_per_second": round(each.speed),
            }
            for each in found.destinations
        ],
    }
