"""Killed servers, killed parents, recycled process ids: nobody else is hit, nothing stays behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from copyd.cluster import Cluster, State
from copyd.cluster.poll import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARENT = """\
import sys
from copyd.cluster import Cluster, Installation
cluster = Cluster(Installation.find(sys.argv[1]), sys.argv[2], on_parent_exit=sys.argv[3])
print("about to start", flush=True)
cluster.start()
cluster.wait_until_started()
print("started", flush=True)
sys.stdin.readline()
"""


@contextmanager
def parent_of(cluster: Cluster, on_exit: str = "stop") -> Iterator[subprocess.Popen[str]]:
    """Another Python that starts the cluster's server, and ends when its stdin does."""
    bindir = cluster.installation.info["bindir"]
    arguments = [sys.executable, "-c", PARENT, bindir, str(cluster.data_directory), on_exit]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "about to start\n"
        yield parent


def said(parent: subprocess.Popen[str]) -> str:
    assert parent.stdout is not None
    return parent.stdout.readline()


def write_lock(cluster: Cluster, pid: int, started: float | None = None) -> None:
    lock = cluster.data_directory / "postmaster.pid"
    moment = int(time.time() if started is None else started)
    lock.write_text(f"{pid}\n{cluster.data_directory}\n{moment}\n5432\n/absent\n\n 1 -5\nready\n")
    lock.chmod(0o600)
    cluster.account.own(lock)


