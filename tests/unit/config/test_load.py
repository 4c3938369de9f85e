"""Files, and the folders that are the default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from copyd.config import ConfigError, load

if TYPE_CHECKING:
    from tests.unit.config.conftest import Loaded


def refusal(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, environ={}, is_root=True)
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "absent.toml"
    assert refusal(file) == f"{file}: cannot be read: No such file or directory"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"# one\n# caf\xe9\n")
    assert refusal(file) == f"{file}: line 2 is not UTF-8"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[daemon]\nx = \n", "is not TOML: Invalid value (at line 2, column 5)"),
        ("[daemon]\n[daemon]\n", "is not TOML: Cannot declare ('daemon',) twice (at line 2"),
        (f"x = {'9' * 5000}", "is not TOML: "),
        (f"x = {'[' * 100_000}", "is nested too deeply"),
    ],
)
def test_what_is_not_toml_is_one_sentence_with_the_place(
    tmp_path: Path, text: str, reason: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    assert refusal(file).startswith(f"{file}: {reason}")
    assert "\n" not in refusal(file)


def test_an_empty_file_is_a_configuration_without_transfers(loaded: Loaded) -> None:
    config = loaded("")
    assert (config.servers, config.clusters, config.transfers) == ({}, {}, {})


def test_relative_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "config.toml").write_text(
        '[daemon]\nstate_directory = "state"\nruntime_directory = "/run/x"\n'
        '[servers.a]\nconninfo = ""\npassword_file = "../pw"\n'
        '[servers.b]\nconninfo = ""\npassfile = "pgpass"\n'
        '[clusters.c]\ndata_directory = "c"\npg_config = "bin/pg_config"\n'
    )
    monkeypatch.chdir(tmp_path)
    config = load(Path("sub/config.toml"), environ={}, is_root=True)
    folder = tmp_path / "sub"
    assert config.daemon.state_directory == folder / "state"
    assert config.daemon.runtime_directory == Path("/run/x")
    assert config.servers["a"].password_file == folder / ".." / "pw"
    assert config.servers["b"].passfile == folder / "pgpass"
    assert config.clusters["c"].data_directory == folder / "c"
    assert config.clusters["c"].pg_config == folder / "bin/pg_config"


@pytest.mark.parametrize(
    ("environ", "is_root", "state", "runtime"),
    [
        ({"HOME": "/root"}, True, "/var/lib/copyd", "/run/copyd"),
        (
            {"HOME": "/home/anna"},
            False,
            "/home/anna/.local/state/copyd",
            "/home/anna/.local/state/copyd/run",
        ),
        (
            {"HOME": "/home/anna", "XDG_STATE_HOME": "/state", "XDG_RUNTIME_DIR": "/run/user/7"},
            False,
            "/state/copyd",
            "/run/user/7/copyd",
        ),
        (
            {"HOME": "/home/anna", "XDG_STATE_HOME": "state", "XDG_RUNTIME_DIR": "run"},
            False,
            "/home/anna/.local/state/copyd",
            "/home/anna/.local/state/copyd/run",
        ),
    ],
)
def test_folders_are_the_systems_for_root_and_the_users_own_otherwise(
    tmp_path: Path, environ: dict[str, str], is_root: bool, state: str, runtime: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    daemon = load(file, environ=environ, is_root=is_root).daemon
    assert (str(daemon.state_directory), str(daemon.runtime_directory)) == (state, runtime)


def test_a_users_runtime_folder_is_below_the_state_folder_that_is_set(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[daemon]\nstate_directory = "/srv/copyd"\n')
    daemon = load(file, environ={}, is_root=False).daemon
    assert daemon.runtime_directory == Path("/srv/copyd/run")


def test_a_user_without_a_home_has_to_name_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match=r"daemon\.state_directory: .* neither XDG_STATE_HOME"):
        load(file, environ={}, is_root=False)


def test_a_daemon_that_is_no_table_is_refused_for_a_user_too(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("daemon = 5")
    with pytest.raises(ConfigError, match="daemon: expected a table, got 5"):
        load(file, environ={"HOME": "/home/anna"}, is_root=False)
