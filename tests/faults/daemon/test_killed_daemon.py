"""The daemon killed at random moments, while its clusters run and its sources change.

Equality is computed by the servers. It is killed a quarter as often as ``COPYD_TEST_KILLS`` says.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from copyd.cluster import Cluster, Installation
from copyd.cluster.poll import wait_for
from tests.support.chaos import KILLS, SEED
from tests.support.daemon import PATIENCE, QUICK, Daemon, Options
from tests.support.sql import content, execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

KILLS_HERE = max(3, KILLS // 4)
TRANSFERS = 20
CLUSTERS = ("one", "two")
MODES: tuple[Options, ...] = (
    {"mode": "replace"},
    {"mode": "append"},
    {"mode": "merge", "delete_missing": True},
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 20 * KILLS_HERE)]


class KilledDaemon:
    """A daemon with 20 transfers from one source to a database and two clusters of its own."""

    def __init__(self, daemon: Daemon, installation: Installation, ends: dict[str, str]) -> None:
        self.daemon = daemon
        self.chance = random.Random(SEED)
        self.source = ends["shop"]
        self.tables = [f"t{number}" for number in range(TRANSFERS)]
        daemon.servers = dict(ends)
        for name in CLUSTERS:
            daemon.clusters[name] = {
                "data_directory": str(daemon.folder / name),
                "pg_config": installation.paths["pg_config"],
                "init": True,
                "settings": {"fsync": False, "shared_buffers": "16MB"},
                "hba": "local all all trust\n",
            }
            daemon.clustered[name] = name
        for number, table in enumerate(self.tables):
            daemon.transfers[table] = {
                "source": "shop",
                "destinations": ["near", *CLUSTERS],
                "tables": [f"public.{table}"],
                "every": "2s",
                "jitter": "2s",
                "max_shrink": 1.0,
                "breaker": {"failures": 3, "backoff": "1s", "max_backoff": "2s"},
                "reintroduce": {**QUICK, "attempts": 2},
                **MODES[number % len(MODES)],
            }
        for conninfo in ends.values():
            execute(conninfo, *map(created, self.tables))

    def cluster(self, name: str) -> Cluster:
        no_programs = Installation({"version": "PostgreSQL"})
        return Cluster(no_programs, self.daemon.folder / name, on_parent_exit="leave")

    def furnish(self) -> None:
        """Wait for the clusters and make the tables there."""
        self.daemon.start()
        for name in CLUSTERS:
            self.daemon.await_event("cluster.up", cluster=name)
            execute(self.cluster(name).conninfo("postgres"), *map(created, self.tables))

    def write(self) -> None:
        """Add rows to all tables, and change those that may be changed."""
        for number, table in enumerate(self.tables):
            execute(self.source, f"INSERT INTO {table} (note) SELECT md5(random()::text)"
                    f" FROM generate_series(1, {self.chance.randrange(50)})")  # fmt: skip
            if MODES[number % len(MODES)]["mode"] != "append":
                execute(self.source, f"DELETE FROM {table} WHERE id % 17 = 3")

    def let_pass(self, seconds: float) -> None:
        """Let the daemon work; it must not end by itself."""
        assert self.daemon.process is not None
        with pytest.raises(subprocess.TimeoutExpired):
            self.daemon.process.wait(seconds)

    def settle(self) -> None:
        """Wait until every destination of every transfer has what the source holds now."""
        self.daemon.write()
        self.daemon.send(signal.SIGHUP)
        began = time.time()
        self.daemon.await_status(
            lambda status: all(
                (end["data_timestamp"] or 0) > began and end["state"] == "ok"
                for each in status["transfers"]
                for end in each["destinations"]
            ),
            within=120,
        )

    def assert_equal(self) -> None:
        expected = content(self.source, self.tables)
        assert content(self.daemon.servers["near"], self.tables) == expected
        for name in CLUSTERS:
            assert content(self.cluster(name).conninfo("postgres"), self.tables) == expected


def created(table: str) -> str:
    return f"CREATE TABLE IF NOT EXISTS {table} (id bigserial PRIMARY KEY, note text)"


@pytest.fixture
def killed(server: Server, folder: Path, installation: Installation) -> Iterator[KilledDaemon]:
    print(f"COPYD_TEST_SEED={SEED}")
    with ExitStack() as stack:
        ends = {
            name: server.tcp_conninfo(stack.enter_context(server.database()))
            for name in ("shop", "near")
        }
        with Daemon(folder) as daemon:
            made = KilledDaemon(daemon, installation, ends)
            yield made
        for name in CLUSTERS:
            left = made.cluster(name)
            pid = left.pid()
            if pid is not None:
                os.kill(pid, signal.SIGQUIT)
                assert wait_for(lambda left=left: left.pid() is None, timeout=PATIENCE)  # type: ignore[misc] # a default binds it


def test_a_daemon_that_is_killed_at_any_moment_loses_nothing_and_leaves_nothing(
    killed: KilledDaemon,
) -> None:
    killed.furnish()
    for _ in range(KILLS_HERE):
        killed.write()
        killed.let_pass(killed.chance.uniform(0.0, 2.5))
        assert killed.daemon.end(signal.SIGKILL) == -signal.SIGKILL
        killed.daemon.launch()
    killed.daemon.await_event("daemon.ready")
    killed.settle()
    killed.assert_equal()
    pids = {killed.cluster(name).pid() for name in CLUSTERS}
    assert None not in pids
    assert killed.daemon.end() == 0
    assert {killed.cluster(name).pid() for name in CLUSTERS} == {None}, "a server was left"
    assert not killed.daemon.socket.exists()
