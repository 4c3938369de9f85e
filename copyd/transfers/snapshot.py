"""The source of a run, held: its tables locked and described, then one snapshot of them.

A connection that never carries a COPY holds them: a COPY that is cancelled aborts its transaction,
and here that cannot take the snapshot with it. The lock comes before the snapshot, because TRUNCATE
and rewriting ALTER TABLE are not MVCC-safe: an older snapshot sees the table empty. Source:
PostgreSQL documentation, "MVCC Caveats".
"""

from __future__ import annotations

import secrets
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import IsolationLevel, errors, sql
from psycopg.pq import TransactionStatus

from copyd.errors import CopydError
from copyd.loading.columns import copied, selected
from copyd.loading.ledger import Position
from copyd.loading.relations import look_up, query_columns, resolve
from copyd.loading.session import begin, looking_in, set_local
from copyd.names import Pattern
from copyd.transfers.backend import cut
from copyd.transfers.reading import Reading
from copyd.transfers.transfer import PLAIN, Query
from copyd.transfers.wording import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from copyd.loading.relations import Column, Relation
    from copyd.transfers.transfer import Tables, Transfer

    Connection = psycopg.Connection[Any]
    Describe = Callable[[Connection, Transfer, str], tuple[Reading, ...]]

LOCK_TIMEOUT = "10s"
"""How long to wait for a table of the source that somebody else has locked."""

SOURCE_SETTINGS = {
    "lock_timeout": LOCK_TIMEOUT,
    "row_security": "off",  # rows that a policy hides are an error, not a smaller copy
}

_ENDED = (errors.InvalidParameterValue, errors.UndefinedObject, errors.ObjectNotInPrerequisiteState)
"""What servers say, each at its moment, of a snapshot whose session has ended."""

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
_EXPORTED, _NOT_EXPORTED = sql.SQL("pg_catalog.pg_export_snapshot()"), sql.SQL("NULL")


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


