"""One table at one destination in one try: what is there, what it needs, what it got."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.events import Counts
from copyd.loading import shrink_refusal, strategies
from copyd.names import TableName
from copyd.transfers.destination.horizon import Need, There

if TYPE_CHECKING:
    from copyd.connection import Connection
    from copyd.loading import Applied, Target
    from copyd.transfers.source import Reading
    from copyd.transfers.transfer import Mode


@dataclass
class TableLoad:
    """A table of the transfer at a destination.

    ``is_compared``: its rows are compared by key with what is there. ``is_staged``: they go into a
    temporary table first; so do those that reference rows which do. ``is_circular``: it and other
    tables reference one another, so that its foreign keys are checked by COMMIT alone. ``removes``: rows that the
    source no longer has are deleted. ``binary_refusal``: why its rows cannot travel in binary.
    Rows: ``before`` the run, ``rows`` that the run wrote, ``removed``, and ``held`` after it;
    ``missed`` are those before ``bound``, which a bounded overlap had left out until this full
    look. Of what was ``read``, so many were ``rejected``. ``size``: bytes of payload.
    """

    reading: Reading
    target: Target
    there: There
    is_compared: bool = False
    is_staged: bool = False
    is_circular: bool = False
    removes: bool = False
    binary_refusal: str | None = None
    need: Need = field(default_factory=Need)
    bound: str | None = None
    before: int = 0
    rows: int = 0
    removed: int = 0
    held: int = 0
    missed: int = 0
    read: int = 0
    rejected: int = 0
    size: int = 0
    format: str = "text"

    @property
    def name(self) -> TableName:
        """The destination's table."""
        return TableName(self.target.relation.schema, self.target.relation.name)

    @property
    def counts(self) -> Counts:
        """What the run wrote, removed and read, once it is all applied."""
        return Counts(self.rows + self.removed, self.read, self.rejected, self.size)

    def apply(self, connection: Connection, mode: Mode) -> None:
        """Bring what is staged into the table.

        Raises psycopg.Error where the server refuses it.
        """
        if self.is_staged:
            self.look_for_missed(connection)
            self.note(self.bring(connection, mode, self.target))
        else:
            self.held = self.rows + (0 if mode == "replace" else self.before)

    def bring(self, connection: Connection, mode: Mode, target: Target) -> Applied:
        """Bring all rows that are staged for `target`, which is this one's or a trial of it."""
        if not self.is_compared:
            return strategies.insert_all(connection, target)
        if mode == "merge" or self.need.corrects:
            return strategies.merge(connection, target, delete_missing=self.removes)
        return strategies.append(connection, target)

    def note(self, applied: Applied) -> None:
        """Count what was brought."""
        self.rows = applied.inserted + applied.updated
        self.removed = applied.removed
        self.held = self.before + applied.inserted - applied.removed

    def remove_missing(self, connection: Connection) -> None:
        """Delete what the source no longer has, where that is wanted."""
        if self.removes:
            removed = strategies.remove_missing(connection, self.target)
            self.removed += removed
            self.held -= removed

    def require_not_shrunk(self, mode: Mode, limit: float) -> None:
        """Raise CopydError where more of the rows vanish than `limit` allows."""
        if mode == "replace" or self.removes:
            left = self.held if mode == "replace" else self.before - self.removed
            reason = shrink_refusal(self.before, left, limit)
            if reason is not None:
                raise CopydError(f"table {self.there.table}: {reason}")

    def look_for_missed(self, connection: Connection) -> None:
        """In a full look after bounded ones: count what these had left out."""
        cursor = self.reading.cursor
        if self.is_compared and cursor is not None and self.bound is not None:
            self.missed = strategies.missed(connection, self.target, cursor.name, self.bound)
