"""Clusters made, started, watched, adopted, released and stopped, with real servers."""

from __future__ import annotations

import os
import signal
import stat
from typing import TYPE_CHECKING

import psycopg
import pytest

from copyd.cluster import Installation, State
from copyd.events import (
    ClusterConfigured,
    ClusterDown,
    ClusterReleased,
    ClusterRestarted,
    ClusterStopped,
    ClusterUp,
)
from tests.support.keepers import TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.keepers import Home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_cluster_is_made_and_started(home: Home) -> None:
    home.bring_up(a=home.section())
    assert home.ask("SELECT 1") == 1
    assert [type(event) for event in home.told.events] == [ClusterConfigured, ClusterUp]
    assert home.told.events[-1] == ClusterUp("a", is_adopted=False)
    status = home.status()
    assert (status.state, status.is_up, status.restarts) == ("up", True, 0)


def test_a_made_cluster_lets_nobody_in_without_the_generated_password(home: Home) -> None:
    home.bring_up(a=home.section())
    conninfo = home.conninfo()
    assert "password" not in conninfo
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(conninfo, passfile="/dev/null")
    files = home.folders.files_of(home.path / "a")
    assert mode(files.passfile) == mode(files.record) == mode(files.log) == 0o600
    assert home.ask("SHOW password_encryption") == "scram-sha-256"


def test_the_socket_is_in_a_folder_that_others_cannot_enter(home: Home) -> None:
    home.bring_up(a=home.section())
    sockets = home.folders.runtime / "clusters" / "a"
    assert psycopg.conninfo.conninfo_to_dict(home.conninfo())["host"] == str(sockets)
    assert mode(sockets) == 0o700


def test_a_password_that_is_given_is_the_superusers(home: Home) -> None:
    given = home.path / "password"
    given.write_text("a:b\\c d\n")
    given.chmod(0o600)
    home.bring_up(a=home.section(password_file=str(given)))
    assert home.ask("SELECT 1") == 1
    with psycopg.connect(home.conninfo(), passfile="/dev/null", password="a:b\\c d") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_volume_that_is_not_mounted_is_not_a_new_cluster(home: Home) -> None:
    home.bring_up(a=home.section())
    home.keepers.stop_all(TIMEOUT)
    (home.path / "a").rename(home.path / "elsewhere")
    (home.path / "a").mkdir()
    later = home.again()
    later.apply(a=later.section())
    told = later.told.wait_for(ClusterDown)
    assert "is empty, but held a cluster before: mount its volume" in told.cause
    assert told.retry_in is None
    (home.path / "a").rmdir()
    later.told.wait_for(ClusterDown, 2)
    (home.path / "elsewhere").rename(home.path / "a")  # mounted: nobody needs to say so
    later.wait_up()
    later.keepers.stop_all(TIMEOUT)


def test_nothing_is_made_unless_that_is_asked_for(home: Home) -> None:
    home.apply(a=home.section(init=False))
    assert "set init = true" in home.told.wait_for(ClusterDown).cause
    assert home.status().state == "refused"
    home.bring_up(a=home.section())


def test_a_folder_with_something_else_in_it_is_left_alone(home: Home) -> None:
    (home.path / "a").mkdir()
    (home.path / "a" / "letters").write_text("dear")
    home.apply(a=home.section())
    assert "is not a data directory and not empty" in home.told.wait_for(ClusterDown).cause
    assert (home.path / "a" / "letters").read_text() == "dear"


def test_a_server_that_crashed_is_started_again(home: Home) -> None:
    home.bring_up(a=home.section())
    home.cluster().kill()
    down = home.told.wait_for(ClusterDown)
    assert "SIGKILL" in down.cause
    assert down.retry_in is not None
    home.told.wait_for(ClusterUp, 2)
    kinds = [type(event) for event in home.told.events]
    assert kinds[-4:] == [ClusterUp, ClusterDown, ClusterRestarted, ClusterUp]
    assert home.status().restarts == 1
    assert home.ask("SELECT 1") == 1


def test_a_server_that_cannot_start_is_called_looping_and_then_tried_at_once_if_told_so(
    home: Home,
) -> None:
    home.bring_up(a=home.section())
    home.keepers.stop_all(TIMEOUT)
    settings = home.path / "a" / "postgresql.conf"
    healthy = settings.read_text()
    settings.write_text(f"{healthy}\nno_such_setting = 1\n")
    later = home.again()
    later.apply(a=later.section())
    later.told.wait_for(ClusterDown, 4)
    status = later.wait_for_state("looping")
    assert "no_such_setting" in (status.last_error or "") or "contains errors" in (
        status.last_error or ""
    )
    assert "\n" not in (status.last_error or "")
    assert later.told.of(ClusterDown)[-1].retry_in == pytest.approx(450, abs=151)
    settings.write_text(healthy)
    later.bring_up(a=later.section(on_exit="stop"))  # another configuration: no more pause
    later.keepers.stop_all(TIMEOUT)


def test_a_server_that_somebody_else_started_is_adopted_and_left(home: Home) -> None:
    foreign, later = home.started_by_hand()
    later.bring_up(a=later.section())
    assert later.told.events == [ClusterUp("a", is_adopted=True)]
    assert later.status().is_adopted
    assert later.keepers.stop_all(TIMEOUT) == ()
    assert foreign.state() is State.READY


