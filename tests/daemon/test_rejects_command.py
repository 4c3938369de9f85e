"""``copyd rejects`` as a person runs it, on files that are there."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.program import PROGRAM, environment, run
from tests.support.reject_files import NOW, TABLES, T, files, pending, published, reject

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[daemon]
state_directory = "state"
[servers.shop]
conninfo = "host=a"
[servers.eu]
conninfo = "host=b"
[servers.us]
conninfo = "host=c"
[transfers.orders]
source = "shop"
destinations = ["eu", "us"]
tables = ["public.t"]
on_error = "resume_next"
"""

Done = subprocess.CompletedProcess[str]


class Desk:
    """A configuration, and rejects where it says that they are."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "copyd.toml"
        self.config.write_text(CONFIG)
        self.root = folder / "state/rejects"

    def ask(self, *arguments: str) -> Done:
        verb, *more = arguments
        return run("rejects", verb, "orders", "--config", str(self.config), *more)

    def documents(self, *arguments: str) -> list[dict[str, Any]]:
        done = self.ask(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("verb", ["list", "show"])
def test_where_there_are_none_it_says_so(desk: Desk, verb: str) -> None:
    done = desk.ask(verb)
    assert (done.returncode, done.stdout) == (0, "transfer orders has no rejects\n")
    assert desk.documents(verb) == []
    assert not desk.root.exists()


def test_a_line_has_run_destination_table_count_time_and_reasons(desk: Desk) -> None:
    published(desk.root, reject(1), reject(2), reject(3, sqlstate="23505"))
    pending(desk.root, run="r2", has_manifest=False).close()
    done = desk.ask("list")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["run", "destination", "table", "rejects", "time", "reasons", "standing"]
    assert lines[1] == (
        [
            "r1",
            "eu",
            "public.t",
            "3",
            "2023-11-14",
            "22:13:20Z",
            "22P02:",
            "2,",
            "23505:",
            "1",
            "published",
        ]
    )
    assert len(lines) == 2  # nothing of the other run is written yet


def test_the_list_for_machines_has_the_file_and_the_statement_that_loads_it(desk: Desk) -> None:
    folder = published(desk.root)
    (found,) = desk.documents("list")
    assert found == {
        "transfer": "orders",
        "destination": "eu",
        "run": "r1",
        "schema": "public",
        "table": "t",
        "standing": "published",
        "time": "2023-11-14 22:13:20Z",
        "rejects": 1,
        "reasons": {"22P02": 1},
        "file": str(folder / "public.t.dat"),
        "statement": "COPY public.t (id, note) FROM STDIN WITH (ENCODING 'UTF8')",
    }


def test_a_row_is_shown_with_its_reason_and_no_terminal_obeys_it(desk: Desk) -> None:
    published(desk.root, reject(5, b"a\tb\x1b[2J\xff\xc2\x9b\n", message="m\x07\nn", detail="d"))
    assert desk.ask("show").stdout == (
        "eu, run r1, public.t: row 5, batch 1\n"
        "  22P02: m\\x07\\x0an\n"
        "  detail: d\n"
        "  row: a\tb\\x1b[2J\\xff\\x9b\n"
    )


def test_rows_for_machines_are_whole(desk: Desk) -> None:
    published(desk.root, reject(1, "ä\x1b\n".encode()), reject(2, b"\xff\n"))
    first, second = desk.documents("show")
    assert (first["row"], first["row_base64"], first["ordinal"]) == ("ä\x1b\n", None, 1)
    assert (second["row"], base64.b64decode(second["row_base64"])) == (None, b"\xff\n")
    assert "\x1b" not in desk.ask("show", "--json").stdout


def test_pending_ones_are_marked(desk: Desk) -> None:
    pending(desk.root).close()
    assert "pending" in desk.ask("list").stdout.splitlines()[1].split()
    assert desk.ask("show").stdout.startswith("eu, run r1, public.t, pending: row 1")
    assert [each["standing"] for each in desk.documents("show")] == ["pending"]


def test_one_destination_or_one_run_can_be_asked_for(desk: Desk) -> None:
    published(desk.root, run="abc1")
    published(desk.root, run="abd2")
    other = files(desk.root, destination="us", run="abc1")
    other.add(T, reject())
    other.write_manifest(ledger="copyd", tables=TABLES, now=NOW)
    other.publish()
    pairs = [("eu", "abc1"), ("eu", "abd2"), ("us", "abc1")]
    for arguments, expected in (
        ([], pairs),
        (["--destination", "us"], pairs[2:]),
        (["--run", "abc"], [pairs[0], pairs[2]]),
        (["--run", "abc1", "--destination", "eu"], pairs[:1]),
    ):
        for verb in ("list", "show"):
            found = desk.documents(verb, *arguments)
            assert [(each["destination"], each["run"]) for each in found] == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list", "--run", "a"], "transfer orders has rejects of 2 runs that begin with a"),
        (["show", "--run", "x"], "transfer orders has rejects of no run that begins with x"),
        (["list", "--destination", "asia"], "transfer orders has no destination asia"),
    ],
)
def test_what_is_not_there_is_wrong_usage(desk: Desk, arguments: list[str], sentence: str) -> None:
    published(desk.root, run="a1")
    published(desk.root, run="a2")
    done = desk.ask(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_a_link_in_the_way_is_refused(desk: Desk, tmp_path: Path) -> None:
    published(desk.root)
    (desk.root / "orders").rename(tmp_path / "away")
    (desk.root / "orders").symlink_to(tmp_path / "away")
    done = desk.ask("list")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.count("\n") == 1
    assert "is a link or a file where a folder of copyd's belongs" in done.stderr


def test_a_file_that_is_not_copyds_is_one_sentence(desk: Desk) -> None:
    folder = published(desk.root)
    (folder / "public.t.jsonl").write_text("{}\n")
    done = desk.ask("show")
    assert done.returncode == 1
    assert "public.t.jsonl is not as copyd wrote it" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_closed_the_output_wants_no_more_of_it(desk: Desk) -> None:
    published(desk.root, *(reject(n) for n in range(2_000)))
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["rejects", "show", "orders", "--config", str(desk.config)]
    done = subprocess.run(
        [*PROGRAM, *arguments],
        check=False,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env=environment(),
    )
    os.close(writing)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
