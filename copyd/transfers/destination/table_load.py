"""One table at one destination in one try: what is there, what it needs, what it got."""

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

    ``is_compared``: its rows are compared by key with those that are there. ``is_staged``: they go
    into a temporary table first, as do rows that reference such rows. ``is_circular``: it and other
    tables reference one another, so that only COMMIT checks its foreign keys. ``is_counted``: nobody
    knows yet how many rows it has. ``removes``: rows that the source no longer has are deleted.
    ``binary_refusal``: why its rows cannot travel in binary.

    Learned on the way: its ``need`` under the snapshot; its ``scans`` and their ``formats``; ``bound``,
    where bounded scans began; ``watermark``, the highest value of its watermark column;
    ``delete_triggers``, which may keep rows; ``deferrable`` constraints.

    Rows: ``before`` the run, ``rows`` that the run wrote, ``removed``, and ``held`` after it;
    ``missed`` are those before ``bound``, which the lookback had left out until this full scan. The
    source sent ``read`` rows and ``size`` bytes; ``rejected`` of the rows were refused.
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
        """The destination's table."""
        return self.target.name

    @property
    def format(self) -> str:
        """The format of its last scan."""
        return next(reversed(self.formats.values()), "text")

    @property
    def bound_query(self) -> sql.Composed | None:
        """Asks the source where the scans began that have left rows out since the last full one."""
        left_out = self.need.left_out
        return None if left_out is None else bound_query(self.reading, left_out)

    @property
    def counts(self) -> Counts:
        """What the run wrote, removed and read, once it is all applied."""
        return Counts(self.rows + self.removed, self.read, self.rejected, self.size)

    def note(self, applied: Applied) -> None:
        """Count rows that went from the staging table into the table."""
        self.rows = applied.inserted + applied.updated
        self.removed = applied.removed
        self.held = self.before + applied.inserted - applied.removed

    def note_removed(self, rows: int) -> None:
        """Count rows that the source no longer has, which are deleted now."""
        self.removed += rows
        self.held -= rows

    def note_unstaged(self, mode: Mode) -> None:
        """Count what came without a staging table."""
        if not self.is_staged:
            self.held = self.rows + (0 if mode == "replace" else self.before)

    def require_not_shrunk(self, mode: Mode, limit: float) -> None:
        """Raise CopydError where more of the rows vanish than `limit` allows."""
        if mode == "replace" or self.removes:
            left = self.held if mode == "replace" else self.before - self.removed
            reason = shrink_refusal(self.before, left, limit)
            if reason is not None:
                raise CopydError(f"table {self.state.table}: {reason}")
