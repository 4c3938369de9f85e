"""Starting, stopping and asking a server, in all the ways that it can be reached."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
import trustme
from psycopg.conninfo import conninfo_to_dict

from copyd.cluster import (
    Cluster,
    ClusterError,
    ClusterInitializationError,
    ClusterNotRunningError,
    ClusterStartupError,
    ClusterTimeoutError,
    State,
)
from copyd.cluster.lifecycle import Holder
from copyd.cluster.poll import wait_for
from copyd.cluster.postmaster import Postmaster
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def show(cluster: Cluster, name: str) -> str:
    with psycopg.connect(cluster.conninfo()) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
        assert row is not None
        return str(row[0])


@pytest.fixture
def running(cluster: Cluster) -> Cluster:
    cluster.start()
    cluster.wait_until_started()
    return cluster


def keep_from_getting_ready(cluster: Cluster) -> None:
    (cluster.data_directory / "standby.signal").touch()
    cluster.settings["hot_standby"] = False


def test_starting_returns_before_the_server_is_ready(cluster: Cluster) -> None:
    keep_from_getting_ready(cluster)
    cluster.start()
    assert cluster.running()
    assert cluster.state() is State.STARTING
    assert cluster.ready_for_connections() is False
    assert cluster.daemon_process is not None
    assert cluster.daemon_process.pid == cluster.pid()


def test_a_started_server_gets_ready(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_until_started()
    assert cluster.state() is State.READY
    assert cluster.daemon_process is not None
    assert cluster.daemon_process.pid == cluster.pid()


def test_starting_what_runs_changes_nothing(running: Cluster) -> None:
    pid = running.pid()
    running.start()
    assert running.pid() == pid


def test_what_is_no_data_directory_is_not_started(cluster: Cluster, folder: Path) -> None:
    void = Cluster(cluster.installation, folder / "void")
    with pytest.raises(ClusterInitializationError, match="is not a data directory"):
        void.start()


@pytest.mark.parametrize(
    "settings", [{"work_mem": "1MB", "a.b": "x y"}, [("work_mem", "1MB"), ("a.b", "x y")]]
)
def test_settings_of_a_start_win(
    cluster: Cluster, settings: dict[str, str] | list[tuple[str, str]]
) -> None:
    cluster.settings["work_mem"] = "2MB"
    cluster.start(settings=settings)
    cluster.wait_until_started()
    assert show(cluster, "work_mem") == "1MB"
    assert show(cluster, "a.b") == "x y"


def test_a_log_file_takes_what_the_server_writes(cluster: Cluster, folder: Path) -> None:
    with (folder / "log").open("w") as logfile:
        cluster.start(logfile=logfile)
    cluster.wait_until_started()
    assert "database system is ready to accept connections" in (folder / "log").read_text()


def test_without_a_log_file_a_server_that_talks_much_is_not_held_up(running: Cluster) -> None:
    with psycopg.connect(running.conninfo(), autocommit=True) as connection:
        connection.execute("SET log_min_messages = notice")
        connection.execute("SET client_min_messages = error")
        loud = "DO $$BEGIN FOR i IN 1..20000 LOOP RAISE NOTICE 'twenty thousand lines'; END LOOP; END$$"
        connection.execute(loud)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_waiting_for_what_was_never_started_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(ClusterNotRunningError, match="no server runs in"):
        cluster.wait_until_started()


def test_waiting_for_what_was_stopped_is_an_error(running: Cluster) -> None:
    running.shutdown()
    running.wait_until_stopped()
    with pytest.raises(ClusterNotRunningError, match="no server runs in"):
        running.wait_until_started()


@pytest.mark.parametrize("has_file", [True, False])
def test_a_server_that_dies_while_starting_tells_why(
    cluster: Cluster, folder: Path, has_file: bool
) -> None:
    cluster.settings["shared_preload_libraries"] = "no_such_library"
    with (folder / "log").open("w") as logfile:
        cluster.start(logfile=logfile if has_file else None)
        with pytest.raises(ClusterStartupError, match="no_such_library") as caught:
            cluster.wait_until_started()
    assert caught.value.exit_code == 1
    assert str(cluster.daemon_path) in caught.value.command
    assert "FATAL" in caught.value.log
    assert not cluster.socket_directory.exists()


def test_a_server_that_is_slow_to_get_ready_runs_out_of_time(cluster: Cluster) -> None:
    keep_from_getting_ready(cluster)
    cluster.start()
    assert wait_for(lambda: cluster.pid() is not None, timeout=10)
    began = time.monotonic()
    with pytest.raises(ClusterTimeoutError, match=r"after 0\.5 s: it is starting"):
        cluster.wait_until_started(timeout=0.5, delay=0.05)
    assert time.monotonic() - began < 0.5 + 1
    assert cluster.ready_for_connections() is False
    with pytest.raises(ClusterTimeoutError):
        cluster.wait_until_started(timeout=0)


def test_readiness_is_true_false_or_none(running: Cluster) -> None:
    assert running.ready_for_connections() is True
    with psycopg.connect(running.conninfo()):
        running.stop()
        assert wait_for(lambda: running.state() is State.STOPPING, timeout=10)
        assert running.ready_for_connections() is False
    running.wait_until_stopped()
    assert running.ready_for_connections() is None


@pytest.mark.parametrize("rule", ["local all all reject", "local all all scram-sha-256", ""])
def test_a_server_that_lets_nobody_in_is_ready_and_logs_no_error(
    cluster: Cluster, folder: Path, rule: str
) -> None:
    cluster.hba_file.write_text(f"{rule}\nhost all all 192.0.2.1/32 reject\n")
    with (folder / "log").open("w") as logfile:
        cluster.start(logfile=logfile)
    cluster.wait_until_started()
    for _ in range(5):
        assert cluster.ready_for_connections() is True
    log = (folder / "log").read_text()
    assert "FATAL" not in log
    assert "could not" not in log


@pytest.mark.parametrize("address", ["127.0.0.1", "*", "localhost"])
def test_a_server_without_a_socket_is_ready_over_tcp(cluster: Cluster, address: str) -> None:
    cluster.hba_file.write_text("host all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n")
    cluster.settings.update(unix_socket_directories="", listen_addresses=address, port=free_port())
    with cluster:
        assert cluster.ready_for_connections() is True
        assert show(cluster, "unix_socket_directories") == ""


def test_a_server_that_wants_certificates_is_ready_and_logs_no_error(
    cluster: Cluster, folder: Path
) -> None:
    if not cluster.installation.ssl:
        pytest.skip("this installation was built without TLS")
    give_certificate(cluster)
    cluster.hba_file.write_text("hostssl all all all cert\n")
    cluster.settings.update(
        ssl=True, unix_socket_directories="", listen_addresses="127.0.0.1", port=free_port()
    )
    with (folder / "log").open("w") as logfile:
        cluster.start(logfile=logfile)
    cluster.wait_until_started()
    assert cluster.ready_for_connections() is True
    log = (folder / "log").read_text()
    assert "FATAL" not in log
    assert "could not accept" not in log


def give_certificate(cluster: Cluster) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {
        "server.key": certificate.private_key_pem.bytes(),
        "server.crt": certificate.cert_chain_pems[0].bytes(),
        "root.crt": authority.cert_pem.bytes(),
    }
    for name, content in files.items():
        path = cluster.data_directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        cluster.account.own(path)
    cluster.settings["ssl_ca_file"] = "root.crt"


def test_a_connection_string_leads_to_the_server(running: Cluster) -> None:
    found = conninfo_to_dict(running.conninfo("template1", user="somebody"))
    assert found["host"] == str(running.socket_directory)
    assert (found["dbname"], found["user"]) == ("template1", "somebody")
    assert "password" not in found


def test_a_connection_string_needs_a_server(cluster: Cluster) -> None:
    with pytest.raises(ClusterNotRunningError, match="start it"):
        cluster.conninfo()


def test_a_socket_goes_where_the_caller_says(cluster: Cluster, folder: Path) -> None:
    sockets = folder / "sockets"
    sockets.mkdir()
    cluster.account.own(sockets)
    elsewhere = Cluster(cluster.installation, cluster.data_directory, socket_directory=sockets)
    with elsewhere:
        assert (sockets / ".s.PGSQL.5432").is_socket()
        assert show(elsewhere, "unix_socket_directories") == str(sockets)
    assert list(sockets.iterdir()) == []


def test_a_socket_goes_where_the_file_says(cluster: Cluster, folder: Path) -> None:
    cluster.account.own(folder)
    cluster.settings["unix_socket_directories"] = str(folder)
    with cluster:
        assert (folder / ".s.PGSQL.5432").is_socket()
        assert show(cluster, "work_mem") == "4MB"


def test_a_private_socket_is_closed_to_others_and_gone_afterwards(running: Cluster) -> None:
    found = running.socket_directory.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (running.account.uid, 0o700)
    running.shutdown()
    running.wait_until_stopped()
    assert not running.socket_directory.exists()


def test_a_socket_directory_that_is_too_long_is_refused_in_a_sentence(
    cluster: Cluster, folder: Path
) -> None:
    deep = folder / ("x" * 100)
    elsewhere = Cluster(cluster.installation, cluster.data_directory, socket_directory=deep)
    with pytest.raises(ClusterStartupError, match=r"is too long: .* 107 are allowed"):
        elsewhere.start()


def test_a_private_folder_that_is_open_to_others_is_refused(cluster: Cluster) -> None:
    cluster.socket_directory.mkdir()
    cluster.socket_directory.chmod(0o755)
    try:
        with pytest.raises(ClusterStartupError, match="is not a private folder of"):
            cluster.start()
    finally:
        cluster.socket_directory.rmdir()


def test_nothing_of_the_callers_environment_reaches_a_server(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/absent")
    with cluster, psycopg.connect(cluster.conninfo()) as connection:
        program = "COPY (SELECT '') TO PROGRAM 'env > environment.txt'"
        connection.execute(program)
    environment = (cluster.data_directory / "environment.txt").read_text()
    assert "NOTIFY_SOCKET" not in environment
    assert "PGPORT" not in environment


def test_a_reload_makes_a_changed_setting_hold(running: Cluster) -> None:
    running.settings["work_mem"] = "9MB"
    running.reload()
    assert wait_for(lambda: show(running, "work_mem") == "9MB", timeout=10)


def test_a_reload_right_after_a_start_does_no_harm(cluster: Cluster) -> None:
    cluster.start()
    cluster.reload()
    cluster.wait_until_started()


def test_settings_that_wait_for_a_restart_are_told(running: Cluster) -> None:
    assert running.pending_restart() == []
    running.settings.update(max_connections=21, work_mem="9MB")
    running.reload()
    assert wait_for(lambda: running.pending_restart() == ["max_connections"], timeout=10)
    running.restart()
    assert running.pending_restart() == []


@pytest.mark.parametrize("action", ["stop", "shutdown", "quit", "kill", "reload"])
def test_signalling_what_does_not_run_does_nothing(cluster: Cluster, action: str) -> None:
    getattr(cluster, action)()
    cluster.wait_until_stopped()
    assert cluster.state() is State.STOPPED


def test_a_shutdown_ends_the_clients(running: Cluster) -> None:
    with psycopg.connect(running.conninfo()) as connection:
        running.shutdown()
        running.wait_until_stopped()
        with pytest.raises(psycopg.OperationalError) as caught:
            connection.execute("SELECT 1")
        assert isinstance(caught.value, psycopg.errors.AdminShutdown)
    assert running.state() is State.STOPPED


def test_a_stop_waits_for_the_clients(running: Cluster) -> None:
    with psycopg.connect(running.conninfo()) as connection:
        running.stop()
        with pytest.raises(ClusterTimeoutError, match=r"still runs after 0\.3 s: it is stopping"):
            running.wait_until_stopped(timeout=0.3)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    running.wait_until_stopped()
    assert running.daemon_process is not None
    assert running.daemon_process.returncode == 0


def test_an_immediate_shutdown_leaves_the_recovery_to_the_next_start(running: Cluster) -> None:
    running.quit()
    running.wait_until_stopped()
    assert running.state() is State.STOPPED
    running.start()
    running.wait_until_started()


def test_a_killed_server_is_crashed_and_starts_again(running: Cluster) -> None:
    with psycopg.connect(running.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE TABLE survivors AS SELECT 1 AS n")
        connection.execute("CHECKPOINT")
        running.kill()
        running.wait_until_stopped()
        assert running.state() is State.CRASHED
        assert (running.pid(), running.ready_for_connections()) == (None, None)
    running.start()
    running.wait_until_started()
    with psycopg.connect(running.conninfo()) as connection:
        assert connection.execute("SELECT n FROM survivors").fetchone() == (1,)


def test_a_restart_gives_a_new_server(running: Cluster) -> None:
    before = running.pid()
    running.restart(settings={"work_mem": "3MB"})
    assert running.pid() not in (None, before)
    assert show(running, "work_mem") == "3MB"


def test_a_restart_waits_for_the_clients(running: Cluster) -> None:
    with (
        psycopg.connect(running.conninfo()),
        pytest.raises(ClusterTimeoutError, match="it is stopping"),
    ):
        running.restart(timeout=0.3)


def test_a_restart_of_what_does_not_run_is_a_start(cluster: Cluster) -> None:
    cluster.restart()
    assert cluster.state() is State.READY


def test_a_second_object_controls_the_same_server(running: Cluster) -> None:
    second = Cluster(running.installation, running.data_directory)
    assert second.pid() == running.pid()
    assert second.state() is State.READY
    assert second.daemon_process is None
    assert second.conninfo() == running.conninfo()
    second.start()
    assert second.daemon_process is None
    second.shutdown()
    second.wait_until_stopped()
    assert running.pid() is None


def test_a_data_directory_reached_by_a_link_is_the_same(running: Cluster, folder: Path) -> None:
    (folder / "link").symlink_to(running.data_directory)
    assert Cluster(running.installation, folder / "link").pid() == running.pid()


def test_a_server_that_pg_ctl_started_is_controlled_too(cluster: Cluster) -> None:
    pg_ctl = cluster.installation.paths["pg_ctl"]
    if pg_ctl is None:
        pytest.skip("this installation has no pg_ctl")
    log = cluster.data_directory / "log.txt"
    options = f"-k {cluster.data_directory}"
    command = [pg_ctl, "start", "-w", "-D", str(cluster.data_directory), "-l", str(log)]
    done = cluster.account.run([*command, "-o", options], timeout=30)
    assert done.returncode == 0, done.stderr
    assert cluster.ready_for_connections() is True
    cluster.shutdown()
    cluster.wait_until_stopped()
    assert cluster.state() is State.STOPPED


def test_inside_a_with_block_the_server_is_up_and_after_it_down(cluster: Cluster) -> None:
    with cluster as entered:
        assert entered is cluster
        assert cluster.ready_for_connections() is True
    assert cluster.state() is State.STOPPED


def test_an_exception_of_a_with_block_passes_through(cluster: Cluster) -> None:
    with pytest.raises(ZeroDivisionError), cluster:
        _ = 1 / 0
    assert cluster.state() is State.STOPPED


def test_a_with_block_that_cannot_be_entered_leaves_nothing_running(cluster: Cluster) -> None:
    cluster.settings["shared_preload_libraries"] = "no_such_library"
    with pytest.raises(ClusterStartupError), cluster:
        pytest.fail("must not get here")
    assert cluster.state() is State.STOPPED
    assert not cluster.socket_directory.exists()


def test_two_servers_on_one_port_the_second_says_so_within_a_second(
    copies: Callable[[str], Cluster],
) -> None:
    port = free_port()
    first, second = copies("first"), copies("second")
    for each in (first, second):
        each.settings.update(listen_addresses="127.0.0.1", port=port)
    with first:
        began = time.monotonic()
        second.start()
        with pytest.raises(ClusterStartupError, match=f"port {port} is taken by another server"):
            second.wait_until_started()
        assert time.monotonic() - began < 1
        assert second.ready_for_connections() is None
        assert first.ready_for_connections() is True


def test_an_answer_of_another_process_does_not_count(running: Cluster) -> None:
    found = Postmaster.observe(running.data_directory)
    assert found is not None
    assert found.answers() is True
    other = replace(found.pid_file, pid=os.getpid())
    assert Postmaster(other, Holder.SERVER).answers() is False


def test_a_standby_becomes_a_primary(running: Cluster, folder: Path) -> None:
    pg_basebackup = running.installation.paths["pg_basebackup"]
    if pg_basebackup is None:
        pytest.skip("this installation has no pg_basebackup")
    standby = Cluster(running.installation, folder / "standby")
    standby.data_directory.mkdir(mode=0o700)
    standby.account.own(standby.data_directory)
    where = ["-D", str(standby.data_directory), "-d", running.conninfo()]
    done = running.account.run([pg_basebackup, "-R", "-c", "fast", *where], timeout=60)
    assert done.returncode == 0, done.stderr
    with standby:
        assert show(standby, "transaction_read_only") == "on"
        standby.promote()
        assert wait_for(lambda: show(standby, "transaction_read_only") == "off", timeout=10)
        with pytest.raises(ClusterError, match="is not a standby"):
            standby.promote()


def test_what_does_not_run_is_not_promoted(cluster: Cluster) -> None:
    with pytest.raises(ClusterNotRunningError):
        cluster.promote()
