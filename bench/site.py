"""The servers and tables of a benchmark: one source, eight destination databases on another server.

Started with copyd.cluster, in a private folder, with settings that keep disks out of the picture.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import trustme
from psycopg.conninfo import make_conninfo

from copyd.cluster import Cluster, Installation
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "bench"  # noqa: S105 - of a throw-away server on the loopback interface
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "1GB",
    "max_connections": "60",
}
DESTINATIONS = 8
PAYLOADS = {
    "narrow": "SELECT i FROM generate_series(1, 5000000) AS i",
    "wide": "SELECT * FROM pgbench_accounts",
}
COLUMNS = {
    "narrow": "i integer",
    "wide": "aid integer, bid integer, abalance integer, filler character(84)",
}
WIDE_ROWS = 3_000_000  # pgbench's scale 30


@dataclass(frozen=True)
class Site:
    """Where the data is and where it goes, by transport: socket, tcp or tls."""

    folder: Path
    source: Cluster
    target: Cluster
    has_tls: bool

    def source_conninfo(self, transport: str) -> str:
        return _conninfo(self.source, "postgres", transport)

    def conninfos(self, count: int, transport: str) -> list[str]:
        return [_conninfo(self.target, f"d{number}", transport) for number in range(count)]

    def empty(self, payload: str, count: int) -> None:
        for conninfo in self.conninfos(count, "socket"):
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute(f"TRUNCATE {payload}".encode())


@contextmanager
def running_site() -> Iterator[Site]:
    installation = Installation.find()
    folder = Path(tempfile.mkdtemp(prefix="copyd-bench-"))
    folder.chmod(0o711)
    try:
        source, target = (Cluster(installation, folder / name) for name in ("source", "target"))
        for cluster in (source, target):
            _make(cluster, has_tls=installation.ssl)
        with source, target:
            for cluster in (source, target):
                with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
                    connection.execute(f"ALTER ROLE bench PASSWORD '{PASSWORD}'".encode())
            site = Site(folder, source, target, has_tls=installation.ssl)
            _fill(site)
            yield site
    finally:
        shutil.rmtree(folder)


def _make(cluster: Cluster, *, has_tls: bool) -> None:
    cluster.init(encoding="UTF8", user="bench")
    cluster.settings.update({**SETTINGS, "listen_addresses": "127.0.0.1", "port": str(free_port())})
    with cluster.hba_file.open("a") as hba:
        hba.write("host all all 127.0.0.1/32 scram-sha-256\n")
    if not has_tls:
        return
    certificate = trustme.CA().issue_cert("127.0.0.1")
    owner = cluster.data_directory.stat()
    for name, blobs in (
        ("server.key", [certificate.private_key_pem]),
        ("server.crt", certificate.cert_chain_pems),
    ):
        path = cluster.data_directory / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    cluster.settings.update({"ssl": "on"})


def _fill(site: Site) -> None:
    def fill_source() -> None:
        with psycopg.connect(site.source.conninfo(), autocommit=True) as connection:
            connection.execute(f"CREATE TABLE pgbench_accounts ({COLUMNS['wide']})".encode())
            connection.execute(
                "INSERT INTO pgbench_accounts SELECT i, (i - 1) / 100000 + 1, 0, ''"
                f" FROM generate_series(1, {WIDE_ROWS}) i".encode()
            )
            connection.execute("VACUUM ANALYZE pgbench_accounts")

    def make_targets() -> None:
        with psycopg.connect(site.target.conninfo(), autocommit=True) as connection:
            for number in range(DESTINATIONS):
                connection.execute(f"CREATE DATABASE d{number}".encode())
        for conninfo in site.conninfos(DESTINATIONS, "socket"):
            with psycopg.connect(conninfo, autocommit=True) as connection:
                for payload, columns in COLUMNS.items():
                    statement = f"CREATE UNLOGGED TABLE {payload} ({columns})"
                    connection.execute(statement.encode())

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(fill_source), threads.submit(make_targets)]:
            done.result()


def _conninfo(cluster: Cluster, dbname: str, transport: str) -> str:
    if transport == "socket":
        return cluster.conninfo(dbname)
    return make_conninfo(
        host="127.0.0.1",
        port=cluster.settings["port"],
        dbname=dbname,
        user="bench",
        password=PASSWORD,
        sslmode="require" if transport == "tls" else "disable",
    )
