"""The documents' samples run as they stand, with real servers in place of their names."""

from __future__ import annotations

import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.program import run
from tests.support.servers import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Server

ROOT = Path(__file__).parents[2]


def block(page: str, language: str, first_words: str) -> str:
    text = (ROOT / page).read_text()
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return next(found for found in blocks if found.startswith(first_words))


@pytest.fixture
def databases(server: Server) -> Iterator[list[str]]:
    """A source with 500 orders, and two replicas with an empty table."""
    with server.database() as one, server.database() as two, server.database() as three:
        conninfos = [server.conninfo(name) for name in (one, two, three)]
        for conninfo in conninfos:
            with psycopg.connect(conninfo) as connection:
                connection.execute("CREATE TABLE orders (id int)")
        with psycopg.connect(conninfos[0]) as connection:
            connection.execute("INSERT INTO orders SELECT generate_series(1, 500)")
        yield conninfos


def execute(sample: str) -> str:
    """Run a sample; returns what it printed."""
    said = StringIO()
    with redirect_stdout(said):
        exec(compile(sample, "sample", "exec"), {})  # noqa: S102 - our own documents
    return said.getvalue()


def count(conninfo: str) -> object:
    with psycopg.connect(conninfo) as connection:
        return connection.execute("SELECT count(*) FROM orders").fetchone()


def test_the_library_sample_copies_all_rows(databases: list[str]) -> None:
    sample = block("README.md", "python", "import psycopg")
    sample = sample.replace("dbname=source", databases[0]).replace("dbname=replica", databases[1])
    assert "500 rows" in execute(sample)
    assert count(databases[1]) == (500,)


def test_the_copy_command_sample_copies_to_both_replicas(databases: list[str]) -> None:
    words = shlex.split(block("README.md", "sh", "copyd copy").replace("\\\n", " "))
    for host, conninfo in zip(("db1", "db2", "db3"), databases, strict=True):
        words = [conninfo if word == f"host={host} dbname=shop" else word for word in words]
    done = run(*words[1:])
    assert done.returncode == 0, done.stderr
    assert [count(conninfo) for conninfo in databases] == [(500,)] * 3


def test_the_cluster_sample_makes_uses_and_removes_a_server() -> None:
    with private_folder() as folder:
        sample = block("docs/clusters.md", "python", "import psycopg")
        said = execute(sample.replace("/srv/analytics", str(folder / "analytics")))
        assert said == "('64MB',)\n"
        assert list(folder.iterdir()) == []
