"""Folders of earlier runs: the ledger resolves the pending ones, the old ones are removed.

All of it can be killed and done again. A run that is still going holds the lock of its folder, which
is then left alone.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.loading.rejects.file_names import PENDING, REMOVING, decode, encode
from copyd.loading.rejects.folders import Folder, locked, open_root
from copyd.loading.rejects.manifest import LOCK, RUN_FILE, CommitOutcome, Manifest, read_manifest
from copyd.loading.rejects.removal import finish_removal, is_own, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Resolution:
    """The outcome for a pending folder; ``reason``: why it is still in doubt."""

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
    """Resolve the pending folders of `transfer`, or of one `destination`; ``ask`` asks its ledger.

    Rejects of a committed run are published. Those of a run that was rolled back, or has no
    manifest, are removed. A folder stays while its outcome is undecided, or ``ask`` raises
    CopydError. Interrupted removals are completed. Raises UnsafeFolderError, OSError.
    """
    return tuple(
        found
        for home in _homes(root, transfer, destination)
        for name in home.names()
        for found in _resolve_one(home, name, ask)
    )


def prune(root: Path, transfer: str, *, keep: float, now: float) -> int:
    """Remove published rejects of `transfer` that are older than `keep` seconds at `now`.

    Files that are not copyd's stay, and so do their folders. Returns how many runs were removed.
    Raises UnsafeFolderError, OSError.
    """
    count = 0
    for home in _homes(root, transfer):
        for name in home.names():
            if not name.endswith((PENDING, REMOVING)) and _is_old(home, name, now - keep):
                remove(home, name, name)
                count += 1
    return count


def _homes(root: Path, transfer: str, destination: str | None = None) -> Iterator[Folder]:
    """Yield the folder of each destination of `transfer`, or of the one."""
    wanted = None if destination is None else encode(destination)
    opened = open_root(root, makes=False)
    if opened is None:
        return
    with opened, suppress(FileNotFoundError), opened.enter(encode(transfer)) as folder:
        for name in folder.names():
            if wanted in (None, name) and not folder.has_file(name):
                with folder.enter(name) as home:
                    yield home


def _resolve_one(
    home: Folder, name: str, ask: Callable[[Manifest], CommitOutcome]
) -> Iterator[Resolution]:
    if name.endswith(REMOVING):
        finish_removal(home, name)
    if not name.endswith(PENDING):
        return
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
    is_open = outcome is CommitOutcome.UNDECIDED
    reason = (
        "the ledger cannot tell any more: too many runs were committed since" if is_open else None
    )
    return Resolution(destination, run, outcome, reason)


def _carry_out(home: Folder, folder: Folder, name: str, outcome: CommitOutcome) -> None:
    run = name.removesuffix(PENDING)
    if outcome is CommitOutcome.COMMITTED:
        home.rename(name, run)
        home.sync()
        folder.unlink(LOCK)
    elif outcome is CommitOutcome.ROLLED_BACK:
        remove(home, name, run)


def _is_old(home: Folder, name: str, oldest: float) -> bool:
    """Whether it holds only copyd's files, of a run before `oldest`."""
    with suppress(OSError, CopydError), home.enter(name) as folder:
        names = folder.names()
        manifest = read_manifest(folder) if RUN_FILE in names else None
        return manifest is not None and manifest.sealed_at < oldest and all(map(is_own, names))
    return False
