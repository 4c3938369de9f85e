"""``copyd cluster`` as somebody runs it who knows pg_ctl."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.program import run
from tests.support.servers import private_folder

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path


BINDIR = os.environ.get("COPYD_TEST_BINDIR")


def cluster(command: str, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    options = ["--bindir", BINDIR] if BINDIR is not None else []
    done = run("cluster", *options, command, str(path), *more)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def path() -> Iterator[Path]:
    """A data directory to be, stopped and removed afterwards."""
    with private_folder() as folder:
        data = folder / "data"
        yield data
        cluster("drop", data, "--yes")


@pytest.fixture
def made(path: Path) -> Path:
    assert cluster("init", path).returncode == 0
    return path


@pytest.fixture
def started(made: Path) -> Path:
    assert cluster("start", made).returncode == 0
    return made


def conninfo(said: str) -> str:
    found = re.search(r"psql '(.*)'", said)
    assert found is not None, said
    return found[1]


def test_a_server_lives_from_init_to_drop(path: Path) -> None:
    assert "created for " in cluster("init", path).stdout
    start = cluster("start", path)
    assert start.returncode == 0, start.stderr
    with psycopg.connect(conninfo(start.stdout)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert cluster("stop", path).stdout == "server stopped\n"
    assert "removed" in cluster("drop", path, "--yes").stdout
    assert not path.exists()


def test_status_has_pg_ctls_exit_codes(path: Path) -> None:
    void = cluster("status", path)
    assert (void.returncode, void.stdout) == (4, f"directory {path} is not a data directory\n")
    cluster("init", path)
    stopped = cluster("status", path)
    assert (stopped.returncode, stopped.stdout) == (3, "no server running, stopped\n")
    cluster("start", path)
    running = cluster("status", path)
    assert running.returncode == 0
    assert re.fullmatch(r"server is running \(PID: \d+\), ready\n", running.stdout)


def test_status_as_json_names_state_and_pid(started: Path) -> None:
    told = json.loads(cluster("status", started, "--json").stdout)
    assert told == {"path": str(started), "state": "ready", "pid": told["pid"]}
    assert told["pid"] > 1


def test_the_server_outlives_the_command_that_started_it(started: Path) -> None:
    assert cluster("status", started).returncode == 0


@pytest.mark.parametrize("mode", ["fast", "smart", "immediate"])
def test_a_server_can_be_stopped_in_every_mode(started: Path, mode: str) -> None:
    assert cluster("stop", started, "--mode", mode).returncode == 0
    assert cluster("status", started).returncode == 3


def test_a_second_start_and_a_second_stop_are_failures_as_with_pg_ctl(started: Path) -> None:
    again = cluster("start", started)
    assert again.returncode == 1
    assert "already" in again.stderr
    assert cluster("stop", started).returncode == 0
    again = cluster("stop", started)
    assert (again.returncode, again.stderr) == (1, f"copyd: no server runs in {started}\n")


def test_a_changed_setting_holds_after_a_reload(made: Path) -> None:
    assert cluster("settings", made, "work_mem=7MB", "log_line_prefix='%m # '").returncode == 0
    start = cluster("start", made)
    where = conninfo(start.stdout)
    with psycopg.connect(where, autocommit=True) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
        assert cluster("settings", made, "work_mem=8MB").returncode == 0
        assert cluster("reload", made).returncode == 0
        # A reload is a signal: the session sees it when it next looks.
        while connection.execute("SHOW work_mem").fetchone() != ("8MB",):
            pass
    shown = json.loads(cluster("settings", made, "--json", "work_mem", "nothing.set").stdout)
    assert shown == {"work_mem": "8MB", "nothing.set": None}
    assert cluster("settings", made, "--unset", "work_mem").returncode == 0
    assert cluster("settings", made, "work_mem").stdout == "work_mem is not set\n"


def test_restart_gives_a_new_server(started: Path) -> None:
    before = json.loads(cluster("status", started, "--json").stdout)["pid"]
    assert cluster("restart", started).returncode == 0
    after = json.loads(cluster("status", started, "--json").stdout)["pid"]
    assert after not in (None, before)


def test_a_password_comes_from_a_file_and_is_never_shown(path: Path) -> None:
    with private_folder() as folder:
        secret = folder / "secret"
        secret.write_text("tops3cret\n")
        made = cluster("init", path, "--user", "anna", "--password-file", str(secret))
    start = cluster("start", path)
    where = conninfo(start.stdout)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(where, password="wrong")
    with psycopg.connect(where, password="tops3cret") as connection:
        assert connection.info.user == "anna"
    assert "tops3cret" not in made.stdout + made.stderr + start.stdout + start.stderr


@pytest.mark.parametrize("command", ["start", "stop", "reload", "restart", "settings"])
def test_a_folder_that_is_no_data_directory_is_one_sentence(path: Path, command: str) -> None:
    done = cluster(command, path)
    assert done.returncode == 1
    assert done.stderr == (
        f"copyd: directory {path} is not a data directory; copyd cluster init creates one\n"
    )


def test_a_server_that_cannot_start_says_why(made: Path) -> None:
    cluster("settings", made, "shared_preload_libraries=nowhere")
    done = cluster("start", made)
    assert done.returncode == 1
    assert "nowhere" in done.stderr


def test_drop_asks_first(made: Path) -> None:
    done = cluster("drop", made)
    assert (done.returncode, "nothing was done" in done.stderr) == (1, True)
    assert made.exists()


def test_start_does_not_write_through_a_link_in_the_data_directory(made: Path) -> None:
    victim = made.parent / "victim"
    victim.write_text("mine\n")
    before = victim.stat()
    (made / "server.log").symlink_to(victim)
    done = cluster("start", made)
    assert done.returncode == 1
    assert "choose --log" in done.stderr
    assert (victim.read_text(), victim.stat().st_uid) == ("mine\n", before.st_uid)