def processes_of(cluster: Cluster) -> list[str]:
    """Every process that has the data directory among its arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(cluster.data_directory).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


def assert_usable_and_then_gone(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_until_started(timeout=30)
    with psycopg.connect(cluster.conninfo()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    cluster.shutdown()
    cluster.wait_until_stopped()
    assert cluster.state() is State.STOPPED
    assert not cluster.socket_directory.exists()
    assert not (cluster.data_directory / "postmaster.pid").exists()
    assert not processes_of(cluster)


@contextmanager
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that any signal would end, and that must end by itself."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_server_stops_when_its_parent_ends_in_any_way(
    cluster: Cluster, how: signal.Signals | None
) -> None:
    with parent_of(cluster) as parent:
        assert said(parent) == "started\n"
        assert cluster.ready_for_connections() is True
        if how is None:
            parent.communicate()
        else:
            parent.send_signal(how)
    cluster.wait_until_stopped()
    assert cluster.state() is State.STOPPED


def test_a_server_that_is_left_survives_its_parent(cluster: Cluster) -> None:
    with parent_of(cluster, "leave") as parent:
        assert said(parent) == "started\n"
        pid = cluster.pid()
        parent.kill()
    with psycopg.connect(cluster.conninfo()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert cluster.pid() == pid
    cluster.shutdown()
    cluster.wait_until_stopped()


def test_a_start_waits_for_the_children_of_a_killed_server(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_until_started()
    with psycopg.connect(cluster.conninfo()) as connection:
        backend = connection.info.backend_pid
        thaw = threading.Timer(0.5, os.kill, (backend, signal.SIGCONT))
        os.kill(backend, signal.SIGSTOP)
        thaw.start()
        cluster.kill()
        cluster.wait_until_stopped()
        cluster.start()
        assert thaw.finished.is_set()
        thaw.join()
    cluster.wait_until_started()
    assert_usable_and_then_gone(cluster)


def test_a_lock_file_of_a_dead_process_does_not_fool_anybody(cluster: Cluster) -> None:
    with subprocess.Popen(["/bin/true"]) as dead:
        dead.wait()
    write_lock(cluster, dead.pid)
    assert cluster.state() is State.CRASHED
    assert (cluster.pid(), cluster.ready_for_connections()) == (None, None)
    assert_usable_and_then_gone(cluster)


def test_a_process_that_got_the_id_of_a_server_is_not_hit(cluster: Cluster) -> None:
    with stranger() as other:
        write_lock(cluster, other.pid)
        assert cluster.state() is State.FOREIGN
        assert (cluster.pid(), cluster.ready_for_connections()) == (None, None)
        for action in (cluster.stop, cluster.shutdown, cluster.quit, cluster.kill, cluster.reload):
            action()
        assert_usable_and_then_gone(cluster)


def test_a_dead_server_that_nobody_waited_for_does_not_block_a_start(cluster: Cluster) -> None:
    # PostgreSQL itself takes it for a living one, as in a container whose first process waits
    # for nobody.
    devnull = subprocess.DEVNULL
    with cluster.account.popen(["/bin/true"], stdout=devnull, stderr=devnull) as dead:
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        write_lock(cluster, dead.pid)
        assert cluster.state() is State.CRASHED
        assert_usable_and_then_gone(cluster)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers have another account")
def test_a_process_of_the_servers_own_account_does_not_block_a_start(cluster: Cluster) -> None:
    # PostgreSQL itself takes a living process of its own account for another server.
    account = cluster.account
    sleeper = account.popen(
        ["/bin/sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with sleeper:
        write_lock(cluster, sleeper.pid)
        cluster.socket_directory.mkdir(mode=0o700)
        account.own(cluster.socket_directory)
        lock = cluster.socket_directory / ".s.PGSQL.5432.lock"
        shutil.copy(cluster.data_directory / "postmaster.pid", lock)
        account.own(lock)
        assert_usable_and_then_gone(cluster)
        assert sleeper.poll() is None
        sleeper.kill()


def test_the_server_of_another_directory_is_not_taken_for_ones_own(
    copies: Callable[[str], Cluster],
) -> None:
    first, second = copies("first"), copies("second")
    with first:
        lock = second.data_directory / "postmaster.pid"
        lock.write_bytes((first.data_directory / "postmaster.pid").read_bytes())
        second.account.own(lock)
        assert second.state() is State.FOREIGN
        assert (second.pid(), second.ready_for_connections()) == (None, None)
        second.shutdown()
        second.kill()
        assert_usable_and_then_gone(second)
        assert first.ready_for_connections() is True


def test_a_lock_file_from_before_the_process_was_born_is_not_believed(cluster: Cluster) -> None:
    with cluster:
        pid = cluster.pid()
        assert pid is not None
        write_lock(cluster, pid, time.time() - 3600)
        assert cluster.state() is State.STARTING  # our own process lives, but is not proved
        assert Cluster(cluster.installation, cluster.data_directory).pid() is None


def test_empty_lock_files_that_a_crash_left_do_not_block_a_start(cluster: Cluster) -> None:
    lock = cluster.data_directory / "postmaster.pid"
    lock.touch(mode=0o600)
    cluster.account.own(lock)
    sockets = cluster.socket_directory
    sockets.mkdir(mode=0o700)
    (sockets / ".s.PGSQL.5432.lock").touch(mode=0o600)
    for path in (sockets, *sockets.iterdir()):
        cluster.account.own(path)
    assert_usable_and_then_gone(cluster)


def test_a_dropped_crash_leaves_nothing(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_until_started()
    cluster.kill()
    cluster.drop()
    assert not cluster.data_directory.exists()
    assert not cluster.socket_directory.exists()


@pytest.mark.parametrize("seed", range(int(os.environ.get("COPYD_TEST_ROUNDS", "8"))))
def test_a_kill_at_any_moment_leaves_a_directory_that_can_be_used(
    cluster: Cluster, seed: int
) -> None:
    moment = random.Random(seed)
    with stranger(), parent_of(cluster) as parent:
        if moment.random() < 0.5:
            assert said(parent) == "started\n"
            cluster.settings["work_mem"] = f"{moment.randint(1, 9)}MB"
            cluster.reload()
        # The stimulus of this test is the moment itself, anywhere in a start or after it.
        threading.Event().wait(moment.uniform(0, 0.15))
        if moment.random() < 0.5:
            cluster.kill()
        parent.kill()
    # A server that was just being started is invisible to others for a moment.
    assert wait_for(lambda: not processes_of(cluster), timeout=30)
    assert_usable_and_then_gone(cluster)
