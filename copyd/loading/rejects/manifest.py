"""The manifest: a small file in a run's folder, with the question to the ledger after a crash.

Synced before COMMIT, and kept: readers find the names of transfer, destination and run here.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.names import TableName, quote

if TYPE_CHECKING:
    from copyd.loading.rejects.folders import Folder

RUN_FILE = "run.json"
LOCK = "lock"
_NEW = "run.json.new"
_VERSION = 1
OWN_FILES = frozenset({RUN_FILE, LOCK, _NEW})


class BrokenManifestError(CopydError):
    """A manifest cannot be read."""


class CommitOutcome(Enum):
    """The outcome of a run's COMMIT at a destination; ``UNDECIDED``: in doubt."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """A table of the destination, as loaded by the run.

    ``columns``: of its rows, in order. ``previous_run``: the last run in the ledger when this run
    claimed the table; None if there was none.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    previous_run: str | None

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)

    @property
    def statement(self) -> str:
        """The COPY that loads the file of its rejects."""
        columns = f" ({', '.join(map(quote, self.columns))})" if self.columns else ""
        return f"COPY {self.table}{columns} FROM STDIN WITH (ENCODING 'UTF8')"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The origin of rejects, and the ledger's schema; ``sealed_at`` is Unix time before COMMIT."""

    transfer: str
    destination: str
    run: str
    ledger: str
    tables: tuple[LoadedTable, ...]
    sealed_at: float

    def outcome(self, table: LoadedTable, last: tuple[str | None, str | None]) -> CommitOutcome:
        """Decide from `last`, the answer of `Ledger.last_runs` for the table."""
        # Decision: Rejects are pending until the ledger says that they are not
        # The ledger has the last two runs: after two other commits the outcome stays unknown.
        run, previous = last
        if self.run in (run, previous):
            return CommitOutcome.COMMITTED
        is_next = run is not None and previous == table.previous_run
        if run == table.previous_run or is_next:
            return CommitOutcome.ROLLED_BACK
        return CommitOutcome.UNDECIDED


def write_manifest(folder: Folder, manifest: Manifest) -> None:
    """Write and sync the file atomically; raises OSError."""
    folder.unlink(_NEW)
    with os.fdopen(folder.create(_NEW), "wb") as file:
        file.write(json.dumps({"version": _VERSION, **asdict(manifest)}, indent=1).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    folder.rename(_NEW, RUN_FILE)
    folder.sync()


def read_manifest(folder: Folder) -> Manifest | None:
    """Read the file; None if missing: then COMMIT was never sent.

    Raises BrokenManifestError if the file was changed.
    """
    try:
        with folder.open(RUN_FILE) as file:
            found = json.loads(file.read())
        if found.pop("version") != _VERSION:
            raise BrokenManifestError(f"{folder.path / RUN_FILE} is of another version of copyd")
        tables = [
            LoadedTable(**{**each, "columns": tuple(each["columns"])}) for each in found["tables"]
        ]
        return Manifest(**{**found, "tables": tuple(tables)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"{folder.path / RUN_FILE} cannot be read: {type(error).__name__}"
        raise BrokenManifestError(text) from error
