"""The ledger: a row for each destination table, written in the transaction of the data itself.

Everything runs in the caller's transaction, READ COMMITTED; its ``lock_timeout`` limits the wait for
rows held by another run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.rows import dict_row, tuple_row

from copyd.errors import CopydError
from copyd.loading import ledger_table
from copyd.loading.step import Later
from copyd.names import TableName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from psycopg.rows import DictRow

    from copyd.connection import Connection

_READ = [name for name in ledger_table.COLUMNS if name != "previous_run"]
_MAY_BE_NULL = {"horizon", "full_horizon", "mark", "filenode", "full_at"}
_WANTED = """
(SELECT wanted.schema, wanted.name
   FROM ROWS FROM (pg_catalog.unnest({schemas}::pg_catalog.text[]),
                   pg_catalog.unnest({names}::pg_catalog.text[])) AS wanted (schema, name))
"""
# Decision: The ledger decides, and is not trusted blindly
# ON CONFLICT waits for an uncommitted row, which SELECT does not see, and locks the row even if it
# updates nothing. All runs use the same order, so that they cannot deadlock.
_HOLD = """
INSERT INTO {} AS held (schema, name)
SELECT wanted.schema, wanted.name FROM {} AS wanted
 ORDER BY wanted.schema COLLATE pg_catalog."C", wanted.name COLLATE pg_catalog."C"
    ON CONFLICT (schema, name) DO UPDATE SET run = held.run WHERE false
"""
# The run before the last stays known, for `last_runs`; writing again within one run does not count.
_WRITE = """
INSERT INTO {} AS held ({}) VALUES ({})
    ON CONFLICT (schema, name) DO UPDATE SET ({}) = ({}),
       previous_run = CASE WHEN held.run = excluded.run THEN held.previous_run ELSE held.run END
