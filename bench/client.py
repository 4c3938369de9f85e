"""One copy by a Python client in a process of its own, measured from inside.

``python -m bench.client METHOD`` reads a job as JSON from standard input and prints what it cost
as JSON: seconds of CPU, user and system, wall seconds, and KiB of memory beyond what the
interpreter had before the copy. Start-up and connecting are not counted, but for a whole run.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from copyd.copyman import StatementProducer, StatementReceiver, transfer
from copyd.transfers import Loading, Replica, Server, Tables, Transfer, Verdict, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.connection import Connection

BATCH = 64 * 1024
TABLE = "public.pgbench_accounts"


def by_copyd(source: Connection, out: str, targets: list[Connection], into: str) -> None:
    receivers = [StatementReceiver(target, into) for target in targets]
    transfer(StatementProducer(source, out), *receivers)


def by_libpq_link(source: Connection, out: str, targets: list[Connection], into: str) -> None:
    receivers = [StatementReceiver(target, into, link="libpq") for target in targets]
    transfer(StatementProducer(source, out, link="libpq"), *receivers)


def by_loop(source: Connection, out: str, targets: list[Connection], into: str) -> None:
    """The loop that psycopg's documentation shows."""
    with ExitStack() as stack:
        reader = stack.enter_context(source.cursor().copy(out.encode()))
        writers = [stack.enter_context(each.cursor().copy(into.encode())) for each in targets]
        for data in reader:
            for writer in writers:
                writer.write(data)


def by_pq(source: Connection, out: str, targets: list[Connection], into: str) -> None:
    """Libpq's own functions, with rows put together to 64 KiB."""
    for connection in (source, *targets):
        connection.pgconn.nonblocking = 0
    source.pgconn.exec_(out.encode())
    for target in targets:
        target.pgconn.exec_(into.encode())
    batch: list[bytes] = []
    size = 0
    while True:
        count, data = source.pgconn.get_copy_data(0)
        if count > 0:
            batch.append(bytes(data))
            size += count
        if size >= BATCH or count < 0:
            joined = b"".join(batch)
            for target in targets:
                target.pgconn.put_copy_data(joined)
            batch, size = [], 0
        if count < 0:
            break
    source.pgconn.get_result()
    for target in targets:
        target.pgconn.put_copy_end()
        target.pgconn.get_result()


def by_emptying_relay(source: Connection, out: str, targets: list[Connection], into: str) -> None:
    """The relay alone, between the same TRUNCATE and COMMIT as a run's."""
    for target in targets:
        target.autocommit = False
        target.execute(f"TRUNCATE {into.split()[1]}".encode())
    frozen = into.replace(")", ", FREEZE)")
    transfer(StatementProducer(source, out), *(StatementReceiver(each, frozen) for each in targets))
    for target in targets:
        target.commit()


def by_run(job: dict[str, Any]) -> None:
    """A whole run: connecting, ledger, snapshot, TRUNCATE, relay, COMMIT."""
    loading = Loading(
        mode="replace",
        replace_with="truncate",
        analyze=False,
        tables={TABLE: f"public.{job['into'].split()[1]}"},
    )
    replicas = [
        Replica(Server(f"d{number}", conninfo), loading)
        for number, conninfo in enumerate(job["targets"])
    ]
    report = run(
        Transfer(
            name="bench",
            source=Server("source", job["source"]),
            replicas=tuple(replicas),
            what=Tables((TABLE,)),
            format="text",
        )
    )
    if report.verdict is not Verdict.SUCCEEDED:
        raise RuntimeError(str(report))


METHODS: dict[str, Callable[[Connection, str, list[Connection], str], None]] = {
    "copyd": by_copyd,
    "copyd, libpq link": by_libpq_link,
    "bare relay": by_emptying_relay,
    "psycopg loop": by_loop,
    "psycopg pq": by_pq,
}


def main() -> None:
    method, job = sys.argv[1], json.load(sys.stdin)
    if method == "run":
        copy = partial(by_run, job)
    else:
        source = psycopg.connect(job["source"], autocommit=True)
        targets = [psycopg.connect(target, autocommit=True) for target in job["targets"]]
        copy = partial(METHODS[method], source, job["out"], targets, job["into"])
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    copy()
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "user": after.ru_utime - before.ru_utime,
                "system": after.ru_stime - before.ru_stime,
                "wall": wall,
                "memory": after.ru_maxrss - before.ru_maxrss,
            }
        )
    )


if __name__ == "__main__":
    main()
