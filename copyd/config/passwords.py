"""Passwords from a ``password_file``: its first line, if others cannot read it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from copyd.config.problems import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def read_password(path: Path, *, key: str) -> str:
    """Return the first line of a file that only its owner and group may read.

    Raises ConfigError with the name of the `key` and nothing of the content.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            line = file.readline()
    except OSError as error:
        raise _unusable(path, key, f"one that cannot be read: {error.strerror}") from error
    if mode & 0o007:  # a group may read: root:copyd 0640 is usual for a service's secrets
        raise _unusable(path, key, f"one with mode {mode:o}, open to other users: chmod 600 it")
    try:
        password = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise _unusable(path, key, "one whose first line is not UTF-8") from None
    if not password or "\0" in password:
        raise _unusable(path, key, "one whose first line is empty or contains a NUL")
    return password


def _unusable(path: Path, key: str, got: str) -> ConfigError:
    text = f"expected a file whose first line is the password, got {got}"
    return ConfigError(path, [f"{key}: {text}"])
