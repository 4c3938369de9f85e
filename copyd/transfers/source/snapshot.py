"""The snapshot that every pass of a run sees, and the position of the source when it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.connection import one_row
from copyd.loading import Position
from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.connection import Connection
    from copyd.transfers.source.readings import Reading
    from copyd.transfers.transfer import Transfer

    Describe = Callable[[Connection, Transfer, str], tuple[Reading, ...]]

_POSITION = statement("copyd.transfers.source", "position")


_SNAPSHOT = statement("copyd.transfers.source", "snapshot")


EXPORTED, NOT_EXPORTED = sql.SQL("pg_catalog.pg_export_snapshot()"), sql.SQL("NULL")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What every pass of a run sees.

    ``position`` was asked for before it: the snapshot holds at least that. ``reached`` was asked for
    after it: it holds at most that. ``identifier``: for other sessions, which import it; None where
    only one has it. ``xmin``: all older transactions of the source had ended. ``taken_at``: the
    source's clock, as text. ``oldest_writer``: the age in seconds of the oldest open transaction that
    writes; None where none is seen. ``data_timestamp``: the time of the data (Unix time), as in
    SnapshotTaken.
    """

    position: Position
    reached: Position
    identifier: str | None
    text: str
    xmin: int
    xmax: int
    taken_at: str
    oldest_writer: float | None
    is_standbys: bool = False
    data_timestamp: float | None = None

    @property
    def is_safely_exported(self) -> bool:
        """Whether another session that imports it sees the same.

        A standby keeps running transactions where it keeps subtransactions, and exports neither
        where there are too many of them: tried on PostgreSQL 13 to 18, whoever imported it saw rows
        appear as they were committed, or marked them as aborted for everybody.
        """
        return not self.is_standbys or self.xmin == self.xmax


def take(connection: Connection, position: Position, export: sql.SQL) -> Snapshot:
    """Take the snapshot of a statement; `export` is EXPORTED or NOT_EXPORTED."""
    row = one_row(connection, _SNAPSHOT.format(export=export))
    return Snapshot(position, position_of(connection), *row)


def position_of(connection: Connection) -> Position:
    """Ask where the history of a server stands now."""
    row = one_row(connection, _POSITION)
    return Position(*row)
