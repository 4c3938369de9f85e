"""The ledger: what each destination table holds, written in the transaction of the data itself.

Everything here runs in a transaction that the caller opened, READ COMMITTED, and waits for a row
that another run holds as long as that transaction's ``lock_timeout`` allows.
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

    import psycopg
    from psycopg.rows import DictRow

    from copyd.connection import Connection

_READ = [name for name in ledger_table.COLUMNS if name != "previous_run"]
_MAY_BE_NULL = {"horizon", "full_horizon", "mark", "filenode", "full_at"}
_WANTED = """
(SELECT wanted.schema, wanted.name
   FROM ROWS FROM (pg_catalog.unnest({schemas}::pg_catalog.text[]),
                   pg_catalog.unnest({names}::pg_catalog.text[])) AS wanted (schema, name))
"""
# ON CONFLICT waits for a row that is not committed yet, which no SELECT sees, and locks the row
# even where it then does not update. In one order, so that two runs cannot deadlock.
_HOLD = """
INSERT INTO {} AS held (schema, name)
SELECT wanted.schema, wanted.name FROM {} AS wanted
 ORDER BY wanted.schema COLLATE pg_catalog."C", wanted.name COLLATE pg_catalog."C"
    ON CONFLICT (schema, name) DO UPDATE SET run = held.run WHERE false
"""
_WRITE = """
INSERT INTO {} AS held ({}) VALUES ({})
    ON CONFLICT (schema, name) DO UPDATE SET ({}) = ({}),
       previous_run = CASE WHEN held.run = excluded.run THEN held.previous_run ELSE held.run END
"""


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the history of which cluster a snapshot was taken; ``lsn`` as a number of bytes."""

    system_identifier: int
    timeline: int
    lsn: int

    @property
    def lsn_text(self) -> str:
        """The LSN as PostgreSQL spells it."""
        return f"{self.lsn >> 32:X}/{self.lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """Return the number that a ``pg_lsn`` such as ``16/B374D848`` stands for.

    Raises ValueError where it is none.
    """
    high, low = (int(half, 16) for half in text.split("/"))
    return high << 32 | low


@dataclass(frozen=True, slots=True)
class Entry:
    """What one destination table holds, ``schema`` and ``name`` being its own.

    ``relation`` is its oid when it was loaded, ``filenode`` that of the source's table.
    ``full_at`` is when everything was looked at last, ``committed_at`` the destination's time of
    writing: `Ledger.record` sets it, whatever is given.
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
    """The ledger of one database, in the schema of this name."""

    schema: str = "copyd"

    def prepare(self, connection: Connection) -> bool:
        """See that the ledger can be trusted, in one query; create it where there is none.

        True where it was created: commit soon, for other runs wait until then. Raises CopydError
        where it may not be created, or where others could have, or have, put something there.
        """
        return ledger_table.prepare(connection, self.schema)

    def refusals(self, connection: Connection) -> tuple[str, ...]:
        """Say all that `prepare` would raise; nothing is created."""
        return tuple(ledger_table.refusals(ledger_table.look(connection, self.schema), self.schema))

    def creation(self, connection: Connection) -> tuple[sql.Composed, ...]:
        """Return the statements with which `prepare` would create the ledger, if it would."""
        return ledger_table.creation(connection, self.schema)

    def look(
        self, connection: Connection, names: Iterable[TableName]
    ) -> dict[TableName, Entry | None]:
        """Return the rows of these tables as they are, without a lock; they may change any time.

        None where no load was ever committed, as without a ledger. Raises as `read` does.
        """
        wanted = set(names)
        return dict.fromkeys(wanted) if self.creation(connection) else self.read(connection, wanted)

    def read(
        self,
        connection: Connection,
        names: Iterable[TableName],
        *,
        first: Callable[[], object] = lambda: None,
    ) -> dict[TableName, Entry | None]:
        """Return the rows of these tables, of a ledger that is there.

        None where no load was ever committed. `first`: executes `hold`, in the same round trip, so
        that they cannot change. Raises CopydError where somebody has emptied columns.
        """
        wanted = sorted(set(names))
        with self._cursor(connection) as cursor:
            with connection.pipeline():
                first()
                cursor.execute(self._select(wanted))
            found = {TableName(row["schema"], row["name"]): row for row in cursor}
        return {name: _entry(found[name]) if name in found else None for name in wanted}

    def last_committed(self, connection: Connection, transfer: str) -> datetime | None:
        """Return since when all tables of `transfer` were loaded, by this server's clock.

        That is the oldest of their last COMMITs. None where there is none, or the ledger cannot be
        trusted.
        """
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
        """Return the statement that says what a table holds from this COMMIT on; hold its row first.

        `later`: in the place of what `entry` says in these columns.
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
        """Whether `run` committed a load of this table, said under the row's lock.

        A COMMIT that is under way, or waits for a standby, is waited for. What is told stays true
        when one other run has committed since, not when several have. Raises
        psycopg.errors.LockNotAvailable while it cannot be told.
        """
        return run in self.last_runs(connection, schema, name)

    def last_runs(
        self, connection: Connection, schema: str, name: str
    ) -> tuple[str | None, str | None]:
        """Return the run that loaded this table last, and the one before it, as `has_committed` asks.

        None where there was none.
        """
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
        """Return the statement that notes that all is done that follows the COMMIT of the ``run``.

        Hold the rows first; those of other runs stay as they are.
        """
        note = (
            "UPDATE {} SET after_commit_done = true"
            " WHERE (schema, name) IN {} AND run = {}::pg_catalog.text"
        )
        return sql.SQL(note).format(self._table, _wanted(names), Later("run"))

    def hold(self, names: Iterable[TableName]) -> sql.Composed:
        """Return the statement that locks the rows of these tables, each made where it is missing.

        It raises psycopg.errors.LockNotAvailable where another run holds one of them.
        """
        return sql.SQL(_HOLD).format(self._table, _wanted(names))

    @property
    def _table(self) -> sql.Identifier:
        return sql.Identifier(self.schema, ledger_table.NAME)

    def _select(self, names: Iterable[TableName]) -> sql.Composed:
        return sql.SQL("SELECT {} FROM {} WHERE (schema, name) IN {}").format(
            sql.SQL(", ").join(map(_readable, _READ)), self._table, _wanted(names)
        )

    def _cursor(self, connection: Connection) -> psycopg.Cursor[DictRow]:
        """Binary, so that no DateStyle comes between."""
        return connection.cursor(binary=True, row_factory=dict_row)


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
    """Return the row as an entry; None where it was never more than locked."""
    if row["run"] is None:
        return None
    table = TableName(row["schema"], row["name"])
    empty = [name for name, value in row.items() if value is None and name not in _MAY_BE_NULL]
    if empty:
        raise CopydError(
            f"the ledger's row of table {table} was changed by hand, it lacks {', '.join(empty)}; "
            "delete that row and load the table again, adopting what it holds"
        )
    position = Position(
        row.pop("system_identifier"), row.pop("timeline"), parse_lsn(row.pop("lsn"))
    )
    return Entry(position=position, **row)
