"""One table at one destination in one try: its state, its need and its row counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.events import Counts
from copyd.loading import shrink_refusal
from copyd.transfers.destination.horizon import Need, TableState
from copyd.transfers.source import bound_query

if TYPE_CHECKING:
    from psycopg import sql

    from copyd.loading import Applied, Target
    from copyd.names import TableName
    from copyd.transfers.source import Reading, Scan
    from copyd.transfers.transfer import Mode


@dataclass(eq=False)
class TableLoad:
    """A table of the transfer at a destination.

    ``is_compared``: rows are compared with existing rows by key. ``is_staged``: rows are loaded into
    a temporary table first. ``is_circular``: tables reference each other, so COMMIT checks their
    foreign keys. ``is_counted``: the ledger has no row count. ``removes``: rows missing at the source
    are deleted. ``binary_refusal``: why the binary format is not possible.

    Set during the run: ``need`` under the snapshot; ``scans`` and their ``formats``; ``bound``, the
    start of bounded scans; ``watermark``, the highest value of the watermark column;
    ``delete_triggers``, which may keep rows; ``deferrable`` constraints.

    Rows: ``before`` the run, ``rows`` written, ``removed``, and ``held`` after the run; ``missed``:
    rows before ``bound``, which only a full scan reads. The source sent ``read`` rows and ``size``
    bytes; ``rejected`` rows are in the reject files.
    """

    reading: Reading
    target: Target
    state: TableState
    is_compared: bool = False
    is_staged: bool = False
    is_circular: bool = False
    is_counted: bool = False
    removes: bool = False
    binary_refusal: str | None = None
    need: Need = field(default_factory=Need)
    scans: tuple[Scan, ...] = ()
    formats: dict[Scan, str] = field(default_factory=dict)
    bound: str | None = None
    watermark: str | None = None
    delete_triggers: tuple[str, ...] = ()
    deferrable: tuple[sql.Identifier, ...] = ()
    before: int = 0
    rows: int = 0
    removed: int = 0
    held: int = 0
    missed: int = 0
    read: int = 0
    rejected: int = 0
    size: int = 0

    @property
    def name(self) -> TableName:
        return self.target.name

    @property
    def format(self) -> str:
        return next(reversed(self.formats.values()), "text")

    @property
    def bound_query(self) -> sql.Composed | None:
        """The query for the start of the bounded scans since the last full scan; None without any."""
        left_out = self.need.left_out
        return None if left_out is None else bound_query(self.reading, left_out)

    @property
    def counts(self) -> Counts:
        return Counts(self.rows + self.removed, self.read, self.rejected, self.size)

    def note(self, applied: Applied) -> None:
        self.rows = applied.inserted + applied.updated
        self.removed = applied.removed
        self.held = self.before + applied.inserted - applied.removed

    def note_removed(self, rows: int) -> None:
        self.removed += rows
        self.held -= rows

    def note_unstaged(self, mode: Mode) -> None:
        if not self.is_staged:
            self.held = self.rows + (0 if mode == "replace" else self.before)

    def require_not_shrunk(self, mode: Mode, limit: float) -> None:
        """Raise CopydError if a larger share of the rows is lost than `limit`."""
        if mode == "replace" or self.removes:
            left = self.held if mode == "replace" else self.before - self.removed
            reason = shrink_refusal(self.before, left, limit)
            if reason is not None:
                raise CopydError(f"table {self.state.table}: {reason}")
