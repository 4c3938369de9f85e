"""What holds for every command."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.program import PROGRAM, environment, run
from tests.support.servers import private_folder

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def test_version_names_everything_that_a_report_needs() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert re.fullmatch(
        r"copyd \S+ \(psycopg \d\S+, libpq \d+\.\d+, Python 3\.\d+\.\d+\S*\)\n", done.stdout
    )


def test_help_is_there_by_both_names_and_lists_the_commands() -> None:
    done = run("-h")
    assert done.stdout == run("--help").stdout
    assert "copy" in done.stdout
    assert "demo" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, copyd.cli.main; print(*{'psycopg', 'pydantic', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


def test_a_question_to_the_daemon_does_not_import_the_daemon(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from copyd.cli.control_client import ask\n"
        "try: ask(Path(sys.argv[1]), 'status')\n"
        "except Exception as error: print(error, 'copyd.daemon' in sys.modules)"
    )
    (tmp_path / "copyd.toml").write_text('[daemon]\nruntime_directory = "none"\n')
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "copyd.toml")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "no daemon listens" in done.stdout
    assert done.stdout.endswith(" False\n")


def test_an_unknown_command_is_wrong_usage() -> None:
    done = run("fly")
    assert done.returncode == 2
    assert "No such command 'fly'" in done.stderr


@pytest.mark.parametrize(("env", "is_coloured"), [({"NO_COLOR": "1"}, False), ({}, True)])
def test_no_color_is_honoured_on_a_terminal(env: dict[str, str], is_coloured: bool) -> None:
    with private_folder() as folder:
        arguments = ["demo", "--rows", "100", "--no-fault"]
        said = on_a_terminal(*arguments, env={"TERM": "xterm", "TMPDIR": str(folder), **env})
    assert "All four are equal." in said
    assert bool(re.search(r"\x1b\[(\d;)?3\dm", said)) is is_coloured


def on_a_terminal(*arguments: str, env: dict[str, str]) -> str:
    """Run the program on a pseudo-terminal; returns all that it wrote."""
    ours, theirs = pty.openpty()
    written = bytearray()
    with subprocess.Popen(
        [*PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**env)
    ):
        os.close(theirs)
        with suppress(OSError):  # EIO is how the end of a pseudo-terminal is told
            while block := os.read(ours, 65_536):
                written += block
    os.close(ours)
    return written.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ["schema"],
        ["check", "--config", str(EXAMPLE)],
        ["check", "--config", str(EXAMPLE), "--connect"],
    ],
    ids=["schema", "check", "check --connect"],
)
def test_output_that_cannot_be_written_is_a_sentence_and_the_exit_code_that_of_the_work(
    arguments: list[str],
) -> None:
    expected = run(*arguments).returncode
    for words, sentence in (
        ('exec "$@" >/dev/full', "copyd: the report could not be written: "),
        ('exec "$@" >&-', ""),
    ):
        done = run(*arguments, prefix=("/bin/sh", "-c", words, "sh"))
        assert done.returncode == expected
        assert done.stderr.startswith(sentence)
        assert len(done.stderr.splitlines()) == bool(sentence)


def test_who_stops_reading_gets_no_traceback() -> None:
    done = run("schema", prefix=("/bin/bash", "-c", '"$@" | true', "bash"))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "copy", "once", "plan", "verify"])
def test_help_names_the_exit_codes_of_an_interruption(command: str) -> None:
    said = " ".join(run(command, "--help").stdout.split())
    assert "130 interrupted, 143 ended by SIGTERM" in said
    assert ("fewer than minimum_destinations" in said) is (command == "once")


def test_shell_completion_knows_the_commands() -> None:
    words = {"_COPYD_COMPLETE": "bash_complete", "COMP_WORDS": "copyd ", "COMP_CWORD": "1"}
    done = run(env=words)
    assert "plain,copy" in done.stdout
    assert "plain,demo" in done.stdout
