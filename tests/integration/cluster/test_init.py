"""Making and removing data directories."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from copyd.cluster import (
    Cluster,
    ClusterError,
    ClusterInitializationError,
    ClusterTimeoutError,
    InitDBError,
    Installation,
    State,
)
from copyd.cluster.account import Account
from tests.support.servers import free_port

PASSWORD = 'it\'s a "secret" \\ ü'


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def void(installation: Installation, folder: Path) -> Cluster:
    return Cluster(installation, folder / "data")


def test_an_empty_path_becomes_a_cluster(void: Cluster) -> None:
    assert (void.initialized(), void.state()) == (False, State.VOID)
    void.init(encoding="UTF8", user="pg")
    assert (void.initialized(), void.state()) == (True, State.STOPPED)
    with void, psycopg.connect(void.conninfo()) as connection:
        query = "SELECT current_user, current_setting('server_encoding')"
        assert connection.execute(query).fetchone() == ("pg", "UTF8")


def test_the_data_directory_belongs_to_the_servers_account_alone(void: Cluster) -> None:
    void.init()
    found = void.data_directory.stat()
    assert found.st_uid == void.account.uid
    assert stat.S_IMODE(found.st_mode) == 0o700


def test_folders_above_are_made(installation: Installation, folder: Path) -> None:
    cluster = Cluster(installation, folder / "a" / "b" / "data")
    (folder / "a").mkdir(mode=0o755)
    (folder / "a" / "b").mkdir(mode=0o755)
    cluster.init()
    assert cluster.initialized()


def test_an_empty_directory_is_used_whatever_its_mode(void: Cluster) -> None:
    void.data_directory.mkdir(mode=0o755)
    void.init()
    assert stat.S_IMODE(void.data_directory.stat().st_mode) == 0o700


def test_without_a_password_only_our_accounts_get_in_and_tcp_is_closed(void: Cluster) -> None:
    void.init()
    port = free_port()
    with void:
        assert void.settings["listen_addresses"] == ""
    void.settings.update(listen_addresses="127.0.0.1", port=port)
    with void, pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(f"host=127.0.0.1 port={port} dbname=postgres user={void.account.name}")


def test_both_the_caller_and_the_servers_account_are_the_superuser(void: Cluster) -> None:
    void.init(user="odd name")
    psql = void.installation.paths["psql"]
    if psql is None:
        pytest.skip("this installation has no psql")
    with void:
        with psycopg.connect(void.conninfo()) as connection:
            assert connection.execute("SHOW is_superuser").fetchone() == ("on",)
            assert connection.execute("SELECT current_user").fetchone() == ("odd name",)
        done = void.account.run([psql, void.conninfo(), "-Atc", "SELECT current_user"])
        assert done.stdout.strip() == "odd name", done.stderr


def test_with_a_password_everybody_needs_it(void: Cluster) -> None:
    void.init(user="pg", password=PASSWORD, auth="scram-sha-256")
    void.settings.update(listen_addresses="127.0.0.1", port=free_port())
    with void:
        over_tcp = make_conninfo(void.conninfo(), host="127.0.0.1")
        for conninfo in (void.conninfo(), over_tcp):
            with psycopg.connect(conninfo, password=PASSWORD) as connection:
                assert connection.execute("SELECT current_user").fetchone() == ("pg",)
            with pytest.raises(psycopg.OperationalError, match="no password supplied"):
                psycopg.connect(conninfo, passfile="/dev/null")


def test_the_file_of_a_password_is_private_and_gone_afterwards(folder: Path) -> None:
    seen = folder / "seen"
    bindir = folder / "bin"
    bindir.mkdir()
    script = 'for last; do :; done; stat -c \'%a %U\' "${last#--pwfile=}"; echo "$last"; exit 9'
    for name in ("initdb", "postgres"):
        (bindir / name).write_text(f"#!/bin/sh\ntest $1 = --version && exit 0\n{script}\n")
        (bindir / name).chmod(0o755)
    cluster = Cluster(Installation({"version": "18", "bindir": str(bindir)}), seen)
    with pytest.raises(InitDBError) as caught:
        cluster.init(password=PASSWORD)
    shown, option = caught.value.stdout.splitlines()
    assert shown == f"600 {cluster.account.name}"
    assert not Path(option.removeprefix("--pwfile=")).exists()


def test_a_password_alone_means_scram(void: Cluster) -> None:
    void.init(password=PASSWORD)
    rules = [line.split()[-1] for line in void.hba_file.read_text().splitlines() if line[:1] > "#"]
    assert set(rules) == {"scram-sha-256"}


def test_a_password_is_shown_nowhere(void: Cluster) -> None:
    with pytest.raises(InitDBError) as caught:
        void.init(password=PASSWORD, encoding="no-such-encoding")
    shown = f"{caught.value!r} {caught.value} {caught.value.details} {void!r} {vars(void)}"
    assert PASSWORD not in shown


def test_a_password_with_a_line_break_is_refused(void: Cluster) -> None:
    with pytest.raises(ValueError, match="line break"):
        void.init(password="one\ntwo")
    assert not void.data_directory.exists()


def test_trust_is_there_for_the_asking(void: Cluster) -> None:
    void.init(user="pg", auth="trust")
    with void, psycopg.connect(void.conninfo(user="pg")) as connection:
        connection.execute("CREATE ROLE somebody LOGIN")
        connection.commit()
        psycopg.connect(void.conninfo(user="somebody")).close()


def test_initdbs_other_options_are_there_too(void: Cluster) -> None:
    void.init(options=["--data-checksums", "--wal-segsize=1"])
    with void, psycopg.connect(void.conninfo()) as connection:
        assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
        assert connection.execute("SHOW wal_segment_size").fetchone() == ("1MB",)


def test_an_unknown_keyword_makes_nothing(void: Cluster) -> None:
    with pytest.raises(TypeError):
        void.init(bogus=1)  # type: ignore[call-arg]
    assert not void.data_directory.exists()


def test_what_initdb_refuses_is_told_in_its_own_words_and_leaves_nothing(void: Cluster) -> None:
    with pytest.raises(InitDBError, match="no-such-encoding") as caught:
        void.init(encoding="no-such-encoding")
    assert "no-such-encoding" in caught.value.details
    assert "files belonging to this database system" in caught.value.stdout
    assert caught.value.exit_code == 1
    assert not void.data_directory.exists()


def test_a_directory_with_something_in_it_is_left_alone(void: Cluster) -> None:
    void.data_directory.mkdir(mode=0o755)
    (void.data_directory / "precious").touch()
    with pytest.raises(InitDBError, match=r"not empty|could not"):
        void.init()
    assert names(void.data_directory) == ["precious"]


def test_a_second_init_leaves_the_first_alone(cluster: Cluster) -> None:
    with pytest.raises(InitDBError, match="exists but is not empty"):
        cluster.init()
    assert cluster.initialized()


def test_an_init_that_takes_too_long_leaves_nothing(void: Cluster) -> None:
    with pytest.raises(ClusterTimeoutError, match=r"did not finish .* within 0\.05 s"):
        void.init(timeout=0.05)
    assert not void.data_directory.exists()
    void.init()
    assert void.initialized()


def test_an_init_that_failed_leaves_an_empty_directory_empty(void: Cluster) -> None:
    void.data_directory.mkdir()
    with pytest.raises(InitDBError):
        void.init(encoding="no-such-encoding")
    assert names(void.data_directory) == []


def test_an_installation_without_initdb_says_so(folder: Path) -> None:
    cluster = Cluster(Installation({"version": "18"}), folder / "data")
    with pytest.raises(ClusterInitializationError, match="has no initdb"):
        cluster.init()


def test_a_folder_above_that_the_account_cannot_pass_is_named(
    installation: Installation, folder: Path
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    if not Account.for_servers().is_other:
        closed.chmod(0o600)
    cluster = Cluster(installation, closed / "data")
    with pytest.raises(ClusterInitializationError, match=f"cannot enter {closed}"):
        cluster.init()
    assert names(folder) == ["closed"]
    closed.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another account")
def test_programs_that_the_account_cannot_read_are_copied_and_dropped_again(
    folder: Path,
) -> None:
    wheels = [found for found in Installation.find_all() if "site-packages" in repr(found)]
    if not wheels:
        pytest.skip("needs the demo extra's wheel")
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    installation = wheels[0].staged(closed / "wheel")
    cluster = Cluster(installation, folder / "data")
    cluster.init()
    with cluster, psycopg.connect(cluster.conninfo()) as connection:
        assert connection.info.server_version // 10000 == installation.version_info.major
    assert cluster.daemon_path.is_relative_to(folder / "data.installation")
    cluster.drop()
    assert names(folder) == ["closed"]


@pytest.mark.parametrize("index", range(4))
def test_every_installation_here_runs_a_cluster(index: int, folder: Path) -> None:
    found = Installation.find_all()
    if index >= len(found):
        pytest.skip("no more installations on this machine")
    cluster = Cluster(found[index], folder / "data")
    cluster.init(password=PASSWORD)
    with cluster, psycopg.connect(cluster.conninfo(), password=PASSWORD) as connection:
        assert connection.info.server_version // 10000 == found[index].version_info.major
        assert cluster.pending_restart(password=PASSWORD) == []
    cluster.drop()
    assert names(folder) == []


def test_dropping_removes_a_stopped_cluster(cluster: Cluster) -> None:
    cluster.drop()
    assert not cluster.data_directory.exists()


def test_dropping_stops_a_running_cluster_first(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_until_started()
    cluster.drop()
    assert not cluster.data_directory.exists()
    assert not cluster.socket_directory.exists()
    assert cluster.pid() is None


def test_dropping_what_is_not_there_is_no_error(void: Cluster) -> None:
    void.drop()


def test_what_is_no_data_directory_is_not_dropped(void: Cluster) -> None:
    void.data_directory.mkdir()
    (void.data_directory / "precious").touch()
    with pytest.raises(ClusterError, match="is not a data directory: not removed"):
        void.drop()
    assert names(void.data_directory) == ["precious"]


def test_an_hba_file_is_absolute(cluster: Cluster) -> None:
    default = cluster.data_directory / "pg_hba.conf"
    assert cluster.hba_file == default
    cluster.settings["hba_file"] = "/etc/elsewhere.conf"
    assert cluster.hba_file == Path("/etc/elsewhere.conf")


def test_a_relative_hba_file_is_where_the_server_looks_for_it(cluster: Cluster) -> None:
    moved = cluster.data_directory / "moved.conf"
    cluster.hba_file.rename(moved)
    cluster.settings["hba_file"] = "moved.conf"
    assert cluster.hba_file == moved
    with cluster, psycopg.connect(cluster.conninfo()) as connection:
        assert connection.execute("SHOW hba_file").fetchone() == (str(moved),)


def test_settings_of_a_void_cluster_name_the_missing_file(void: Cluster) -> None:
    with pytest.raises(FileNotFoundError, match=r"data/postgresql\.conf"):
        void.settings["port"]


def test_a_void_cluster_answers_every_question(void: Cluster) -> None:
    assert (void.pid(), void.running(), void.ready_for_connections()) == (None, False, None)
    assert void.daemon_process is None
