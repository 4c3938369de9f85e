"""Reject files are read; nothing here writes."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.loading.rejects.file_names import PENDING, REMOVING, decode, encode, encode_table
from copyd.loading.rejects.folders import Folder, look_into_root
from copyd.loading.rejects.lines import RejectRecord
from copyd.loading.rejects.manifest import BrokenManifestError, Manifest, read_manifest
from copyd.names import TableName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_RECORDS = ".jsonl"
_DATA = ".dat"


class Standing(Enum):
    """``PENDING``: the run is still going, or it is in doubt whether it was committed."""

    PUBLISHED = "published"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class KeptTable:
    """The rejects of one table in one run; ``reasons`` are counted by SQLSTATE, the most first.

    ``sealed_at`` is Unix time shortly before COMMIT, ``statement`` the COPY that loads them again;
    None before there was one. ``data`` is the file of the rows.
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
        """How many."""
        return sum(self.reasons.values())


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row as it was received, with its newline; None where it is not written yet."""

    record: RejectRecord
    row: bytes | None


def kept(root: Path, transfer: str) -> Iterator[KeptTable]:
    """Yield the rejects of `transfer`: by destination, the oldest run first, then by table.

    Raises CopydError where a link is in the way or a file is not copyd's, OSError where one cannot
    be read.
    """
    for home in _homes(root, encode(transfer)):
        runs = [found for name in home.names() for found in _of_run(home, name, transfer)]
        yield from sorted(runs, key=lambda each: (each.sealed_at or float("inf"), each.run))


def rows(root: Path, of: KeptTable) -> Iterator[KeptRow]:
    """Yield the rejects of a table in the order in which they were refused; raises as `kept`."""
    run = of.data.parent
    for home in _homes(root, encode(of.transfer), only=run.parent.name):
        with suppress(FileNotFoundError), _enter(home, run.name) as folder:
            yield from _rows(folder, of.data.stem)


def _rows(folder: Folder, stem: str) -> Iterator[KeptRow]:
    with folder.open(f"{stem}{_DATA}") as data:
        for record in _records(folder, stem):
            data.seek(record.offset)
            row = data.read(record.length)
            yield KeptRow(record, row if len(row) == record.length else None)


def _homes(root: Path, transfer: str, only: str | None = None) -> Iterator[Folder]:
    """Yield the folders of the destinations, or of the one whose folder is called `only`."""
    opened = look_into_root(root)
    if opened is None:
        return
    with opened, suppress(FileNotFoundError), _enter(opened, transfer) as folder:
        for name in folder.names():
            if only in {None, name} and not folder.has_file(name):
                with _enter(folder, name) as home:
                    yield home


def _of_run(home: Folder, name: str, transfer: str) -> Iterator[KeptTable]:
    """Yield the tables of a run; nothing where it is removed meanwhile, or no run."""
    if name.endswith(REMOVING) or home.has_file(name):
        return
    standing = Standing.PENDING if name.endswith(PENDING) else Standing.PUBLISHED
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
    """Return the manifest; where it cannot be read, one made of the folders' names."""
    manifest = None
    with suppress(BrokenManifestError):
        manifest = read_manifest(folder)
    if manifest is not None:
        return manifest
    destination, run = folder.path.parent.name, folder.path.name.removesuffix(PENDING)
    return Manifest(transfer, decode(destination) or destination, decode(run) or run, "", (), 0.0)


def _counted(folder: Folder, stem: str) -> tuple[TableName, Mapping[str, int]] | None:
    """Return the table and the reasons; None where nothing is written yet."""
    reasons = Counter[str]()
    table = None
    for record in _records(folder, stem):
        table = TableName(record.schema, record.table)
        reasons[record.sqlstate] += 1
    return None if table is None else (table, dict(reasons.most_common()))


def _records(folder: Folder, stem: str) -> Iterator[RejectRecord]:
    """Yield the lines of a ``.jsonl``; the last one of a run that is still going may be cut off."""
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
    return folder.enter(name, may_be_anybodys=True)
