"""Folders of earlier runs: pending ones are resolved by the ledger, old ones removed.

Everything can be interrupted and repeated. Only copyd's own files are removed, never through a link.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.loading.rejects.file_names import PENDING, REMOVING, SUFFIXES, decode, encode
from copyd.loading.rejects.folders import homes, locked, open_root
from copyd.loading.rejects.manifest import (
    LOCK,
    OWN_FILES,
    RUN_FILE,
    CommitOutcome,
    Manifest,
    read_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from copyd.loading.rejects.folders import Folder


@dataclass(frozen=True, slots=True)
class Resolution:
    """The outcome for a pending folder; ``reason``: of doubt."""

    destination: str
    run: str
    outcome: CommitOutcome
    reason: str | None = None


def resolve(
    root: Path,
    transfer: str,
    ask: Callable[[Manifest], CommitOutcome],
    *,
    destination: str | None = None,
) -> tuple[Resolution, ...]:
    """Resolve the pending folders of `transfer`, or of a `destination`; ``ask`` asks its ledger.

    Rejects of a committed run are published. Those of a run which was rolled back, or has no
    manifest, are removed. A folder stays while its outcome is undecided, or ``ask`` raises
    CopydError. Interrupted removals are completed. Raises UnsafeFolderError, OSError.
    """
    only = None if destination is None else encode(destination)
    return tuple(
        found
        for home in homes(open_root(root, makes=False), encode(transfer), only)
        for name in home.names()
        for found in _resolve_one(home, name, ask)
    )


def prune(root: Path, transfer: str, *, keep: float, now: float) -> int:
    """Remove published rejects of `transfer` older than `keep` seconds at `now`.

    Folders with other files stay. Returns the number of runs. Raises UnsafeFolderError, OSError.
    """
    count = 0
    for home in homes(open_root(root, makes=False), encode(transfer)):
        for name in home.names():
            if not name.endswith((PENDING, REMOVING)) and _is_old(home, name, now - keep):
                remove(home, name, name)
                count += 1
    return count


def remove(home: Folder, name: str, run: str) -> None:
    """Remove the folder `name` of `run` in `home`; raises OSError."""
    # Renamed first, so that a crash leaves no folder with some of its files that looks complete.
    removing = f"{run}{REMOVING}"
    if name != removing:
        _finish_removal(home, removing)
        with suppress(FileNotFoundError):
            home.rename(name, removing)
    _finish_removal(home, removing)


def _finish_removal(home: Folder, removing: str) -> None:
    with suppress(FileNotFoundError), home.enter(removing) as folder:
        for name in folder.names():
            if _is_own(name):
                folder.unlink(name)
        with suppress(OSError):  # not empty
            home.remove_folder(removing)


def _resolve_one(
    home: Folder, name: str, ask: Callable[[Manifest], CommitOutcome]
) -> Iterator[Resolution]:
    if name.endswith(REMOVING):
        _finish_removal(home, name)
    if not name.endswith(PENDING):
        return
    # A run in progress holds the lock; another process may have resolved the folder meanwhile.
    with suppress(FileNotFoundError), home.enter(name) as folder, locked(folder, LOCK) as is_free:
        if is_free and home.has(name, folder):
            resolved = _judge(home.path.name, folder, name.removesuffix(PENDING), ask)
            _carry_out(home, folder, name, resolved.outcome)
            yield resolved


def _judge(
    destination: str, folder: Folder, run: str, ask: Callable[[Manifest], CommitOutcome]
) -> Resolution:
    destination, run = decode(destination) or destination, decode(run) or run
    try:
        manifest = read_manifest(folder)
        if manifest is None:
            return Resolution(destination, run, CommitOutcome.ROLLED_BACK)
        destination, run = manifest.destination, manifest.run
        outcome = ask(manifest)
    except CopydError as error:
        return Resolution(destination, run, CommitOutcome.UNDECIDED, str(error))
    since = "the ledger cannot tell any more: too many runs were committed since"
    reason = since if outcome is CommitOutcome.UNDECIDED else None
    return Resolution(destination, run, outcome, reason)


def _carry_out(home: Folder, folder: Folder, name: str, outcome: CommitOutcome) -> None:
    run = name.removesuffix(PENDING)
    if outcome is CommitOutcome.COMMITTED:
        home.rename(name, run)
        home.sync()
        folder.unlink(LOCK)  # last: until the rename is certain others must stay out
    elif outcome is CommitOutcome.ROLLED_BACK:
        remove(home, name, run)


def _is_old(home: Folder, name: str, oldest: float) -> bool:
    with suppress(OSError, CopydError), home.enter(name) as folder:
        names = folder.names()
        manifest = read_manifest(folder) if RUN_FILE in names else None
        return manifest is not None and manifest.sealed_at < oldest and all(map(_is_own, names))
    return False


def _is_own(name: str) -> bool:
    return name in OWN_FILES or name.endswith(SUFFIXES)
