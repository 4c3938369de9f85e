"""What earlier runs left: pending folders are settled by the ledger, old ones are removed.

Whatever is killed here can be done again. A run that is still going holds its folder's lock, and is
left alone.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.loading.rejects.folders import Folder, locked, open_root
from copyd.loading.rejects.naming import PENDING, REMOVING, decode, encode
from copyd.loading.rejects.removal import finish_removal, is_own, remove
from copyd.loading.rejects.sealing import LOCK, RUN_FILE, Fate, Seal, read_seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a pending folder; ``reason``: why nobody can say yet."""

    destination: str
    run: str
    fate: Fate
    reason: str | None = None


def settle(
    root: Path, transfer: str, ask: Callable[[Seal], Fate], *, destination: str | None = None
) -> tuple[Settled, ...]:
    """Settle what is pending of `transfer`, or of one `destination`; ``ask`` asks its ledger.

    What is committed is published, what is rolled back, or was never sealed, is removed, and what
    is undecided, or for which ``ask`` raises CopydError, stays. What somebody was removing when he
    was killed is removed. Raises UnsafeFolderError, OSError.
    """
    return tuple(
        found
        for home in _homes(root, transfer, destination)
        for name in home.names()
        for found in _settle_one(home, name, ask)
    )


def prune(root: Path, transfer: str, *, keep: float, now: float) -> int:
    """Remove published rejects of `transfer` that are older than `keep` seconds at `now`.

    What is not copyd's, and a folder with something else in it, stays. Returns how many runs went.
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


def _settle_one(home: Folder, name: str, ask: Callable[[Seal], Fate]) -> Iterator[Settled]:
    if name.endswith(REMOVING):
        finish_removal(home, name)
    if not name.endswith(PENDING):
        return
    with suppress(FileNotFoundError), home.enter(name) as folder, locked(folder, LOCK) as is_free:
        if is_free and home.has(name, folder):
            settled = _judge(home.path.name, folder, name.removesuffix(PENDING), ask)
            _carry_out(home, folder, name, settled.fate)
            yield settled


def _judge(destination: str, folder: Folder, run: str, ask: Callable[[Seal], Fate]) -> Settled:
    destination, run = decode(destination) or destination, decode(run) or run
    try:
        seal = read_seal(folder)
        if seal is None:
            return Settled(destination, run, Fate.ROLLED_BACK)
        destination, run = seal.destination, seal.run
        fate = ask(seal)
    except CopydError as error:
        return Settled(destination, run, Fate.UNDECIDED, str(error))
    is_open = fate is Fate.UNDECIDED
    reason = "too many runs were committed since for the ledger to tell" if is_open else None
    return Settled(destination, run, fate, reason)


def _carry_out(home: Folder, folder: Folder, name: str, fate: Fate) -> None:
    run = name.removesuffix(PENDING)
    if fate is Fate.COMMITTED:
        home.rename(name, run)
        home.sync()
        folder.unlink(LOCK)
    elif fate is Fate.ROLLED_BACK:
        remove(home, name, run)


def _is_old(home: Folder, name: str, oldest: float) -> bool:
    """Whether it is the folder of a run that was sealed before `oldest`, with nothing else in it."""
    with suppress(OSError, CopydError), home.enter(name) as folder:
        names = folder.names()
        seal = read_seal(folder) if RUN_FILE in names else None
        return seal is not None and seal.sealed_at < oldest and all(map(is_own, names))
    return False
