"""Which transfers are paused: a file, so that a restart does not begin what somebody has stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Pauses:
    """The names of the paused transfers; nothing is held in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> frozenset[str]:
        """Return the names.

        Raises CopydError where the file is there and cannot be read: better no daemon than one
        that runs what it must not.
        """
        try:
            names = json.loads(self._path.read_text())
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError) as error:
            raise self._unusable("read") from error
        if not isinstance(names, list):
            raise self._unusable("read")
        return frozenset(map(str, names))

    def write(self, names: Iterable[str]) -> None:
        """Replace the file as a whole; raises CopydError where it cannot be written."""
        try:
            replace_file(self._path, json.dumps(sorted(names)).encode())
        except OSError as error:
            raise self._unusable("written") from error

    def _unusable(self, done: str) -> CopydError:
        return CopydError(
            f"{self._path}, which names the paused transfers, cannot be {done}: look at it, or "
            "remove it and pause them again"
        )
