"""``copyd run`` with clusters of its own: they are made, waited for, kept, left, found again."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from copyd.cluster import Cluster, Installation
from copyd.cluster.poll import wait_for
from tests.support.daemon import PATIENCE, QUICK, Daemon
from tests.support.fanout import empty
from tests.support.sql import ask, content, execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

KEYED = "CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, note text)"
FIVE = "INSERT INTO t SELECT i, 'note ' || i FROM generate_series(1, 5) i"


@pytest.fixture(scope="module")
def shop(server: Server) -> Iterator[str]:
    with ExitStack() as stack:
        yield server.tcp_conninfo(stack.enter_context(server.database()))


@pytest.fixture
def daemon(shop: str, folder: Path, installation: Installation) -> Iterator[Daemon]:
    """A transfer each 300 ms, into the cluster ``mine`` that the daemon makes at its start."""
    empty(shop)
    execute(shop, KEYED, FIVE)
    with Daemon(folder, servers={"shop": shop}) as made:
        made.clusters["mine"] = {
            "data_directory": str(folder / "mine"),
            "pg_config": installation.paths["pg_config"],
            "init": True,
            "settings": {"fsync": False, "shared_buffers": "16MB"},
            "hba": "local all all trust\n",
        }
        made.clustered["copy"] = "mine"
        made.transfers["books"] = {
            "source": "shop",
            "destinations": ["copy"],
            "tables": ["public.t"],
            "every": "300ms",
            "before": ["SELECT 1"],
            "breaker": {"failures": 1000},
            "reintroduce": QUICK,
        }
        yield made
        end_server(cluster(made))


def cluster(daemon: Daemon) -> Cluster:
    """The cluster itself, seen without the daemon."""
    no_programs = Installation({"version": "PostgreSQL"})
    return Cluster(no_programs, daemon.folder / "mine", on_parent_exit="leave")


def end_server(left: Cluster) -> None:
    pid = left.pid()
    if pid is not None:
        os.kill(pid, signal.SIGQUIT)
        assert wait_for(lambda: left.pid() is None, timeout=PATIENCE)


def begin(daemon: Daemon) -> str:
    """Start it, make the table in its cluster, and see rows arrive; returns how to connect."""
    daemon.start()
    daemon.await_event("cluster.up", cluster="mine")
    conninfo = cluster(daemon).conninfo("postgres")
    execute(conninfo, KEYED)
    daemon.await_event("run.ended", verdict="succeeded")
    return conninfo


def test_transfers_wait_for_a_cluster_that_is_made_and_then_run(daemon: Daemon, shop: str) -> None:
    conninfo = begin(daemon)
    assert content(conninfo, ["t"]) == content(shop, ["t"])
    (found,) = daemon.ask("status")["clusters"]
    assert (found["state"], found["is_up"], found["is_adopted"]) == ("up", True, False)
    told = [line["event"] for line in daemon.lines]
    assert told.index("cluster.up") < told.index("run.started")


def test_a_cluster_is_stopped_with_the_daemon(daemon: Daemon) -> None:
    begin(daemon)
    assert daemon.end() == 0
    assert cluster(daemon).pid() is None
    assert len(daemon.events("cluster.stopped", cluster="mine")) == 1
    assert daemon.events("cluster.down") == []


def test_a_cluster_that_is_killed_is_started_again_and_runs_go_on(
    daemon: Daemon, shop: str
) -> None:
    begin(daemon)
    pid = cluster(daemon).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    daemon.await_event("cluster.down", cluster="mine")
    daemon.await_event("cluster.up", number=2, cluster="mine")
    execute(shop, "INSERT INTO t VALUES (6, 'six')")
    seen = len(daemon.events("run.ended", verdict="succeeded"))
    daemon.await_event("run.ended", number=seen + 2, verdict="succeeded")
    assert content(cluster(daemon).conninfo("postgres"), ["t"]) == content(shop, ["t"])
    assert daemon.ask("status")["clusters"][0]["restarts"] == 1


def test_a_cluster_that_a_killed_daemon_left_is_found_and_stopped_in_the_end(
    daemon: Daemon,
) -> None:
    begin(daemon)
    pid = cluster(daemon).pid()
    assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
    assert cluster(daemon).pid() == pid
    daemon.start()
    daemon.await_event("cluster.up", cluster="mine")
    daemon.await_event("run.ended", verdict="succeeded")
    assert cluster(daemon).pid() == pid, "it was restarted"
    assert daemon.end() == 0
    assert cluster(daemon).pid() is None


def test_a_cluster_that_a_reload_removes_is_left_as_it_is(daemon: Daemon) -> None:
    begin(daemon)
    pid = cluster(daemon).pid()
    daemon.clusters.clear()
    daemon.clustered.clear()
    daemon.transfers.clear()
    daemon.reload()
    daemon.await_event("cluster.released", cluster="mine")
    assert daemon.ask("status")["clusters"] == []
    assert daemon.end() == 0
    assert cluster(daemon).pid() == pid


def test_a_cluster_that_a_reload_adds_is_made(daemon: Daemon) -> None:
    kept = (dict(daemon.clusters), dict(daemon.clustered), dict(daemon.transfers))
    daemon.clusters.clear()
    daemon.clustered.clear()
    daemon.transfers.clear()
    daemon.start()
    daemon.clusters, daemon.clustered, daemon.transfers = kept
    daemon.reload()
    daemon.await_event("cluster.up", cluster="mine")
    execute(cluster(daemon).conninfo("postgres"), KEYED)
    daemon.await_event("run.ended", verdict="succeeded")


def test_changed_settings_hold_after_a_reload_and_no_run_is_cut(daemon: Daemon) -> None:
    conninfo = begin(daemon)
    daemon.clusters["mine"]["settings"]["work_mem"] = "5MB"
    daemon.clusters["mine"]["settings"]["max_connections"] = 77
    daemon.clusters["mine"]["allow_restart"] = True
    daemon.reload()
    daemon.await_event("cluster.restarted", cluster="mine")

    def settings() -> list[object]:
        return ask(cluster(daemon).conninfo("postgres"), "SELECT current_setting('work_mem')")

    daemon.await_event("cluster.up", number=2, cluster="mine")
    assert settings() == [("5MB",)]
    assert ask(conninfo, "SHOW max_connections") == [("77",)]
    assert daemon.events("destination.dropped") == []
    seen = len(daemon.events("run.ended", verdict="succeeded"))
    daemon.await_event("run.ended", number=seen + 1, verdict="succeeded")


def test_a_transfer_says_which_cluster_it_waits_for(daemon: Daemon) -> None:
    daemon.clusters["mine"]["init"] = False
    daemon.start()
    found = daemon.await_status(lambda status: status["transfers"][0]["state"] == "waiting")
    reason = "cluster mine, which holds destination copy, is not up"
    assert found["transfers"][0]["reason"] == reason
    assert found["clusters"][0]["last_error"] is not None
