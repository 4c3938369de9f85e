from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from copyd import events
from copyd.errors import CopydError
from copyd.observe.document import history_document
from copyd.observe.history import WAITING, History
from copyd.status import Known
from tests.support.status_samples import NOW, a_run, ended, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.events import Event

DAY = 86400.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@contextmanager
def kept(
    path: Path, *, keep: float = 30 * DAY, clock: Clock | None = None
) -> Iterator[tuple[History, list[Event]]]:
    told: list[Event] = []
    history = History(path, keep, observe=told.append, clock=clock or Clock())
    try:
        yield history, told
    finally:
        history.close()


def tell(history: History, *what: Event, transfer: str = "orders") -> None:
    observe = history.watch(transfer)
    for event in what:
        observe(event)
    assert history.flush()


def test_a_run_is_recorded_with_its_destinations(tmp_path: Path) -> None:
    with kept(tmp_path / "history.sqlite") as (history, told):
        tell(history, *a_run())
        (run,) = history.runs()
    assert (run.transfer, run.run, run.verdict) == ("orders", "run-1", "succeeded")
    assert (run.started, run.ended, run.cause) == (NOW, NOW, None)
    eu, us = run.destinations
    assert (eu.name, eu.verdict, eu.counts.rows, eu.counts.size, eu.data_timestamp) == (
        "eu", "succeeded", 10, 100, NOW - 1,
    )  # fmt: skip
    assert us.counts.rejected == 2
    assert told == []


def test_the_document_of_the_history_has_its_counts_beside_the_other_keys(tmp_path: Path) -> None:
    with kept(tmp_path / "history.sqlite") as (history, _):
        tell(history, *a_run())
        (run,) = history_document(history.runs())["runs"]
    told = run["destinations"][1]
    assert told.keys() == {
        "name", "verdict", "rows", "size", "read", "loaded", "rejected", "cause", "data_timestamp",
        "ended",
    }  # fmt: skip
    assert (told["name"], told["rejected"]) == ("us", 2)


def test_a_run_that_was_killed_stands_there_without_a_verdict(tmp_path: Path) -> None:
    with kept(tmp_path / "history.sqlite") as (history, _):
        tell(history, *a_run()[:-1])
    with kept(tmp_path / "history.sqlite") as (history, _):
        (run,) = history.runs()
    assert (run.run, run.verdict, run.ended, run.destinations) == ("run-1", None, None, ())


def test_runs_that_could_not_begin_are_recorded_each(tmp_path: Path) -> None:
    clock = Clock()
    with kept(tmp_path / "history.sqlite", clock=clock) as (history, _):
        history(events.RunRefused("orders", "the source does not answer", 2.0))
        clock.now += 10
        tell(history, events.RunRefused("orders", "still not", 1.0))
        second, first = history.runs("orders")
    assert (first.run, first.verdict, first.cause) == (None, "failed", "the source does not answer")
    assert (first.started, first.ended) == (NOW - 2, NOW)
    assert second.cause == "still not"


def test_the_newest_come_first_and_one_transfer_can_be_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    with kept(tmp_path / "history.sqlite", clock=clock) as (history, _):
        for number in range(5):
            clock.now += 1
            name = "orders" if number % 2 else "items"
            tell(history, *a_run(f"run-{number}", transfer=name), transfer=name)
        assert [run.run for run in history.runs()] == ["run-4", "run-3", "run-2", "run-1", "run-0"]
        assert [run.run for run in history.runs("orders")] == ["run-3", "run-1"]
        assert [run.run for run in history.runs(limit=2)] == ["run-4", "run-3"]
        assert history.runs("nobody") == []


def test_what_was_last_known_survives_failures_and_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    with kept(tmp_path / "history.sqlite", clock=clock) as (history, _):
        assert history.last_known() == {}
        tell(history, *a_run("run-1"))
        for number in (2, 3):
            clock.now += 60
            failed = ended("us", "failed", cause="no")
            both = (ended("eu", data_timestamp=clock.now - 1), failed)
            tell(history, started(f"run-{number}"), *both, events.RunEnded("partial", 1.0))
    with kept(tmp_path / "history.sqlite") as (history, _):
        assert history.last_known() == {
            ("orders", "eu"): Known(NOW + 120, NOW + 119, "succeeded", 0),
            ("orders", "us"): Known(NOW, NOW - 1, "failed", 2),
        }


