"""Folders of rejects are removed: of what is in them only what copyd made, and through no link."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from copyd.loading.rejects.file_names import REMOVING, SUFFIXES
from copyd.loading.rejects.manifest import OWN_FILES

if TYPE_CHECKING:
    from copyd.loading.rejects.folders import Folder


def remove(home: Folder, name: str, run: str) -> None:
    """Remove the folder `name` of `run` in `home`.

    It is called something else first: who is killed in between leaves nothing that looks whole.
    Raises OSError.
    """
    removing = f"{run}{REMOVING}"
    if name != removing:
        finish_removal(home, removing)
        with suppress(FileNotFoundError):
            home.rename(name, removing)
    finish_removal(home, removing)


def finish_removal(home: Folder, removing: str) -> None:
    """Remove a folder that is to go; what is not copyd's stays, and the folder with it."""
    with suppress(FileNotFoundError), home.enter(removing) as folder:
        for name in folder.names():
            if is_own(name):
                folder.unlink(name)
        with suppress(OSError):  # not empty
            home.remove_folder(removing)


def is_own(name: str) -> bool:
    """Whether copyd gives files in the folder of a run such names."""
    return name in OWN_FILES or name.endswith(SUFFIXES)
