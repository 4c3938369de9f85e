"""A file of the paused transfers, which stay paused after a restart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Pauses:
    """The names of the paused transfers, read from and written to the file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> frozenset[str]:
        """Return the names; raises CopydError if the file exists and cannot be read."""
        try:
            names = json.loads(self._path.read_text())
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError) as error:
            raise self._unusable("read") from error
        if not isinstance(names, list):
            # Nothing paused would be the wrong guess: the daemon would run what it must not.
            raise self._unusable("read")
        return frozenset(map(str, names))

    def write(self, names: Iterable[str]) -> None:
        """Replace the file; raises CopydError."""
        try:
            replace_file(self._path, json.dumps(sorted(names)).encode())
        except OSError as error:
            raise self._unusable("written") from error

    def _unusable(self, done: str) -> CopydError:
        return CopydError(
            f"{self._path}, which names the paused transfers, cannot be {done}: repair it, or "
            "remove it and pause them again"
        )
