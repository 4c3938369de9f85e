"""Every way of copying that is compared, each measured the same way: see `Cost`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg

from bench.site import PAYLOADS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.site import Site


@dataclass(frozen=True)
class Cost:
    """Seconds of client CPU and of wall time, KiB of client memory beyond its start."""

    user: float
    system: float
    wall: float
    memory: int

    @property
    def cpu(self) -> float:
        return self.user + self.system


@dataclass(frozen=True)
class Job:
    """What is copied: payload, format, number of destinations, transport."""

    payload: str
    format: str
    destinations: int
    transport: str

    @property
    def out(self) -> str:
        what = f"({PAYLOADS[self.payload]})" if self.payload == "narrow" else "pgbench_accounts"
        return f"COPY {what} TO STDOUT (FORMAT {self.format})"

    @property
    def into(self) -> str:
        return f"COPY {self.payload} FROM STDIN (FORMAT {self.format})"

    def __str__(self) -> str:
        return f"{self.payload} {self.format} x{self.destinations} {self.transport}"


def python(name: str) -> Callable[[Site, Job], Cost]:
    """A method of `bench.client`."""

    def measure(site: Site, job: Job) -> Cost:
        said = subprocess.run(
            [sys.executable, "-m", "bench.client", name],
            input=json.dumps(
                {
                    "source": site.source_conninfo(job.transport),
                    "targets": site.conninfos(job.destinations, job.transport),
                    "out": job.out,
                    "into": job.into,
                }
            ),
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return Cost(**json.loads(said))

    return measure


def psql_pipe(site: Site, job: Job) -> Cost:
    """``psql | psql``, through ``tee`` where there are many."""
    psql = shlex.quote(str(site.source.installation.paths["psql"]))
    reads = f"{psql} -Xqc {shlex.quote(job.out)} {shlex.quote(site.source_conninfo(job.transport))}"
    writes = [
        f"{psql} -Xqc {shlex.quote(job.into)} {shlex.quote(target)}"
        for target in site.conninfos(job.destinations, job.transport)
    ]
    branches = " ".join(f">({write})" for write in writes[:-1])
    tee = f"tee {branches} | " if branches else ""
    return _shell(f"set -o pipefail; {reads} | {tee}{writes[-1]}; wait")


def psql_each(site: Site, job: Job) -> Cost:
    """One ``psql | psql`` for each destination, all at once: as many scans."""
    psql = shlex.quote(str(site.source.installation.paths["psql"]))
    source = shlex.quote(site.source_conninfo(job.transport))
    pipes = [
        f"{psql} -Xqc {shlex.quote(job.out)} {source} | "
        f"{psql} -Xqc {shlex.quote(job.into)} {shlex.quote(target)} &"
        for target in site.conninfos(job.destinations, job.transport)
    ]
    return _shell("\n".join([*pipes, "wait"]))


def floor(site: Site, job: Job) -> Cost:
    """What the servers alone need: COPY to /dev/null beside COPY from a file, no client between."""
    # Both servers run under one account: what one writes the other can read.
    file = site.target.data_directory / f"{job.payload}.{job.format}"
    out = job.out.replace("STDOUT", "'{}'")
    if not file.exists():
        _run_statement(site.source_conninfo("socket"), out.format(file))
    into = job.into.replace("STDIN", f"'{file}'")
    began = time.perf_counter()
    with ThreadPoolExecutor(job.destinations + 1) as threads:
        running = [
            threads.submit(_run_statement, site.source_conninfo("socket"), out.format("/dev/null"))
        ]
        running += [
            threads.submit(_run_statement, target, into)
            for target in site.conninfos(job.destinations, "socket")
        ]
        for done in running:
            done.result()
    return Cost(0.0, 0.0, time.perf_counter() - began, 0)


def _run_statement(conninfo: str, statement: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement.encode())


def _shell(script: str) -> Cost:
    began = time.perf_counter()
    process = subprocess.Popen(["/bin/bash", "-c", script], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"a shell pipeline ended with {process.returncode}")
    wall = time.perf_counter() - began
    return Cost(usage.ru_utime, usage.ru_stime, wall, usage.ru_maxrss)


COPYD = python("copyd")


def one_destination(site: Site, job: Job) -> Cost:
    """Copyd with one destination instead of many."""
    return COPYD(site, replace(job, destinations=1))


METHODS: dict[str, Callable[[Site, Job], Cost]] = {
    "copyd": COPYD,
    "copyd, one destination": one_destination,
    "run": python("run"),
    "psycopg loop": python("psycopg loop"),
    "psycopg pq, 64 KiB": python("psycopg pq"),
    "copyd, libpq link": python("copyd, libpq link"),
    "psql | psql (tee)": psql_pipe,
    "psql | psql each": psql_each,
    "servers' floor": floor,
    "bare relay": python("bare relay"),
}
