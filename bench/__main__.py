"""``python -m bench``: copyd beside everything else, in alternating pairs of one run.

Prints for each case the median of the ratios (copyd's cost over the other's, below 1 is better)
with their quartiles, and writes all figures to a JSON file.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from bench.methods import COPYD, METHODS, RUN, Job
from bench.site import running_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.methods import Cost
    from bench.site import Site

ONE = ["psycopg loop", "psycopg pq, 64 KiB", "psql | psql (tee)"]
MANY = ["psql | psql (tee)", "psql | psql each", "servers' floor"]
CASES: list[tuple[Job, list[str]]] = [
    (Job("narrow", "text", 1, "socket"), ONE),
    (Job("wide", "text", 1, "socket"), [*ONE, "servers' floor"]),
    (Job("wide", "binary", 1, "socket"), ["psql | psql (tee)"]),
    (Job("wide", "text", 1, "tcp"), ["psql | psql (tee)"]),
    (Job("narrow", "text", 1, "tls"), ["copyd, libpq link"]),
    (Job("wide", "text", 1, "tls"), ["psql | psql (tee)"]),
    (Job("wide", "text", 3, "socket"), MANY),
    (Job("wide", "binary", 3, "socket"), ["psql | psql (tee)"]),
    (Job("wide", "text", 8, "socket"), ["psql | psql (tee)"]),
]
RUNS = [Job("wide", "text", destinations, "socket") for destinations in (1, 3)]
MEASURES = ("cpu", "wall")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=11, help="alternating pairs a case")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where figures go")
    options = parser.parse_args()
    results = []
    with running_site() as site:
        print(
            f"{platform.platform()}, Python {platform.python_version()}, {site.source.installation.version}"
        )
        print(f"{'case':<28} {'against':<20} {'cpu ratio':>22} {'wall ratio':>22}   copyd")
        for job, rivals in CASES:
            if job.transport == "tls" and not site.has_tls:
                print(f"{job!s:<28} left out: this PostgreSQL has no TLS")
                continue
            results += [
                compare(site, job, rival, pairs=options.pairs)
                for rival in rivals
                if options.only in f"{job} {rival}"
            ]
        for job in RUNS:
            if options.only in f"run {job}":
                results.append(compare(site, job, "bare relay", pairs=options.pairs, method=RUN))
    options.json.write_text(
        json.dumps({"at": datetime.now(timezone.utc).isoformat(), "results": results}, indent=1)
    )


def compare(
    site: Site,
    job: Job,
    rival: str,
    *,
    pairs: int,
    method: Callable[[Site, Job], Cost] = COPYD,
) -> dict[str, object]:
    """Measure `method` and `rival` in turn, `pairs` times; the first pair of all warms up."""
    ours: list[Cost] = []
    theirs: list[Cost] = []
    for turn in range(pairs + 1):
        for each, costs in ((method, ours), (METHODS[rival], theirs)):
            site.empty(job.payload, job.destinations)
            cost = each(site, job)
            if turn:
                costs.append(cost)
    row = f"{job!s:<28} {rival:<20}"
    for measure in MEASURES:
        mine = [getattr(cost, measure) for cost in ours]
        other = [getattr(cost, measure) for cost in theirs]
        row += f" {spread([a / b for a, b in zip(mine, other, strict=True) if b]):>22}"
    middle = {m: statistics.median(getattr(cost, m) for cost in ours) for m in (*MEASURES, "user")}
    if method is RUN:
        beyond = [run.wall - bare.wall for run, bare in zip(ours, theirs, strict=True)]
        row += f"   {1000 * statistics.median(beyond):+.0f} ms beyond it"
    memory = max(cost.memory for cost in ours)
    print(
        f"{row}   cpu {middle['cpu']:.3f} s (user {middle['user']:.3f}), "
        f"wall {middle['wall']:.2f} s, memory +{memory / 1024:.0f} MiB",
        flush=True,
    )
    return {
        "job": asdict(job),
        "against": rival,
        "copyd": [asdict(cost) for cost in ours],
        "other": [asdict(cost) for cost in theirs],
    }


def spread(ratios: list[float]) -> str:
    """Return ``median (first quartile to third quartile)``."""
    if not ratios:
        return "-"
    if len(ratios) < 2:
        return f"{ratios[0]:.3f}"
    first, middle, third = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({first:.3f}-{third:.3f})"


if __name__ == "__main__":
    main()
