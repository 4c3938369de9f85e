"""How a server is tied to its parent and what is kept of its log; the "servers" are shell lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from copyd.cluster.account import Account
from copyd.cluster.launcher import LOG_LINES, ServerProcess, stopping_with_parent


def shell(script: str, logfile: IO[bytes] | None = None) -> ServerProcess:
    return ServerProcess(
        ["/bin/sh", "-c", script], account=Account.calling(), directory=Path("/"), logfile=logfile
    )


@pytest.mark.usefixtures("no_leaks")
def test_the_end_of_the_log_is_kept_and_no_pipe_fills_up() -> None:
    server = shell("seq 100000; echo to stderr >&2")
    server.join(timeout=60)
    assert not server.is_alive
    lines = server.log().splitlines()
    assert lines[-2:] == ["100000", "to stderr"]
    assert len(lines) == LOG_LINES


def test_a_log_file_takes_everything_and_only_the_new_lines_are_told(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an earlier server\n")
    with (tmp_path / "log").open("ab") as logfile:
        server = shell("echo out; echo err >&2", logfile)
        server.join(timeout=60)
    assert (tmp_path / "log").read_text() == "an earlier server\nout\nerr\n"
    assert server.log() == "out\nerr\n"


@pytest.mark.usefixtures("no_leaks")
def test_what_cannot_be_started_raises_at_once() -> None:
    with pytest.raises(FileNotFoundError):
        ServerProcess(["/absent"], account=Account.calling(), directory=Path("/"), logfile=None)


@pytest.mark.parametrize("setpriv", ["/usr/bin/setpriv", None])
def test_a_server_goes_on_only_under_the_parent_that_started_it(setpriv: str | None) -> None:
    if setpriv and not Path(setpriv).exists():
        pytest.skip("setpriv is not installed here")
    command = stopping_with_parent(["/bin/echo", "went on"], Account.calling(), setpriv=setpriv)
    ours = subprocess.run(command, capture_output=True, text=True, check=False)
    orphaned = [word if word != str(os.getpid()) else "1" for word in command]
    theirs = subprocess.run(orphaned, capture_output=True, text=True, check=False)
    assert (ours.stdout, theirs.stdout) == ("went on\n", "")


@pytest.mark.parametrize("setpriv", ["/usr/bin/setpriv", None])
def test_a_server_gets_the_signal_when_its_parent_is_killed(setpriv: str | None) -> None:
    if setpriv and not Path(setpriv).exists():
        pytest.skip("setpriv is not installed here")
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from copyd.cluster.account import Account\n"
        "from copyd.cluster.launcher import ServerProcess, stopping_with_parent\n"
        "setpriv = sys.argv[1] or None\n"
        "lines = 'trap \"echo interrupted; kill \\$!; exit\" INT; sleep 600 & echo up; wait'\n"
        "command = stopping_with_parent(['/bin/sh', '-c', lines], Account.calling(), setpriv=setpriv)\n"
        "ServerProcess(command, account=Account.calling(), directory=Path('/'), logfile=sys.stdout)\n"
        "sys.stdin.readline(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    arguments = [sys.executable, "-c", script, setpriv or ""]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        said, _ = parent.communicate("now\n", timeout=60)
    assert said == "interrupted\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another account")
def test_without_any_program_to_ask_with_the_error_says_what_to_install() -> None:
    nobody_can_run_nothing = Account("nobody", 65534, 65534, "/")
    closed = Path(sys.executable)
    if nobody_can_run_nothing.can_run(closed):
        pytest.skip("here every account can run this Python")
    with pytest.raises(FileNotFoundError, match="needs setpriv"):
        stopping_with_parent(["postgres"], nobody_can_run_nothing, setpriv=None)
