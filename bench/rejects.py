"""``python -m bench.rejects``: what bad rows cost, in alternating pairs of one run.

Prints for each case the median of the ratios of wall time (above 1 is slower than what it stands
beside) with their quartiles, the rejects, and the memory of the client beyond its start.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench.__main__ import spread
from copyd.cluster import Installation
from copyd.copyman import (
    BatchReceiver,
    CopyManager,
    IteratorProducer,
    StatementProducer,
    StatementReceiver,
)
from tests.support.servers import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.copyman import Producer, Receiver
    from tests.support.servers import Server

    Job = dict[str, Any]

COLUMNS = {"a": "integer", "b": "integer", "c": "integer", "t": "text"}
TABLE = "(a int PRIMARY KEY, b int CHECK (b >= 0), c int, t text)"
SOURCES = {
    "clean": "i, i, i::text",
    "thousandth": "i, CASE WHEN i % 1000 = 500 THEN -1 ELSE i END, i::text",
    "fiftieth": "i, i, CASE WHEN i % 50 = 0 THEN 'x' ELSE i::text END",
}
LINES = 1_000
"""Rows that a file is read by at once."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.rejects", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="alternating pairs a case")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bindir", type=Path, help="of the PostgreSQL to use")
    options = parser.parse_args()
    with running_server(Installation.find(options.bindir)) as server:
        make(server, options.rows)
        version = server.cluster.installation.version
        print(f"{version}, {options.rows:,} rows; wall time, median (quartiles) of the ratios")
        stop = {"source": "clean", "receivers": ["stop"]}
        aside = {"source": "clean", "receivers": ["aside"]}
        thousandth = {"source": "thousandth", "receivers": ["aside"]}
        compare(server, "clean rows, against stop", aside, stop, options.pairs)
        compare(server, "0.1 % refused by CHECK, against stop", thousandth, stop, options.pairs)
        if server.cluster.installation.version_info >= (17,):  # it can skip
            fiftieth = {"source": "fiftieth", "receivers": ["skip"]}
            compare(server, "2 % of another type, against stop", fiftieth, stop, options.pairs)
        sick = {"source": "thousandth", "receivers": ["lax", "aside", "aside"]}
        well = {"source": "thousandth", "receivers": ["lax", "lax", "lax"]}
        compare(server, "clean beside two that isolate", sick, well, options.pairs)
        if shutil.which("pgloader"):
            beside_pgloader(server, options.pairs)
        else:
            print("pgloader is not installed: left out")


def make(server: Server, rows: int) -> None:
    with server.connect() as connection:
        for name, columns in SOURCES.items():
            connection.execute(
                f"CREATE TABLE {name} (a, b, c, t) AS SELECT {columns}, repeat('x', 20)"
                f" FROM generate_series(1, {rows}) AS i".encode()
            )
        for number in range(3):
            connection.execute(f"CREATE TABLE d{number} {TABLE}".encode())
            connection.execute(
                f"CREATE TABLE lax{number} {TABLE.replace(' CHECK (b >= 0)', '')}".encode()
            )


def compare(server: Server, title: str, ours: Job, theirs: Job, pairs: int) -> None:
    """Measure both in turn; the first pair warms up."""
    ratios: list[float] = []
    last: Job = {}
    for turn in range(pairs + 1):
        costs = [measure(server, job) for job in (ours, theirs)]
        if turn:
            ratios.append(costs[0]["first"] / costs[1]["first"])
        last = costs[0]
    print(
        f"{title:<40} {spread(ratios):>22}   {last['first']:.2f} s, {last['rejected']} rejects, "
        f"memory +{last['memory'] / 1024:.0f} MiB",
        flush=True,
    )


