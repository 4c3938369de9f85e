"""Servers of a configuration that are really there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import conninfo_to_dict

from copyd.cli.assembly import build_server
from copyd.config import load
from tests.support.servers import PASSWORD

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import Server


def test_a_cluster_is_reached_where_its_server_listens(
    server: Server, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        f"[clusters.k]\ndata_directory = '{server.cluster.data_directory}'\n"
        f"[servers.a]\ncluster = 'k'\ndbname = '{database}'\n"
    )
    found = build_server(load(file, environ={}, is_root=True), "a")
    with psycopg.connect(found.conninfo) as connection:
        assert connection.info.dbname == database
    assert server.cluster.running()


def test_a_password_from_a_file_opens_the_server(
    server: Server, database: str, tmp_path: Path
) -> None:
    given = conninfo_to_dict(server.tcp_conninfo(database))
    assert given.pop("password") == PASSWORD
    conninfo = " ".join(f"{key}={value}" for key, value in given.items())
    (tmp_path / "pw").write_text(f"{PASSWORD}\n")
    (tmp_path / "pw").chmod(0o600)
    file = tmp_path / "config.toml"
    file.write_text(f"[servers.a]\nconninfo = '{conninfo}'\npassword_file = 'pw'\n")
    found = build_server(load(file, environ={}, is_root=True), "a")
    with psycopg.connect(found.conninfo) as connection:
        assert connection.info.user == "tester"
