"""Real PostgreSQL servers for the tests, built with copyd.cluster itself."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import trustme
from psycopg import sql
from psycopg.conninfo import make_conninfo

from copyd.cluster import Cluster, Installation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.connection import Connection

PASSWORD = "correct horse battery"
CHEAP = {
    "fsync": "off",
    "synchronous_commit": "off",
    "max_wal_size": "2GB",
    "shared_buffers": "64MB",
    "password_encryption": "scram-sha-256",  # not the default before 14
}


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that the servers' account can pass through but not list."""
    folder = Path(tempfile.mkdtemp(prefix="copyd-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """One running server with a socket, a TCP port with TLS where it can, and a password."""

    cluster: Cluster
    port: int
    has_tls: bool
    names: Iterator[int] = field(default_factory=itertools.count)

    def conninfo(self, dbname: str = "postgres") -> str:
        """Over the socket, without a password."""
        return self.cluster.conninfo(dbname)

    def tcp_conninfo(self, dbname: str = "postgres", *, port: int | None = None) -> str:
        """Over TCP with a password, and with TLS unless ``sslmode`` is added."""
        return make_conninfo(
            host="127.0.0.1",
            port=port or self.port,
            dbname=dbname,
            user="tester",
            password=PASSWORD,
            sslmode="require" if self.has_tls else "disable",
        )

    def connect(self, dbname: str = "postgres", *, autocommit: bool = True) -> Connection:
        return psycopg.connect(self.conninfo(dbname), autocommit=autocommit)

    @contextmanager
    def database(self, encoding: str = "UTF8") -> Iterator[str]:
        """A fresh database, dropped afterwards whoever is still connected.

        No session is kept: the server may be killed and restarted meanwhile.
        """
        name = sql.Identifier(f"test_{os.getpid()}_{next(self.names)}")
        with self.connect() as admin:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}")
            admin.execute(create.format(name, encoding))
        try:
            yield name.as_string().strip('"')
        finally:
            with self.connect() as admin:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def running_server(installation: Installation, **settings: str) -> Iterator[Server]:
    """A server of its own; `settings` come on top of the cheap ones."""
    with private_folder() as folder:
        cluster = Cluster(installation, folder / "data", socket_directory=None)
        cluster.init(encoding="UTF8", user="tester")
        port = free_port()
        cluster.settings.update(
            {**CHEAP, "listen_addresses": "127.0.0.1", "port": str(port), **settings}
        )
        if installation.ssl:
            _give_certificate(cluster)
        with cluster.hba_file.open("a") as hba:
            hba.write("host all,replication all 127.0.0.1/32 scram-sha-256\n")
        with cluster:
            with psycopg.connect(cluster.conninfo(), autocommit=True) as admin:
                role = sql.SQL("ALTER ROLE tester PASSWORD {}").format(PASSWORD)
                admin.execute(role)
            yield Server(cluster, port, has_tls=installation.ssl)


def _give_certificate(cluster: Cluster) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1", "localhost")
    key, chain = cluster.data_directory / "server.key", cluster.data_directory / "server.crt"
    certificate.private_key_pem.write_to_path(str(key))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(chain), append=True)
    owner = cluster.data_directory.stat()
    for path in (key, chain):
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    cluster.settings.update({"ssl": "on"})