def test_an_adopted_server_that_stops_is_not_started_again(home: Home) -> None:
    foreign, later = home.started_by_hand()
    later.bring_up(a=later.section())
    foreign.shutdown()
    down = later.told.wait_for(ClusterDown)
    later.wait_for_state("down")
    assert later.told.of(ClusterDown)[-1].retry_in is None
    assert down.retry_in is None
    assert "copyd did not start it" in later.told.of(ClusterDown)[-1].cause
    later.bring_up(a=later.section(on_exit="stop"))
    assert later.keepers.stop_all(TIMEOUT) == ()
    assert foreign.state() is State.STOPPED


def test_an_adopted_server_is_stopped_where_that_is_written_out(home: Home) -> None:
    foreign, later = home.started_by_hand()
    later.bring_up(a=later.section(on_exit="stop"))
    later.keepers.stop_all(TIMEOUT)
    assert foreign.state() is State.STOPPED


def test_a_server_can_be_left_running_at_the_end_and_is_known_again(home: Home) -> None:
    home.bring_up(a=home.section(on_exit="leave"))
    home.keepers.stop_all(TIMEOUT)
    assert home.cluster().state() is State.READY
    later = home.again()
    later.bring_up(a=later.section())
    assert later.told.events == [ClusterUp("a", is_adopted=False)]
    later.keepers.stop_all(TIMEOUT)
    assert home.cluster().state() is State.STOPPED


def test_a_cluster_that_is_released_goes_on_running(home: Home) -> None:
    home.bring_up(a=home.section())
    home.apply()
    home.told.wait_for(ClusterReleased)
    assert home.keepers.status() == ()
    assert not home.keepers.is_up("a")
    home.keepers.stop_all(TIMEOUT)
    assert home.cluster().state() is State.READY
    later = home.again()
    later.bring_up(b=home.section())  # the same folder by another name: still its own
    assert later.told.of(ClusterUp)[-1] == ClusterUp("b", is_adopted=False)
    later.keepers.stop_all(TIMEOUT)


def test_clusters_are_stopped_in_the_opposite_order(home: Home) -> None:
    home.bring_up(a=home.section("a"), b=home.section("b"))
    assert home.keepers.stop_all(TIMEOUT) == ()
    stopped = [event.cluster for event in home.told.of(ClusterStopped)]
    assert stopped == ["b", "a"]
    assert home.told.of(ClusterDown) == []


def test_a_cluster_that_is_refused_hurts_no_other(home: Home) -> None:
    (home.path / "bad").write_text("no folder")
    home.apply(bad=home.section("bad"), good=home.section("good"))
    home.wait_up("good")
    assert home.wait_for_state("refused", "bad").last_error is not None


def test_a_server_that_does_not_answer_is_not_up_until_it_does(home: Home) -> None:
    home.bring_up(a=home.section())
    pid = home.cluster().pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        assert "does not answer" in home.told.wait_for(ClusterDown).cause
        assert home.status().state == "silent"
    finally:
        os.kill(pid, signal.SIGCONT)
    home.told.wait_for(ClusterUp, 2)
    assert home.told.of(ClusterRestarted) == []


def test_another_version_than_the_data_directorys_is_refused_in_a_sentence(home: Home) -> None:
    home.bring_up(a=home.section())
    home.keepers.stop_all(TIMEOUT)
    later = home.again()
    later.apply(a=later.section(version=13, pg_config=None))
    cause = later.told.wait_for(ClusterDown).cause
    major = home.installation.version_info.major
    assert f"is of PostgreSQL {major}, but the configuration says 13" in cause
    later.keepers.stop_all(TIMEOUT)


def test_a_version_that_is_not_installed_is_named(home: Home) -> None:
    home.apply(a=home.section(version=99, pg_config=None))
    assert "PostgreSQL 99, for" in home.told.wait_for(ClusterDown).cause


def test_the_pg_config_of_another_version_is_refused_in_a_sentence(home: Home) -> None:
    major = home.installation.version_info.major
    others = [each for each in Installation.find_all() if each.version_info.major != major]
    if not others:
        pytest.skip("needs PostgreSQL of another major version")
    home.bring_up(a=home.section())
    home.keepers.stop_all(TIMEOUT)
    later = home.again()
    later.apply(a=later.section(pg_config=others[0].paths["pg_config"]))
    cause = later.told.wait_for(ClusterDown).cause
    assert f"is of PostgreSQL {major}, but" in cause
    assert f"set pg_config to that of {major}" in cause
    later.keepers.stop_all(TIMEOUT)


def test_an_account_that_does_not_exist_is_named(home: Home) -> None:
    home.apply(a=home.section(run_as="nobody_of_that_name"))
    assert "nobody_of_that_name" in home.told.wait_for(ClusterDown).cause


def test_a_data_directory_that_moves_is_another_cluster(home: Home) -> None:
    home.bring_up(a=home.section("a"))
    home.apply(a=home.section("b"))
    home.told.wait_for(ClusterReleased)
    home.wait_up()
    assert home.ask("SHOW data_directory") == str(home.path / "b")
    assert home.cluster("a").state() is State.READY
