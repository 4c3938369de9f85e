"""What a new configuration changes, said without any value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd.config import load
from copyd.daemon.reload import AT_RESTART, diff, effective

if TYPE_CHECKING:
    from pathlib import Path

    from copyd.config import Config

FILE = """
[daemon]
workers = 4
[servers.a]
conninfo = "host=a password=hunter2"
[servers.b]
conninfo = "host=b"
[transfers.t]
source = "a"
destinations = ["b"]
tables = ["s.x"]
every = "5m"
"""


@pytest.fixture
def old(tmp_path: Path) -> Config:
    return read(tmp_path, FILE)


def read(folder: Path, text: str) -> Config:
    file = folder / "config.toml"
    file.write_text(text)
    return load(file, environ={}, is_root=True)


def test_the_same_file_changes_nothing(old: Config, tmp_path: Path) -> None:
    assert diff(old, read(tmp_path, f"# a comment\n{FILE}")) == ()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("workers = 4", "workers = 5", "daemon changed: workers"),
        ('"5m"', '"6m"\nmode = "merge"', "transfers.t changed: mode, every"),
        ("hunter2", "hunter3", "servers.a changed: conninfo"),
        ("[daemon]", '[log]\nlevel = "debug"\n[daemon]', "log changed: level"),
        ("[daemon]", '[servers.c]\nconninfo = ""\n[daemon]', "servers.c added"),
        ("[daemon]", '[clusters.k]\ndata_directory = "k"\n[daemon]', "clusters.k added"),
        (
            "[daemon]",
            '[http]\nlisten = ""\n[daemon]',
            "http changed: listen; this takes effect after a restart",
        ),
    ],
)
def test_a_change_is_named_without_its_values(
    old: Config, tmp_path: Path, before: str, after: str, expected: str
) -> None:
    (sentence,) = diff(old, read(tmp_path, FILE.replace(before, after)))
    assert sentence == expected


def test_what_is_gone_is_named(old: Config, tmp_path: Path) -> None:
    without = FILE.partition("[transfers.t]")[0]
    assert diff(old, read(tmp_path, without)) == ("transfers.t removed",)


def test_what_needs_a_restart_stands_apart_and_is_named_again(old: Config, tmp_path: Path) -> None:
    wanted = read(
        tmp_path, FILE.replace("workers = 4", 'workers = 9\nstate_directory = "/elsewhere"')
    )
    changes = diff(old, wanted)
    assert changes == (
        "daemon changed: workers",
        "daemon changed: state_directory; this takes effect after a restart",
    )
    held = effective(old, wanted)
    assert (held.daemon.workers, held.daemon.state_directory) == (9, old.daemon.state_directory)
    assert diff(held, wanted) == changes[1:]


def test_everything_that_needs_a_restart_is_a_key(old: Config) -> None:
    for section, keys in AT_RESTART.items():
        assert set(keys) <= set(type(getattr(old, section)).model_fields)