@dataclass
class Source:
    """The source while a run lasts; one thread uses it.

    ``witness``: a number whose advisory lock the holding session has; who cannot get that lock is
    connected to the source's own database. ``holder``: that session's process id on its server.
    """

    transfer: Transfer
    connection: Connection
    readings: tuple[Reading, ...]
    identity: Position
    witness: int
    holder: int
    database: str
    _snapshot: Snapshot | None = field(default=None, init=False)
    _own_reader: Connection | None = field(default=None, init=False)
    _reading: Connection | None = field(default=None, init=False)

    @property
    def snapshot(self) -> Snapshot:
        """The run's snapshot, taken when it is first asked for.

        It is another one after a pass that failed on a standby from which it cannot be exported.
        Raises psycopg.Error where the source is lost.
        """
        if self._snapshot is None:
            position = _position(self.connection)
            found = _take(self.connection, position, _EXPORTED)
            if not found.is_safely_exported:
                self._own_reader = self._open_reader()
                found = _take(self._own_reader, position, _NOT_EXPORTED)
            self._snapshot = found
        return self._snapshot

    @property
    def major(self) -> int:
        """The major version of the server."""
        return self.connection.info.server_version // 10_000

    @property
    def estimated_rows(self) -> int | None:
        """Rows to expect of all tables, None where nobody knows."""
        estimates = [reading.estimated_rows for reading in self.readings]
        known = [estimate for estimate in estimates if estimate is not None]
        return sum(known) if len(known) == len(estimates) else None

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Give another connection that sees the snapshot; COPY runs there."""
        identifier = self.snapshot.identifier
        if identifier is not None:
            with closing(self._open_reader(identifier)) as connection:
                self._reading = connection
                yield connection
        elif self._own_reader is not None:
            try:
                yield self._own_reader
            finally:
                if self._own_reader.info.transaction_status is not TransactionStatus.INTRANS:
                    self.close()

    def require_held(self) -> None:
        """See that what was read was locked all the time.

        Raises psycopg.Error where the session that holds the locks is gone.
        """
        self.connection.execute("SELECT")

    def cut(self) -> None:
        """Cut all connections under whoever waits for them: he gets an error instead."""
        for connection in (self.connection, self._reading, self._own_reader):
            if connection is not None:
                cut(connection)

    def close(self) -> None:
        """Forget a snapshot that only one session has."""
        if self._own_reader is not None:
            self._own_reader.close()
            self._own_reader = self._snapshot = None

    def _open_reader(self, identifier: str | None = None) -> Connection:
        connection = self.transfer.source.connect(like=self.connection)
        try:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            share(connection, identifier)
        except BaseException:
            connection.close()
            raise
        return connection


def share(connection: Connection, identifier: str | None) -> None:
    """Begin a reader's transaction; it sees the snapshot that was exported as `identifier`.

    Raises psycopg.OperationalError where the session that exported it has ended.
    """
    if identifier is not None:
        try:
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(identifier))
        except _ENDED as error:
            said = f"the session that holds the snapshot has ended: {facts(error)}"
            raise psycopg.OperationalError(said) from error
    set_local(connection, **SOURCE_SETTINGS)


@contextmanager
def hold(
    transfer: Transfer, *, describe: Describe | None = None, **settings: str
) -> Iterator[Source]:
    """Hold what `transfer` reads while the block lasts: nobody can change or empty it.

    ``describe``: another way to find and lock it; ``settings`` come on top of a run's own.

    READ COMMITTED, so that what is looked up after the lock is what the lock protects, and the
    snapshot is that of its own statement.

    Raises CopydError where the source cannot be reached or has not what the transfer names; the
    cause is what the server said.
    """
    server = transfer.source
    with closing(server.connect()) as connection:  # it writes nothing: no COMMIT
        connection.read_only = True
        try:
            session = begin(connection, **{**SOURCE_SETTINGS, **settings})
            readings = (describe or _describe)(connection, transfer, session.path)
            witness = secrets.randbits(62)
            connection.execute("SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", [witness])
            identity = _position(connection)
        except (psycopg.Error, CopydError) as error:
            raise CopydError(f"source {server.name}: {facts(error)}") from error
        database = connection.info.dbname
        source = Source(transfer, connection, readings, identity, witness, session.pid, database)
        with closing(source):
            yield source


def _take(connection: Connection, position: Position, export: sql.SQL) -> Snapshot:
    row = connection.execute(sql.SQL(_FACTS).format(export)).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return Snapshot(position, _position(connection), *row)


def _position(connection: Connection) -> Position:
    row = connection.execute(_POSITION).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return Position(*row)


def _describe(connection: Connection, transfer: Transfer, own_path: str) -> tuple[Reading, ...]:
    what = transfer.what
    if isinstance(what, Query):
        return (describe_query(connection, transfer, what, own_path),)
    found = find(connection, transfer, what, own_path)
    for relation in found:
        connection.execute(lock(relation))
    relations = find(connection, transfer, what, own_path)
    if [each.oid for each in relations] != [each.oid for each in found]:
        raise CopydError("a table was replaced by another just now: run it again")
    return tuple(reading_of(relation, transfer, what) for relation in relations)


def describe_query(
    connection: Connection, transfer: Transfer, query: Query, own_path: str
) -> Reading:
    """Find out what `query` yields; what it reads is locked."""
    with looking_in(connection, own_path):
        columns = query_columns(connection, query.text)
    return Reading.of_query(query, columns, key=transfer.key)


def find(
    connection: Connection, transfer: Transfer, what: Tables, own_path: str
) -> tuple[Relation, ...]:
    """Find the tables; a name without a schema is looked up in the role's own search path.

    Raises CopydError where one is not there.
    """
    if all("." in name for name in what.names):
        patterns = [Pattern.parse(name) for name in what.names]
        return resolve(connection, patterns, without=[transfer.ledger or ""])
    with looking_in(connection, own_path):
        return tuple(look_up(connection, name) for name in what.names)


def lock(relation: Relation) -> sql.Composed:
    """Return the statement that keeps others from emptying or rewriting `relation`."""
    if relation.is_lockable:
        only = sql.SQL("ONLY " if relation.kind == "r" else "")
        return sql.SQL("LOCK TABLE {}{} IN ACCESS SHARE MODE").format(only, relation.identifier)
    # LOCK TABLE does not take it, but reading it locks it just so.
    return sql.SQL("SELECT FROM {} LIMIT 0").format(relation.identifier)


def reading_of(relation: Relation, transfer: Transfer, what: Tables) -> Reading:
    """Say what is read of `relation`.

    Raises CopydError where it lacks a column.
    """
    said = what.options.get(relation.label, PLAIN)
    left_out: tuple[Column, ...] = ()
    if said.columns is not None:
        columns = selected(relation.columns, said.columns)
    else:
        columns = copied(relation.columns)
        left_out = tuple(column for column in relation.columns if column.is_generated)
    name = said.cursor or transfer.cursor
    cursor = None if name is None else _cursor(relation, name)
    if cursor is not None:
        _require_overlap(cursor, columns, transfer)
    return Reading(
        name=relation.label,
        into=relation.label if transfer.ledger is not None else what.names[0],
        relation=relation,
        columns=columns,
        where=said.where,
        cursor=cursor,
        key=said.key or transfer.key,
        left_out=left_out,
    )


def _cursor(relation: Relation, name: str) -> Column:
    for column in relation.columns:
        if column.name == name:
            return column
    raise CopydError(f"table {relation.label} has no column {name}, which is to be its cursor")


def _require_overlap(cursor: Column, columns: Sequence[Column], transfer: Transfer) -> None:
    """Raise CopydError where the overlap is not one that the cursor can be looked behind by."""
    overlap = transfer.overlap
    if overlap == "all":
        return
    kinds = {"D": timedelta, "N": int}
    wanted = kinds.get(cursor.category)
    if wanted is None or not isinstance(overlap, wanted):
        said = {"D": 'a duration such as "1h"', "N": "a number"}.get(cursor.category, '"all"')
        raise CopydError(f"cursor {cursor.name} is {cursor.type}: its overlap must be {said}")
    if cursor.name not in {column.name for column in columns}:
        raise CopydError(
            f"cursor {cursor.name} is not among the columns to copy, which a full look compares it "
            'by: copy it, or use overlap = "all"'
        )