def measure(server: Server, job: Job) -> Job:
    """Carry a job out in a process of its own; the tables are empty before."""
    with server.connect() as connection:
        connection.execute("TRUNCATE d0, d1, d2, lax0, lax1, lax2")
    said = subprocess.run(
        [sys.executable, "-m", "bench.rejects", "--child"],
        input=json.dumps({**job, "conninfo": server.conninfo()}),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: Job = json.loads(said)
    return found


def child() -> None:
    """Copy; ``first``: seconds until the first receiver has completed and is committed."""
    job = json.load(sys.stdin)
    connections = [psycopg.connect(job["conninfo"]) for _ in job["receivers"]]
    source = psycopg.connect(job["conninfo"], autocommit=True)
    rejects: list[int] = []
    receivers: list[Receiver] = [
        make_receiver(connection, kind, number, rejects)
        for number, (connection, kind) in enumerate(zip(connections, job["receivers"], strict=True))
    ]
    producer: Producer = (
        IteratorProducer(lines(job["file"]))
        if "file" in job
        else StatementProducer(source, f"COPY {job['source']} TO STDOUT")
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, first = time.perf_counter(), 0.0
    with CopyManager(producer, *receivers) as copy:
        for _ in copy:
            if not first and receivers[0] in copy.completed:
                connections[0].commit()
                first = time.perf_counter() - began
    for connection in connections:
        connection.commit()
    first = first or time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    print(json.dumps({"first": first, "rejected": len(rejects), "memory": grown}))


def make_receiver(
    connection: psycopg.Connection[Any], kind: str, number: int, rejects: list[int]
) -> Receiver:
    if kind == "lax":
        return StatementReceiver(connection, f"COPY lax{number} FROM STDIN")
    statement = f"COPY d{number} FROM STDIN"
    if kind == "stop":
        return StatementReceiver(connection, statement)
    return BatchReceiver(
        connection,
        statement,
        on_reject=lambda reject: rejects.append(reject.ordinal),
        columns=COLUMNS if kind == "skip" else None,
    )


def lines(file: str) -> Iterator[list[bytes]]:
    with Path(file).open("rb") as data:
        while chunk := list(islice(data, LINES)):
            yield chunk


def beside_pgloader(server: Server, pairs: int) -> None:
    """The same file with the same bad rows, loaded by both."""
    with tempfile.TemporaryDirectory(prefix="copyd-bench-") as name:
        folder = Path(name)
        file = folder / "rows"
        with (
            server.connect() as connection,
            file.open("wb") as out,
            connection.cursor().copy("COPY thousandth TO STDOUT") as copy,
        ):
            for block in copy:
                out.write(block)
        ratios: list[float] = []
        ours: Job = {}
        wall, memory, loaded = 0.0, 0, 0
        for turn in range(pairs + 1):
            ours = measure(server, {"file": str(file), "receivers": ["aside"]})
            with server.connect() as connection:
                connection.execute("TRUNCATE d0")
            wall, memory = pgloader(server, file, folder)
            with server.connect() as connection:
                (loaded,) = connection.execute("SELECT count(*) FROM d0").fetchone() or (0,)
            if turn:
                ratios.append(ours["first"] / wall)
        print(
            f"{'a file, 0.1 % bad, against pgloader':<40} {spread(ratios):>22}   "
            f"{ours['first']:.2f} s, {ours['rejected']} rejects, memory +{ours['memory'] / 1024:.0f} "
            f"MiB; pgloader {wall:.2f} s, {loaded} rows loaded, memory {memory / 1024:.0f} MiB"
        )


def pgloader(server: Server, file: Path, folder: Path) -> tuple[float, int]:
    """Return the seconds that pgloader takes, and the KiB of memory."""
    place = conninfo_to_dict(server.tcp_conninfo())
    uri = "postgresql://{user}@{host}:{port}/{dbname}".format(**place)
    environ = {**os.environ, "PGPASSWORD": str(place["password"])}
    script = folder / "load"
    script.write_text(
        f"LOAD COPY FROM '{file}' (a, b, c, t) INTO {uri}?sslmode=disable\n"
        " TARGET TABLE public.d0;\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    began = time.perf_counter()
    done = subprocess.run(
        [shutil.which("pgloader") or "pgloader", "--root-dir", str(folder), str(script)],
        check=False, capture_output=True, text=True, env=environ,
    )  # fmt: skip
    wall = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(
            f"pgloader ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}"
        )
    return wall, max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, before)


if __name__ == "__main__":
    child() if "--child" in sys.argv else main()
