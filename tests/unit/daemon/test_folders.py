"""Folders that nobody else may change, one lock, and a file that is there or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd.daemon.folders import locked, prepare
from copyd.daemon.pauses import Pauses
from copyd.errors import CopydError, UnsafeFolderError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_is_made_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    prepare(folder, key="daemon.state_directory", mode=0o711)
    prepare(folder, key="daemon.state_directory", mode=0o700)
    assert folder.stat().st_mode & 0o777 == 0o711


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UnsafeFolderError, match=r"chmod go-w it$"):
        prepare(folder, key="daemon.state_directory", mode=0o700)


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UnsafeFolderError, match=r"^daemon.state_directory: .*/a cannot be used"):
        prepare(tmp_path / "a", key="daemon.state_directory", mode=0o700)


def test_a_lock_is_held_once_and_free_afterwards(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(CopydError, match="another daemon uses the state directory"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_pauses_are_written_down(tmp_path: Path) -> None:
    pauses = Pauses(tmp_path / "paused.json")
    assert pauses.read() == frozenset()
    pauses.write(["b", "a"])
    assert pauses.read() == {"a", "b"}
    pauses.write([])
    assert pauses.read() == frozenset()


@pytest.mark.parametrize("text", ["nonsense", "{}", ""])
def test_pauses_that_cannot_be_read_stop_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "paused.json").write_text(text)
    with pytest.raises(CopydError, match=r"which names the paused transfers, cannot be read"):
        Pauses(tmp_path / "paused.json").read()


def test_pauses_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    with pytest.raises(CopydError, match="cannot be written"):
        Pauses(tmp_path / "nowhere" / "paused.json").write(["a"])
