"""Whoever keeps rejects, killed before each of its calls of the operating system.

A program of its own, as it forks: ``python -m tests.support.killed_rejects STORY FOLDER STRIDE``. A child
takes the steps of a story and kills itself before its nth call; another one resolves what is left
and is killed before its mth call; then all of it is resolved in peace and looked at. Every n, and
every m that is n modulo STRIDE.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copyd.loading.rejects import CommitOutcome, LoadedTable, Standing, kept, prune, resolve, rows
from copyd.names import TableName
from tests.support.reject_files import NOW, TABLES, T, files, reject, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    Steps = Callable[[Path], None]

CALLS = ("open", "mkdir", "rename", "unlink", "rmdir", "write", "fsync", "close")
OTHER = TableName("a/b", "c")
ROWS = {T: [b"1\n", b"2\n"], OTHER: [b"3\n"]}
MARKER = "committed"


def load(folder: Path) -> None:
    """A run that is refused three rows, up to the moment before its COMMIT."""
    _load(folder)


def commit(folder: Path) -> None:
    """The same, and it commits."""
    made = _load(folder)
    _commit(folder)
    made.publish()


def roll_back(folder: Path) -> None:
    """The same, and it is rolled back."""
    _load(folder).discard()


def come_again(folder: Path) -> None:
    """A try of the run that is rolled back, and another one that commits."""
    _load(folder).discard()
    commit(folder)


def grow_old(folder: Path) -> None:
    """A run that commits, and is pruned."""
    commit(folder)
    (folder / "old").touch()
    prune(folder / "rejects", "orders", keep=1.0, now=NOW + 2.0)


STORIES = {each.__name__: each for each in (load, commit, roll_back, come_again, grow_old)}


def _load(folder: Path) -> Any:
    made = files(folder / "rejects")
    for table, refused in ROWS.items():
        for ordinal, row in enumerate(refused, 1):
            made.add(table, reject(ordinal, row))
    tables = (*TABLES, LoadedTable(*OTHER, (), None))
    made.write_manifest(ledger="copyd", tables=tables, now=NOW)
    return made


def _commit(folder: Path) -> None:
    """Stands for the destination's COMMIT: at once or not at all."""
    (folder / MARKER).touch()


def _resolve(folder: Path) -> None:
    outcome = CommitOutcome.COMMITTED if (folder / MARKER).exists() else CommitOutcome.ROLLED_BACK
    resolve(folder / "rejects", "orders", lambda _: outcome)
    if (folder / "old").exists():
        prune(folder / "rejects", "orders", keep=1.0, now=NOW + 2.0)


def _killed(steps: Steps, folder: Path, number: int) -> bool:
    """Take `steps` in a child that is killed before its call `number`; False where it ended."""
    child = os.fork()
    if child == 0:
        try:
            _kill_before(number)
            steps(folder)
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, f"{steps.__name__} failed before call {number}"
    return False


def _kill_before(number: int) -> None:
    left = number

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def counted(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*arguments, **more)

        return counted

    for name in CALLS:
        setattr(os, name, counting(getattr(os, name)))


def _look(folder: Path) -> None:
    """See that what is published is whole, whatever was killed a moment ago."""
    for each in kept(folder / "rejects", "orders"):
        if each.standing is Standing.PUBLISHED:
            assert (folder / MARKER).exists(), "rejects of a run that was not committed"
            found = [row.row for row in rows(folder / "rejects", each)]
            assert found == ROWS[each.table], (each.table, found)


def _judge(folder: Path) -> None:
    """See that there are rejects exactly where there was a COMMIT."""
    left = tree(folder / "rejects") if (folder / "rejects").exists() else set()
    if (folder / "old").exists() or not (folder / MARKER).exists():
        assert left == set(), left
        return
    found = {each.table: each for each in kept(folder / "rejects", "orders")}
    assert found.keys() == ROWS.keys(), found
    assert all(each.standing is Standing.PUBLISHED for each in found.values())
    assert not any(".pending" in name or ".removing" in name for name in left), left


def main(story: str, folder: Path, stride: int) -> int:
    """Tell `story` with every death in it; returns how many there were."""
    deaths = first = 0
    is_over = False
    while not is_over:
        second = first % stride
        is_resolved = False
        while not is_resolved:
            here = folder / f"{first}-{second}"
            here.mkdir()
            is_over = not _killed(STORIES[story], here, first)
            _look(here)
            is_resolved = not _killed(_resolve, here, second)
            _look(here)
            _resolve(here)
            _judge(here)
            second += stride
            deaths += 1
        first += 1
    return deaths


if __name__ == "__main__":
    print(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
