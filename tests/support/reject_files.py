"""Rejects as a server would cause them, and the files that they end in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copyd.copyman.batching.refusal import Refusal, Reject
from copyd.loading.rejects import LoadedTable, RejectFiles
from copyd.names import TableName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

T = TableName("public", "t")
TABLES = (LoadedTable("public", "t", ("id", "note"), "before"),)
NOW = 1_700_000_000.0


def reject(ordinal: int = 1, row: bytes = b"x\tnote\n", **refusal: str) -> Reject:
    """A row that is no number."""
    facts = {"sqlstate": "22P02", "message": "invalid input syntax", **refusal}
    return Reject(ordinal, 1, row, Refusal(**facts))  # type: ignore[arg-type]


def files(root: Path, *, destination: str = "eu", run: str = "r1") -> RejectFiles:
    return RejectFiles(root, transfer="orders", destination=destination, run=run)


def pending(
    root: Path, *rejects: Reject, run: str = "r1", has_manifest: bool = True
) -> RejectFiles:
    """A run's rejects up to its COMMIT, of which nobody knows; close or resolve it."""
    made = files(root, run=run)
    for each in rejects or (reject(),):
        made.add(T, each)
    if has_manifest:
        made.write_manifest(ledger="copyd", tables=TABLES, now=NOW)
    return made


def published(root: Path, *rejects: Reject, run: str = "r1") -> Path:
    made = pending(root, *rejects, run=run)
    made.publish()
    return made.path


def tree(root: Path) -> set[str]:
    """Every file below `root`, but locks."""
    return {str(path.relative_to(root)) for path in _files(root) if path.name != "lock"}


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if not path.is_dir() or path.is_symlink())
