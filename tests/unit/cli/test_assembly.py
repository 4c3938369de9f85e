"""From a configuration to a transfer, without a server."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import click
import pytest
from psycopg.conninfo import conninfo_to_dict

from copyd.cli.assembly import build, build_server, open_config
from copyd.cluster import ClusterNotRunningError
from copyd.config import Config, ConfigError, load
from copyd.errors import CopydError
from copyd.transfers.server import Server
from copyd.transfers.transfer import (
    Loading,
    Query,
    Reintroduce,
    RejectPolicy,
    Replica,
    TableOptions,
    Tables,
    Transfer,
)

if TYPE_CHECKING:
    from pathlib import Path

SERVERS = '[servers.a]\nconninfo = "host=a"\n[servers.b]\nconninfo = "host=b"\n'
HEAD = f'{SERVERS}[transfers.t]\nsource = "a"\ndestinations = ["b"]\n'


def loaded(folder: Path, text: str) -> Config:
    file = folder / "config.toml"
    file.write_text(text)
    return load(file, environ={}, is_root=True)


def test_a_file_is_opened_for_the_account_and_the_environment_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    file = tmp_path / "config.toml"
    file.write_text("")
    expected = "/var/lib/copyd" if os.geteuid() == 0 else "/state/copyd"
    assert str(open_config(file).daemon.state_directory) == expected


def test_what_is_not_said_is_as_a_transfers_own_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, f'{HEAD}tables = ["s.x", "w.*"]\n')
    assert build(config, "t") == Transfer(
        name="t",
        source=Server("a", "host=a"),
        replicas=(Replica(Server("b", "host=b"), Loading(tables={})),),
        what=Tables(("s.x", "w.*"), {}),
        rejects=RejectPolicy(directory=config.daemon.state_directory / "rejects"),
    )


def test_everything_that_is_said_arrives(tmp_path: Path) -> None:
    text = """
    tables = ["s.x", 'S."Y"']
    mode = "merge"
    cursor = '"Updated At"'
    overlap = "1h"
    full_every = "12h"
    key = ["Id"]
    delete_missing = true
    max_shrink = 0.5
    every = "5m"
    deadline = "1m"
    prepare_timeout = "2s"
    stall_timeout = "3s"
    answer_timeout = "4s"
    max_wait = "0s"
    lock_timeout = "6s"
    reintroduce = { attempts = 7, backoff = "8ms", max_backoff = "9s" }
    minimum_destinations = 1
    triggers = "skip"
    before = ["b"]
    after = ["a"]
    after_commit = ["c"]
    analyze = false
    format = "binary"
    ledger_schema = "Mine"
    [transfers.t.table.'S.X']
    columns = ["Id", '"V"']
    where = "v > 0"
    cursor = "u"
    key = ["id"]
    """
    built = build(loaded(tmp_path, HEAD + text), "t")
    loading = Loading(
        mode="merge",
        triggers="skip",
        before=("b",),
        after=("a",),
        after_commit=("c",),
        analyze=False,
    )
    options = TableOptions(columns=("id", "V"), where="v > 0", cursor="u", key=("id",))
    assert built == Transfer(
        name="t",
        source=Server("a", "host=a"),
        replicas=(Replica(Server("b", "host=b"), loading),),
        what=Tables(("s.x", 'S."Y"'), {"s.x": options}),
        key=("id",),
        cursor="Updated At",
        overlap=timedelta(hours=1),
        full_every=43_200.0,
        delete_missing=True,
        max_shrink=0.5,
        deadline=60.0,
        prepare_timeout=2.0,
        stall_timeout=3.0,
        answer_timeout=4.0,
        max_wait=0.0,
        lock_timeout=6.0,
        reintroduce=Reintroduce(attempts=7, backoff=0.008, max_backoff=9.0),
        format="binary",
        ledger="mine",
        rejects=built.rejects,
    )


def test_how_rows_are_rejected_arrives(tmp_path: Path) -> None:
    text = """
    tables = ["s.x"]
    on_error = "resume_next"
    batch_rows = 7
    batch_size = "8kB"
    max_rejects = 9
    max_reject_ratio = 0.5
    reject_directory = "bad"
    keep_rejects = "2d"
    [daemon]
    state_directory = "state"
    """
    built = build(loaded(tmp_path, HEAD + text), "t")
    assert built.on_error == "resume_next"
    assert built.rejects == RejectPolicy(
        directory=tmp_path / "state/bad",
        batch_rows=7,
        batch_size=8192,
        max_rejects=9,
        max_reject_ratio=0.5,
        keep=172_800.0,
    )


def test_the_defaults_of_rejecting_rows_are_the_same(tmp_path: Path) -> None:
    config = loaded(tmp_path, f'{HEAD}tables = ["s.x"]\non_error = "resume_next"\n')
    assert build(config, "t").rejects == RejectPolicy(
        directory=config.daemon.state_directory / "rejects"
    )


def test_a_destination_has_its_own_way_and_the_transfers_where_it_says_nothing(
    tmp_path: Path,
) -> None:
    text = """
    tables = ["s.x"]
    replace_with = "truncate"
    before = ["b"]
    after = ["a"]
    after_commit = ["c"]
    [servers.c]
    conninfo = "host=c"
    [transfers.t.destination.b]
    tables = { 'S.X' = 'S."There"' }
    mode = "merge"
    triggers = "skip"
    before = []
    after = ["own"]
    analyze = false
    adopt = true
    physical_clone = true
    """
    config = loaded(tmp_path, HEAD.replace('["b"]', '["b", "c"]') + text)
    assert [replica.loading for replica in build(config, "t").replicas] == [
        Loading(
            mode="merge",
            replace_with="truncate",
            triggers="skip",
            before=(),
            after=("own",),
            after_commit=("c",),
            analyze=False,
            adopt=True,
            physical_clone=True,
            tables={"s.x": 's."There"'},
        ),
        Loading(replace_with="truncate", before=("b",), after=("a",), after_commit=("c",)),
    ]


def test_a_query_loses_the_semicolon_that_it_may_end_with(tmp_path: Path) -> None:
    config = loaded(tmp_path, f'{HEAD}query = " SELECT 1; "\ninto = "S.Q"\n')
    assert build(config, "t").what == Query("SELECT 1", "s.q")


def test_an_unknown_transfer_is_wrong_usage(tmp_path: Path) -> None:
    config = loaded(
        tmp_path, f'{HEAD}tables = ["s.x"]\n'.replace("transfers.t", "transfers.orders")
    )
    with pytest.raises(click.UsageError, match=r'no transfer ordrs .*"orders"\?'):
        build(config, "ordrs")


@pytest.mark.parametrize("line", ["hush", "hush\n", "hush\r\n", "hush\nsecond\n"])
def test_a_password_is_the_first_line_of_its_file(tmp_path: Path, line: str) -> None:
    (tmp_path / "pw").write_bytes(line.encode())
    (tmp_path / "pw").chmod(0o600)
    config = loaded(tmp_path, '[servers.a]\nconninfo = "postgresql://a/x"\npassword_file = "pw"\n')
    given = conninfo_to_dict(build_server(config, "a").conninfo)
    assert given == {"host": "a", "dbname": "x", "password": "hush"}


def test_a_passfile_is_libpqs(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[servers.a]\nconninfo = "host=a"\npassfile = "pg pass"\n')
    given = conninfo_to_dict(build_server(config, "a").conninfo)
    assert given == {"host": "a", "passfile": str(tmp_path / "pg pass")}


@pytest.mark.parametrize(
    ("content", "mode", "got"),
    [
        (None, 0, "one that cannot be read: No such file or directory"),
        (b"hush\n", 0o644, "one with mode 644, open to other users: chmod 600 it"),
        (b"hush\n", 0o602, "one with mode 602, open to other users: chmod 600 it"),
        (b"\nhush\n", 0o600, "one whose first line is empty or contains a NUL"),
        (b"", 0o600, "one whose first line is empty or contains a NUL"),
        (b"hu\0sh\n", 0o600, "one whose first line is empty or contains a NUL"),
        (b"hush\xff\n", 0o600, "one whose first line is not UTF-8"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_bad_configuration(
    tmp_path: Path, content: bytes | None, mode: int, got: str
) -> None:
    file = tmp_path / "pw"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    config = loaded(tmp_path, '[servers.a]\nconninfo = "host=a"\npassword_file = "pw"\n')
    with pytest.raises(ConfigError) as caught:
        build_server(config, "a")
    assert str(caught.value) == (
        f"{file}: servers.a.password_file: expected a file whose first line is the password, "
        f"got {got}"
    )
    assert "hush" not in str(caught.value)


def test_a_cluster_that_does_not_run_has_no_address(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        '[clusters.k]\ndata_directory = "k"\n[servers.a]\ncluster = "k"\ndbname = "x"\n',
    )
    with pytest.raises(ClusterNotRunningError, match=f"no server listens in {tmp_path / 'k'}"):
        build_server(config, "a")


def test_a_destination_that_cannot_be_made_is_one_with_a_problem(tmp_path: Path) -> None:
    text = HEAD.replace('"host=b"', '"host=b"\npassword_file = "none"')
    config = loaded(tmp_path, f'{text}tables = ["s.x"]\n')
    (replica,) = build(config, "t").replicas
    with pytest.raises(
        CopydError, match=r"cannot connect to b: .*password_file: expected"
    ) as caught:
        replica.server.connect()
    assert caught.value.__cause__ is None


def test_a_source_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    text = HEAD.replace('"host=a"', '"host=a"\npassword_file = "none"')
    with pytest.raises(ConfigError, match="password_file"):
        build(loaded(tmp_path, f'{text}tables = ["s.x"]\n'), "t")


def test_a_destination_that_is_left_out_is_not_made(tmp_path: Path) -> None:
    text = HEAD.replace('["b"]', '["b", "c"]') + 'tables = ["s.x"]\nminimum_destinations = 2\n'
    config = loaded(tmp_path, f'[servers.c]\nconninfo = "host=c"\npassword_file = "none"\n{text}')
    built = build(config, "t", ["b"])
    assert [replica.server for replica in built.replicas] == [Server("b", "host=b")]
    assert built.minimum_destinations == 1
    with pytest.raises(click.UsageError, match="transfer t has no destination d: it has b, c"):
        build(config, "t", ["d"])
