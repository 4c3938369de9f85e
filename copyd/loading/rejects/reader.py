"""Reading of reject files; nothing here writes."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.loading.rejects.file_names import PENDING, REMOVING, decode, encode, encode_table
from copyd.loading.rejects.folders import Folder, homes, open_for_reading
from copyd.loading.rejects.lines import RejectRecord
from copyd.loading.rejects.manifest import BrokenManifestError, Manifest, read_manifest
from copyd.names import TableName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_RECORDS = ".jsonl"
_DATA = ".dat"


class Standing(Enum):
    """``PENDING``: the run is in progress, or its COMMIT is in doubt."""

    PUBLISHED = "published"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class KeptTable:
    """The rejects of a table in a run; ``reasons``: counts by SQLSTATE, the largest first.

    ``sealed_at``: Unix time before COMMIT. ``statement``: the COPY to load them again. Both are None
    without a manifest. ``data``: the file of the rows.
    """

    transfer: str
    destination: str
    run: str
    table: TableName
    standing: Standing
    sealed_at: float | None
    reasons: Mapping[str, int]
    statement: str | None
    data: Path

    @property
    def rows(self) -> int:
        """The number of rejects."""
        return sum(self.reasons.values())


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row as received, with its newline; None if not written yet."""

    record: RejectRecord
    row: bytes | None


def kept(root: Path, transfer: str) -> Iterator[KeptTable]:
    """Yield the rejects of `transfer`: by destination, the oldest run first, then by table.

    Raises OSError, and CopydError for a link or a file not written by copyd.
    """
    for home in homes(open_for_reading(root), encode(transfer), must_be_ours=False):
        runs = [found for name in home.names() for found in _of_run(home, name, transfer)]
        yield from sorted(runs, key=lambda each: (each.sealed_at or float("inf"), each.run))


def rows(root: Path, of: KeptTable) -> Iterator[KeptRow]:
    """Yield the rejects of a table in the order of their refusal; raises as `kept`."""
    run = of.data.parent
    transfer, opened = encode(of.transfer), open_for_reading(root)
    for home in homes(opened, transfer, run.parent.name, must_be_ours=False):
        with suppress(FileNotFoundError), _enter(home, run.name) as folder:
            yield from _rows(folder, of.data.stem)


def _rows(folder: Folder, stem: str) -> Iterator[KeptRow]:
    with folder.open(f"{stem}{_DATA}") as data:
        for record in _records(folder, stem):
            data.seek(record.offset)
            row = data.read(record.length)
            yield KeptRow(record, row if len(row) == record.length else None)


def _of_run(home: Folder, name: str, transfer: str) -> Iterator[KeptTable]:
    if name.endswith(REMOVING) or home.has_file(name):
        return
    standing = Standing.PENDING if name.endswith(PENDING) else Standing.PUBLISHED
    # The run may publish or remove its folder while we read.
    with suppress(FileNotFoundError), _enter(home, name) as folder:
        manifest = _manifest_of(folder, transfer)
        told = {encode_table(*each.table): each.statement for each in manifest.tables}
        for file in folder.names():
            stem = file.removesuffix(_RECORDS)
            found = _counted(folder, stem) if stem != file else None
            if found is not None:
                table, reasons = found
                yield KeptTable(
                    transfer=transfer,
                    destination=manifest.destination,
                    run=manifest.run,
                    table=table,
                    standing=standing,
                    sealed_at=manifest.sealed_at or None,
                    reasons=reasons,
                    statement=told.get(stem),
                    data=folder.path / f"{stem}{_DATA}",
                )


def _manifest_of(folder: Folder, transfer: str) -> Manifest:
    manifest = None
    with suppress(BrokenManifestError):
        manifest = read_manifest(folder)
    if manifest is not None:
        return manifest
    destination, run = folder.path.parent.name, folder.path.name.removesuffix(PENDING)
    return Manifest(transfer, decode(destination) or destination, decode(run) or run, "", (), 0.0)


def _counted(folder: Folder, stem: str) -> tuple[TableName, Mapping[str, int]] | None:
    reasons = Counter[str]()
    table = None
    for record in _records(folder, stem):
        table = TableName(record.schema, record.table)
        reasons[record.sqlstate] += 1
    return None if table is None else (table, dict(reasons.most_common()))


def _records(folder: Folder, stem: str) -> Iterator[RejectRecord]:
    with folder.open(f"{stem}{_RECORDS}") as file:
        for line in file:
            if line.endswith(b"\n"):
                try:
                    record = RejectRecord.parse(line)
                except (ValueError, TypeError):
                    text = f"{folder.path / stem}{_RECORDS} is not as copyd wrote it"
                    raise CopydError(text) from None
                yield record


def _enter(folder: Folder, name: str) -> Folder:
    return folder.enter(name, must_be_ours=False)
