"""A daemon that is killed at any moment: what it left is known again, or made anew."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from copyd.cluster import State
from copyd.daemon.keeper.records import Made, Record
from copyd.events import ClusterConfigured, ClusterDown, ClusterReleased, ClusterUp
from tests.support.keepers import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.keepers import Home

DAEMON = """\
import sys
from pathlib import Path
from copyd.config import load
from copyd.daemon.keeper import Folders, Keepers
from copyd.events import ClusterUp
folder = Path(sys.argv[1])
def tell(event):
    print(type(event).__name__, flush=True)
keepers = Keepers(Folders(folder / "state", folder / "run"), tell)
keepers.apply(load(folder / "config.toml", environ={}, is_root=True).clusters)
sys.stdin.readline()
"""


@contextmanager
def daemon(home: Home) -> Iterator[subprocess.Popen[str]]:
    """Another process that keeps the cluster `a`, and is killed at the end."""
    (home.path / "config.toml").write_text(
        f'[clusters.a]\ndata_directory = "a"\ninit = true\n'
        f'pg_config = "{home.installation.paths["pg_config"]}"\n'
        'settings = { fsync = false, shared_buffers = "16MB", max_connections = 20 }\n'
    )
    command = [sys.executable, "-c", DAEMON, str(home.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.kill()


def until_up(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "ClusterUp\n":
        assert line, "the keeper ended"


def test_a_server_of_a_killed_daemon_is_its_own_again(home: Home) -> None:
    with daemon(home) as process:
        until_up(process)
    pid = home.cluster().pid()
    assert pid is not None
    home.bring_up(a=home.section())
    assert home.told.of(ClusterUp) == [ClusterUp("a", is_adopted=False)]
    assert home.cluster().pid() == pid
    home.keepers.stop_all(TIMEOUT)
    assert home.cluster().state() is State.STOPPED


def test_a_daemon_killed_at_any_moment_is_followed_by_one_that_has_the_cluster_up(
    home: Home,
) -> None:
    dice = random.Random(20261125)
    for _ in range(8):
        with daemon(home) as process:
            deadline = time.monotonic() + dice.uniform(0.2, 1.6)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(deadline - time.monotonic())
        if dice.random() < 0.4 and home.cluster().state() is not State.VOID:
            home.cluster().kill()
    home.bring_up(a=home.section())
    assert home.told.of(ClusterUp) == [ClusterUp("a", is_adopted=False)]
    assert home.ask("SELECT 1") == 1
    left = (home.folders.runtime / "clusters" / "a").glob("copyd-*")
    assert list(left) == []  # the password that an initdb was given
    home.keepers.stop_all(TIMEOUT)
    assert home.cluster().state() is State.STOPPED


def half_made(home: Home, *, begun_at: float) -> Path:
    """A data directory as an initdb leaves it that was killed."""
    path = home.path / "a"
    (path / "base" / "1").mkdir(parents=True)
    (path / "PG_VERSION").write_text("15\n")
    (path / "postgresql.conf").write_text("")
    record = Record(made=Made.BEGUN, begun_at=begun_at)
    home.folders.files_of(path).write(record)
    return path


def test_what_an_initdb_left_that_did_not_end_is_made_anew(home: Home) -> None:
    half_made(home, begun_at=time.time())
    home.bring_up(a=home.section())
    assert home.ask("SELECT 1") == 1


def test_what_was_put_there_after_an_initdb_that_did_not_end_is_left_alone(home: Home) -> None:
    path = half_made(home, begun_at=time.time() - 3600)
    (path / "base" / "precious").write_text("restored from a backup")
    home.apply(a=home.section())
    home.told.wait_for(ClusterDown)
    assert (path / "base" / "precious").read_text() == "restored from a backup"


def test_what_a_server_has_run_on_is_never_made_anew(home: Home) -> None:
    path = half_made(home, begun_at=time.time())
    (path / "postmaster.opts").write_text("")
    home.apply(a=home.section())
    home.told.wait_for(ClusterDown)
    assert (path / "PG_VERSION").exists()


def test_a_record_that_cannot_be_read_never_leads_to_a_new_cluster(home: Home) -> None:
    files = home.folders.files_of(home.path / "a")
    files.write(Record())
    files.record.write_text("{")
    home.apply(a=home.section())
    assert "held a cluster before" in home.told.wait_for(ClusterDown).cause


def test_no_cluster_is_made_where_that_cannot_be_recorded(home: Home) -> None:
    (home.folders.state / "clusters").write_text("in the way")
    home.apply(a=home.section())
    home.told.wait_for(ClusterDown)
    assert not (home.path / "a").exists()


def test_a_stop_in_the_middle_of_everything_ends_every_keeper(home: Home) -> None:
    home.apply(a=home.section("a"), b=home.section("b"), c=home.section("c", init=False))
    assert home.keepers.stop_all(TIMEOUT) == ()
    for name in "ab":
        assert home.cluster(name).state() in {State.STOPPED, State.VOID}


def test_another_observers_failure_is_no_keepers_business(home: Home) -> None:
    def tell(event: object) -> None:
        del event
        raise RuntimeError("out of order")

    home.keepers = type(home.keepers)(home.folders, tell, intervals=home.intervals)
    home.apply(a=home.section())
    home.wait_up()


def test_a_password_file_that_cannot_be_read_makes_no_running_server_down(home: Home) -> None:
    home.bring_up(a=home.section())
    home.apply(a=home.section(password_file=str(home.path / "absent")))
    told = home.told.wait_for(ClusterConfigured, 2)
    assert "clusters.a.password_file: expected a file" in told.problems[0]
    assert home.keepers.is_up("a")
    assert home.told.of(ClusterDown) == []


def test_a_configuration_with_problems_is_tried_again_by_itself(home: Home) -> None:
    given = home.path / "password"
    home.bring_up(a=home.section())
    home.apply(a=home.section(password_file=str(given)))
    home.told.wait_for(ClusterConfigured, 2)
    password = home.folders.files_of(home.path / "a").password()
    assert password is not None
    given.touch(mode=0o600)
    given.write_text(password)
    assert home.told.wait_for(ClusterConfigured, 3).problems == ()
    assert home.status().last_error is None


def test_what_keepers_say_and_show_holds_no_password(home: Home) -> None:
    given = home.path / "password"
    given.touch(mode=0o600)
    given.write_text("hunter2")
    home.bring_up(a=home.section(password_file=str(given)))
    home.cluster().kill()
    home.told.wait_for(ClusterUp, 2)
    shown = [home.told.events, home.status(), home.conninfo(), vars(home.keepers)]
    assert "hunter2" not in repr(shown)
    files = home.folders.files_of(home.path / "a")
    assert "hunter2" not in files.record.read_text() + files.log.read_text()
    pid = home.cluster().pid()
    for kind in ("environ", "cmdline"):
        assert b"hunter2" not in Path("/proc", str(pid), kind).read_bytes()


def test_keepers_leave_no_thread_and_no_descriptor(home: Home, no_leaks: None) -> None:
    del no_leaks
    others = set(threading.enumerate())  # such as those of servers that other tests share
    home.bring_up(a=home.section("a"), b=home.section("b"))
    home.cluster("a").kill()
    home.told.wait_for(ClusterUp, 3)
    home.apply(b=home.section("b", on_exit="leave"))
    home.told.wait_for(ClusterReleased)
    home.keepers.stop_all(TIMEOUT)
    for name in "ab":
        home.cluster(name).shutdown()
        home.cluster(name).wait_until_stopped(TIMEOUT)
    deadline = time.monotonic() + TIMEOUT
    while any(each.name.startswith("copyd-") for each in set(threading.enumerate()) - others):
        assert time.monotonic() < deadline
