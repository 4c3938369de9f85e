"""The snapshot that every pass of a run sees, and the position of the source when it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.connection import one_row
from copyd.loading import Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.connection import Connection
    from copyd.transfers.source.readings import Reading
    from copyd.transfers.transfer import Transfer

    Describe = Callable[[Connection, Transfer, str], tuple[Reading, ...]]

# The LSN is asked for before the snapshot, as what the snapshot surely holds, and after it, as what
# it may hold: a later run finds the one not below the other. Inserted, not written: asynchronous
# commits are seen before they are written. pg_control_checkpoint lags behind a promotion, so the name of the WAL file says it.
_POSITION = """
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),
       CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)
                    FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r)
            ELSE ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)
                 )::bit(32)::integer
       END,
       (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
             ELSE pg_catalog.pg_current_wal_insert_lsn() END - '0/0'::pg_lsn)::bigint
"""


_FACTS = """
SELECT {}, pg_catalog.pg_current_snapshot()::text,
       pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint,
       pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint,
       pg_catalog.statement_timestamp()::text,
       (SELECT extract(epoch FROM pg_catalog.clock_timestamp() - min(xact_start))::float8
          FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL),
       pg_catalog.pg_is_in_recovery(),
       extract(epoch FROM CASE WHEN pg_catalog.pg_is_in_recovery()
                               THEN pg_catalog.pg_last_xact_replay_timestamp()
                               ELSE pg_catalog.statement_timestamp() END)::float8
"""


EXPORTED, NOT_EXPORTED = sql.SQL("pg_catalog.pg_export_snapshot()"), sql.SQL("NULL")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What every pass of a run sees.

    ``position`` comes before it, ``reached`` after it. ``identifier``: by which other sessions import it; None where only one has it. ``xmin``: below it, all transactions of the source had ended. ``taken_at``: the source's clock,
    as text. ``oldest_writer``: seconds since the oldest open transaction that writes began; None
    where none is seen. ``data_timestamp``: how old what it sees is (Unix time), as SnapshotTaken has
    it.
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
    row = one_row(connection, sql.SQL(_FACTS).format(export))
    return Snapshot(position, position_of(connection), *row)


def position_of(connection: Connection) -> Position:
    """Ask where the history of a server stands now."""
    row = one_row(connection, _POSITION)
    return Position(*row)
