"""Reject folders are removed: only the files that copyd made, and never through a link."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from copyd.loading.rejects.file_names import REMOVING, SUFFIXES
from copyd.loading.rejects.manifest import OWN_FILES

if TYPE_CHECKING:
    from copyd.loading.rejects.folders import Folder


def remove(home: Folder, name: str, run: str) -> None:
    """Remove the folder `name` of `run` in `home`.

    It is renamed first, so that a crash in between leaves nothing that looks complete.
    Raises OSError.
    """
    removing = f"{run}{REMOVING}"
    if name != removing:
        finish_removal(home, removing)
        with suppress(FileNotFoundError):
            home.rename(name, removing)
    finish_removal(home, removing)


def finish_removal(home: Folder, removing: str) -> None:
    """Remove the files that are copyd's, and the folder if nothing else is in it."""
    with suppress(FileNotFoundError), home.enter(removing) as folder:
        for name in folder.names():
            if is_own(name):
                folder.unlink(name)
        with suppress(OSError):  # not empty
            home.remove_folder(removing)


def is_own(name: str) -> bool:
    """Whether it is a name of copyd's own files."""
    return name in OWN_FILES or name.endswith(SUFFIXES)
