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
from typing import TYPE_CHECKING, NamedTuple

from bench.methods import METHODS, Job
from bench.site import running_site

if TYPE_CHECKING:
    from bench.methods import Cost
    from bench.site import Site

ONE = ["psycopg loop", "psycopg pq, 64 KiB", "psql | psql (tee)"]
MANY = ["psql | psql (tee)", "psql | psql each", "servers' floor"]
MEASURES = ("cpu", "wall")


class Case(NamedTuple):
    """What is copied, by `method` in turn with each of `rivals`."""

    job: Job
    rivals: list[str]
    method: str = "copyd"

    def __str__(self) -> str:
        return str(self.job) if self.method == "copyd" else f"{self.method} {self.job}"


CASES = [
    Case(Job("narrow", "text", 1, "socket"), ONE),
    Case(Job("wide", "text", 1, "socket"), [*ONE, "servers' floor"]),
    Case(Job("wide", "binary", 1, "socket"), ["psql | psql (tee)"]),
    Case(Job("wide", "text", 1, "tcp"), ["psql | psql (tee)"]),
    Case(Job("narrow", "text", 1, "tls"), ["copyd, libpq link"]),
    Case(Job("wide", "text", 1, "tls"), ["psql | psql (tee)"]),
    Case(Job("wide", "text", 3, "socket"), MANY),
    Case(Job("wide", "text", 3, "socket"), ["psql | psql (tee)"], "servers' floor"),
    Case(Job("wide", "binary", 3, "socket"), ["psql | psql (tee)"]),
    Case(Job("wide", "text", 8, "socket"), ["psql | psql (tee)", "copyd, one destination"]),
    *(Case(Job("wide", "text", count, "socket"), ["bare relay"], "run") for count in (1, 3)),
]


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
        print(f"{'case':<42} {'against':<20} {'cpu ratio':>22} {'wall ratio':>22}   copyd")
        for case in CASES:
            if case.job.transport == "tls" and not site.has_tls:
                print(f"{case!s:<42} left out: this PostgreSQL has no TLS")
                continue
            results += [
                compare(site, case, rival, pairs=options.pairs)
                for rival in case.rivals
                if options.only in f"{case} {rival}"
            ]
    options.json.write_text(
        json.dumps({"at": datetime.now(timezone.utc).isoformat(), "results": results}, indent=1)
    )


def compare(site: Site, case: Case, rival: str, *, pairs: int) -> dict[str, object]:
    """Measure the case and `rival` in turn, `pairs` times; the first pair of all warms up."""
    job = case.job
    ours: list[Cost] = []
    theirs: list[Cost] = []
    for turn in range(pairs + 1):
        for method, costs in ((case.method, ours), (rival, theirs)):
            site.empty(job.payload, job.destinations)
            cost = METHODS[method](site, job)
            if turn:
                costs.append(cost)
    row = f"{case!s:<42} {rival:<20}"
    for measure in MEASURES:
        mine = [getattr(cost, measure) for cost in ours]
        other = [getattr(cost, measure) for cost in theirs]
        row += f" {spread([a / b for a, b in zip(mine, other, strict=True) if a and b]):>22}"
    middle = {m: statistics.median(getattr(cost, m) for cost in ours) for m in (*MEASURES, "user")}
    memory = max(cost.memory for cost in ours)
    print(
        f"{row}   cpu {middle['cpu']:.3f} s (user {middle['user']:.3f}), "
        f"wall {middle['wall']:.2f} s, memory +{memory / 1024:.0f} MiB",
        flush=True,
    )
    if case.method == "run":
        beyond = [run.wall - bare.wall for run, bare in zip(ours, theirs, strict=True)]
        print(f"    wall beyond it: {1000 * statistics.median(beyond):+.0f} ms")
    if rival == "copyd, one destination":
        for measure in ("cpu", "user"):
            print(f"    {measure} of each destination more, of the CPU that one costs: ", end="")
            print(spread(growth(ours, theirs, measure, more=job.destinations - 1)), flush=True)
    return {
        "job": asdict(job),
        "method": case.method,
        "against": rival,
        "copyd": [asdict(cost) for cost in ours],
        "other": [asdict(cost) for cost in theirs],
    }


def growth(many: list[Cost], one: list[Cost], measure: str, *, more: int) -> list[float]:
    """What each of `more` destinations adds to the cost of one, as a part of its CPU."""
    return [
        (getattr(cost, measure) - getattr(single, measure)) / more / single.cpu
        for cost, single in zip(many, one, strict=True)
    ]


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
