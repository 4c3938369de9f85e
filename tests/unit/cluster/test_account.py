"""Which account a program runs as, and what of the caller's reaches it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from copyd.cluster import ClusterError
from copyd.cluster.account import Account

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
as_user = pytest.mark.skipif(IS_ROOT, reason="needs an ordinary user")


def test_a_server_never_runs_as_root() -> None:
    assert Account.for_servers().uid != 0


@as_user
def test_an_ordinary_users_server_runs_as_that_user() -> None:
    account = Account.for_servers()
    assert account.uid == os.geteuid()
    assert not account.is_other
    assert Account.for_servers(account.name) == account


@as_user
def test_an_ordinary_user_cannot_run_a_server_as_another() -> None:
    with pytest.raises(ClusterError, match="only root can run a server as root"):
        Account.for_servers("root")


@as_root
def test_a_root_process_runs_a_server_as_whom_it_names() -> None:
    assert Account.for_servers("nobody").name == "nobody"


@as_root
def test_root_itself_is_refused() -> None:
    with pytest.raises(ClusterError, match="PostgreSQL refuses to run as root"):
        Account.for_servers("root")


@as_root
def test_an_account_that_does_not_exist_is_refused_and_not_added() -> None:
    with pytest.raises(ClusterError, match="no account named copyd-no-such-account"):
        Account.for_servers("copyd-no-such-account")


def test_a_program_runs_as_the_account() -> None:
    account = Account.for_servers()
    assert account.run(["/usr/bin/id", "-un"]).stdout.strip() == account.name


def test_nothing_of_the_callers_environment_reaches_a_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    names = {
        line.split("=")[0] for line in Account.for_servers().run(["/usr/bin/env"]).stdout.split()
    }
    assert names == {"HOME", "LC_ALL", "LOGNAME", "PATH", "USER"}


def test_a_program_that_takes_too_long_ends_with_its_children() -> None:
    script = "sleep 600 & echo $!; wait"
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        Account.for_servers().run(["/bin/sh", "-c", script], timeout=0.2)
    child = int(caught.value.output)
    # The pipes are let go of when a process ends, just before its entry is gone.
    assert not Path(f"/proc/{child}/exe").exists()


def test_what_the_account_can_run_is_found_out_by_running_it(tmp_path: Path) -> None:
    account = Account.for_servers()
    assert account.can_run(Path("/usr/bin/env"))
    assert not account.can_run(tmp_path / "absent")
    assert not account.can_run(Path("/bin/false"))


def test_what_the_account_can_enter_is_found_out_by_entering_it() -> None:
    account = Account.for_servers()
    assert account.can_enter(Path("/tmp"))  # noqa: S108 (nothing is made there)
    assert not account.can_enter(Path("/absent"))


@as_root
def test_a_folder_that_is_closed_to_the_account_cannot_be_entered(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert not Account.for_servers().can_enter(closed)


def test_the_calling_account_can_run_its_own_interpreter() -> None:
    assert Account.calling().can_run(Path(sys.executable))
