"""Atomic replacement of files, and a check of folders; standard library only."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def why_unsafe(
    state: os.stat_result,
    *,
    owners: Collection[int] | None,
    bits: int = stat.S_IWGRP | stat.S_IWOTH,
    is_sticky_safe: bool = False,
    harm: str = "",
) -> str | None:
    """Return why a folder is unsafe, as the rest of a sentence after its path; None if safe.

    A safe folder belongs to one of `owners` (None: to any user) and has none of the mode's `bits`,
    unless it is sticky and `is_sticky_safe`. `harm` is inserted into both reasons.
    """
    if owners is not None and state.st_uid not in owners:
        return (
            f"belongs to user {state.st_uid}{harm}, and copyd runs as "
            f"user {os.geteuid()}: run copyd as the owner, or configure another folder"
        )
    if state.st_mode & bits and not (is_sticky_safe and state.st_mode & stat.S_ISVTX):
        who = "go" if bits & stat.S_IWGRP else "o"
        mode = f"{stat.S_IMODE(state.st_mode):o}"
        return f"is writable by other users (mode {mode}){harm}: chmod {who}-w it"
    return None


def replace_file(path: Path, content: bytes, *, like: os.stat_result | None = None) -> None:
    """Create or replace a file atomically and durably; raises OSError.

    After a crash at any point, or on a full disk, the file is the old or the new one. Its mode is
    0600 and its owner this account, or both are those of `like`.
    """
    # In the same folder: a rename is atomic only within a file system.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if like is not None:
                _resemble(descriptor, like)
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    _sync_folder(path.parent)  # makes the rename durable: the name is stored in the folder


def _resemble(descriptor: int, like: os.stat_result) -> None:
    # The owner first: a change of owner may clear bits of the mode.
    if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, like.st_mode & 0o7777)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