"""


@dataclass(frozen=True, slots=True)
class Position:
    """The origin of a snapshot: cluster, timeline, and ``lsn`` as a number of bytes."""

    # Decision: Position: system identifier, timeline, LSN

    system_identifier: int
    timeline: int
    lsn: int

    @property
    def lsn_text(self) -> str:
        return f"{self.lsn >> 32:X}/{self.lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """Return the number of a ``pg_lsn`` such as ``16/B374D848``; raises ValueError."""
    high, low = (int(half, 16) for half in text.split("/"))
    return high << 32 | low


@dataclass(frozen=True, slots=True)
class Entry:
    """The last load of a destination table, ``schema`` and ``name``.

    ``relation`` was its oid then, ``filenode`` that of the source's table. ``full_at``: the last
    full scan. ``committed_at``: by the destination's clock, set by `Ledger.record`.
    """

    schema: str
    name: str
    relation: int
    transfer: str
    run: str
    position: Position
    snapshot: str
    horizon: int | None
    full_horizon: int | None
    mark: str | None
    filenode: int | None
    rows: int
    size: int
    format: str
    fingerprint: str
    committed_at: datetime
    full_at: datetime | None
    after_commit_done: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of a database, in a schema of copyd's own."""

    schema: str = "copyd"

    def prepare(self, connection: Connection) -> bool:
        """Check or create the ledger; see `ledger_table.prepare`."""
        return ledger_table.prepare(connection, self.schema)

    def refusals(self, connection: Connection) -> tuple[str, ...]:
        """Return all errors that `prepare` would raise; nothing is created."""
        return tuple(ledger_table.refusals(ledger_table.look(connection, self.schema), self.schema))

    def creation(self, connection: Connection) -> tuple[sql.Composed, ...]:
        """Return the statements to create the ledger; none if there is a ledger."""
        return ledger_table.creation(connection, self.schema)

    def look(
        self, connection: Connection, names: Iterable[TableName]
    ) -> dict[TableName, Entry | None]:
        """Read the rows of these tables without a lock, also if there is no ledger; see `read`."""
        wanted = set(names)
        return dict.fromkeys(wanted) if self.creation(connection) else self.read(connection, wanted)

    def read(
        self,
        connection: Connection,
        names: Iterable[TableName],
        *,
        first: Callable[[], object] = lambda: None,
    ) -> dict[TableName, Entry | None]:
        """Read the rows of these tables; None if no load was ever committed.

        `first` is called in the same round trip: it executes `hold`, so that rows cannot change.
        Raises CopydError if a row was emptied by hand.
        """
        wanted = sorted(set(names))
        columns = sql.SQL(", ").join(map(_readable, _READ))
        select = sql.SQL("SELECT {} FROM {} WHERE (schema, name) IN {}")
        # Binary, so that DateStyle does not matter.
        with connection.cursor(binary=True, row_factory=dict_row) as cursor:
            with connection.pipeline():
                first()
                cursor.execute(select.format(columns, self._table, _wanted(wanted)))
            found = {TableName(row["schema"], row["name"]): row for row in cursor}
        return {name: _entry(found[name]) if name in found else None for name in wanted}

    def last_committed(self, connection: Connection, transfer: str) -> datetime | None:
        """Return the oldest of the tables' last COMMITs, by this server's clock.

        None if `transfer` has none, or the ledger cannot be trusted.
        """
        # Decision: A time of success comes from the ledgers, an age of data does not
        if self.refusals(connection) or self.creation(connection):
            return None
        query = sql.SQL(
            "SELECT min(committed_at) FROM {} WHERE transfer OPERATOR(pg_catalog.=) %s"
        ).format(self._table)
        with connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(query, [transfer]).fetchone()
        found: datetime | None = None if row is None else row[0]
        return found

    def record(self, entry: Entry, later: Mapping[str, Later] | None = None) -> sql.Composed:
        """Return the statement to write `entry`; `hold` its row first.

        `later`: values known only at execution, instead of those of `entry`.
        """
        position = entry.position
        values: dict[str, object] = {
            "system_identifier": position.system_identifier,
            "timeline": position.timeline,
            "lsn": position.lsn_text,
        }
        values |= {name: getattr(entry, name) for name in _READ if name not in values}
        values |= later or {}
        excluded = [sql.SQL("excluded.") + sql.Identifier(name) for name in _READ]
        names = sql.SQL(", ").join(map(sql.Identifier, _READ))
        return sql.SQL(_WRITE).format(
            self._table,
            names,
            sql.SQL(", ").join(_written(name, values[name]) for name in _READ),
            names,
            sql.SQL(", ").join(excluded),
        )

    def has_committed(self, connection: Connection, schema: str, name: str, run: str) -> bool:
        """Whether `run` committed a load of this table; not known after two other COMMITs.

        Waits for COMMITs in progress, even if they wait for a standby. Raises
        psycopg.errors.LockNotAvailable after ``lock_timeout``.
        """
        return run in self.last_runs(connection, schema, name)

    def last_runs(
        self, connection: Connection, schema: str, name: str
    ) -> tuple[str | None, str | None]:
        """Return the last run that loaded this table and its predecessor; waits as `has_committed`."""
        names = [TableName(schema, name)]
        read = sql.SQL("SELECT run, previous_run FROM {} WHERE (schema, name) IN {}").format(
            self._table, _wanted(names)
        )
        with connection.cursor(row_factory=tuple_row) as cursor:
            with connection.pipeline():
                connection.execute(self.hold(names))
                cursor.execute(read)
            row = cursor.fetchone()
        return row or (None, None)

    def after_commit_done(self, names: Iterable[TableName]) -> sql.Composed:
        """Return the statement to note that ``run`` completed the work after its COMMIT.

        Rows of other runs stay unchanged; `hold` the rows first.
        """
        note = (
            "UPDATE {} SET after_commit_done = true"
            " WHERE (schema, name) IN {} AND run = {}::pg_catalog.text"
        )
        return sql.SQL(note).format(self._table, _wanted(names), Later("run"))

    def hold(self, names: Iterable[TableName]) -> sql.Composed:
        """Return the statement to lock the rows of these tables, created if missing.

        The statement raises psycopg.errors.LockNotAvailable if another run holds a row.
        """
        return sql.SQL(_HOLD).format(self._table, _wanted(names))

    @property
    def _table(self) -> sql.Identifier:
        return sql.Identifier(self.schema, ledger_table.NAME)


def _readable(name: str) -> sql.Composable:
    column = sql.Identifier(name)
    return sql.SQL("{0}::pg_catalog.text AS {0}").format(column) if name == "lsn" else column


def _written(name: str, value: object) -> sql.Composable:
    if name == "committed_at":
        return sql.SQL("pg_catalog.clock_timestamp()")
    kind = sql.SQL(ledger_table.COLUMNS[name].split()[0])
    return sql.SQL("{}::{}").format(value, kind)


def _wanted(names: Iterable[TableName]) -> sql.Composed:
    wanted = sorted(set(names))
    schemas = [name.schema for name in wanted]
    return sql.SQL(_WANTED).format(schemas=schemas, names=[name.name for name in wanted])


def _entry(row: DictRow) -> Entry | None:
    if row["run"] is None:
        return None
    table = TableName(row["schema"], row["name"])
    empty = [name for name, value in row.items() if value is None and name not in _MAY_BE_NULL]
    if empty:
        raise CopydError(
            f"the ledger's row of table {table} was changed by hand and lacks {', '.join(empty)}; "
            "delete that row and load the table again, adopting what it holds"
        )
    lsn = parse_lsn(row.pop("lsn"))
    position = Position(row.pop("system_identifier"), row.pop("timeline"), lsn)
    return Entry(position=position, **row)
