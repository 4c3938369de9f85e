"""Files that are replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from copyd.files import replace_file, why_unsafe


def test_a_file_is_made_for_this_account_alone_whatever_the_umask(tmp_path: Path) -> None:
    replace_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_replaced_keeps_the_mode_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    replace_file(path, b"new", like=path.stat())
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)


def test_a_file_that_cannot_be_replaced_is_as_it_was_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "a", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("mode", "is_sticky_safe", "is_safe"),
    [(0o755, False, True), (0o777, False, False), (0o1777, False, False), (0o1777, True, True)],
)
def test_a_folder_is_unsafe_where_others_can_write(
    tmp_path: Path, mode: int, is_sticky_safe: bool, is_safe: bool
) -> None:
    tmp_path.chmod(mode)
    found = why_unsafe(tmp_path.stat(), owners={os.geteuid()}, is_sticky_safe=is_sticky_safe)
    assert (found is None) is is_safe


def test_a_folder_of_somebody_else_is_unsafe() -> None:
    found = why_unsafe(Path("/").stat(), owners={12345})
    assert found is not None
    assert found.startswith("belongs to user 0, and copyd runs as user")