def test_runs_are_kept_for_so_long_and_what_was_last_known_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    with kept(tmp_path / "history.sqlite", keep=7 * DAY, clock=clock) as (history, _):
        tell(history, *a_run("old"))
        clock.now += 6 * DAY
        tell(history, *a_run("young"))
        assert len(history.runs()) == 2
        clock.now += 2 * DAY
        tell(history, *a_run("new"))
        assert history.flush()
        assert [run.run for run in history.runs()] == ["new", "young"]
        history.keep = DAY
        clock.now += DAY / 2
        tell(history, *a_run("newest"))
        assert history.flush()
        assert [run.run for run in history.runs()] == ["newest", "new"]
    with closing(sqlite3.connect(tmp_path / "history.sqlite")) as shell:
        assert shell.execute("SELECT count(*) FROM destinations").fetchone() == (4,)
        assert shell.execute("SELECT count(*) FROM known").fetchone() == (2,)


def test_nobody_else_can_read_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with kept(tmp_path / "history.sqlite") as (history, _):
            tell(history, *a_run())
            modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o600}


@pytest.mark.parametrize("garbage", [b"this is no database" * 500, b""], ids=["garbage", "empty"])
def test_a_file_that_is_no_database_is_put_aside(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(garbage)
    with kept(path) as (history, told):
        tell(history, *a_run())
        assert [run.run for run in history.runs()] == ["run-1"]
        assert bool(history.failures) == bool(garbage)
    if garbage:
        assert (tmp_path / "history.sqlite.damaged").read_bytes() == garbage
        assert [type(event) for event in told] == [events.HistoryFailed, events.HistoryResumed]


def test_a_file_that_is_damaged_later_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with kept(path) as (history, _):
        for number in range(200):
            tell(history, *a_run(f"run-{number}"))
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with kept(path) as (history, told):
        assert history.last_known() == {}
        tell(history, *a_run("after"))
        assert [run.run for run in history.runs()] == ["after"]
    assert any(isinstance(event, events.HistoryFailed) for event in told)


def test_a_folder_that_is_not_there_is_told_once_and_records_are_kept_when_it_comes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "missing" / "history.sqlite"
    with kept(path) as (history, told):
        for number in range(3):
            tell(history, *a_run(f"lost-{number}"))
        (failed,) = told
        assert isinstance(failed, events.HistoryFailed)
        assert str(path) in failed.cause
        lost = history.failures
        assert lost >= 6
        path.parent.mkdir()
        tell(history, *a_run("kept"))
        assert [run.run for run in history.runs()] == ["kept"]
        assert told[1:] == [events.HistoryResumed(6)]
        assert history.failures == lost


def test_the_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("PRAGMA user_version = 99")
    with kept(path) as (history, told):
        tell(history, *a_run())
        with pytest.raises(CopydError, match="cannot be read"):
            history.runs()
    assert "another version" in str(told[0])
    assert not (tmp_path / "history.sqlite.damaged").exists()


FULL = """
import json, resource, sys
from pathlib import Path
from copyd.observe.document import history_document
from copyd.observe.history import History
from tests.support.status_samples import a_run

told = []
history = History(Path(sys.argv[1]), 1e9, observe=told.append)
assert history.flush()
observe = history.watch("orders")
runs = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
while not history.failures and runs < 5000:
    for event in a_run(f"run-{runs}"):
        observe(event)
    runs += 1
    assert history.flush()
failed = history.failures
for event in a_run("while-full"):
    observe(event)
assert history.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for event in a_run("room-again"):
    observe(event)
history.close()
print(json.dumps({"runs": runs, "failed": failed, "told": [type(each).__name__ for each in told],
                  "newest": history.runs(limit=1)[0].run, "kept": len(history.runs(limit=9999))}))
"""


def test_a_full_disk_costs_records_and_is_told_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "history.sqlite")],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    found = json.loads(done.stdout)
    assert found["failed"] >= 1
    assert found["told"] == ["HistoryFailed", "HistoryResumed"]
    assert found["newest"] == "room-again"
    assert found["kept"] >= found["runs"] - 1


def test_a_disk_that_hangs_stops_nobody(tmp_path: Path) -> None:
    """Somebody holds the file's lock, which the writer waits for as for a slow disk."""
    path = tmp_path / "history.sqlite"
    done = threading.Event()
    with kept(path) as (history, told):
        tell(history, *a_run("before"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            observe = history.watch("orders")

            def run() -> None:
                for number in range(WAITING + 10):
                    observe(started(f"run-{number}"))
                done.set()

            threading.Thread(target=run, daemon=True).start()
            assert done.wait(5)
            assert history.failures > 0
            other.execute("ROLLBACK")
        assert history.flush(30)
        assert len(history.runs(limit=9999)) > 1
    assert isinstance(told[0], events.HistoryFailed)


def test_nothing_is_left_behind(tmp_path: Path, no_leaks: None) -> None:
    del no_leaks
    with kept(tmp_path / "history.sqlite") as (history, _):
        tell(history, *a_run())
        history.runs()
