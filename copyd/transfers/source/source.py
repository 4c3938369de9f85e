"""The source of a run, held: its tables locked and described, then one snapshot of them.

A connection that never carries a COPY holds them: a COPY that is cancelled aborts its transaction,
and here that cannot take the snapshot with it. The lock comes before the snapshot, because TRUNCATE
and rewriting ALTER TABLE are not MVCC-safe: an older snapshot sees the table empty. Source:
PostgreSQL documentation, "MVCC Caveats".
"""

from __future__ import annotations

import secrets
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg import IsolationLevel, errors, sql
from psycopg.pq import TransactionStatus

from copyd.catalog import begin, set_local
from copyd.errors import CopydError
from copyd.transfers.backend import cut
from copyd.transfers.faults import facts
from copyd.transfers.source.snapshot import EXPORTED, NOT_EXPORTED, Snapshot, position_of, take
from copyd.transfers.source.tables import describe_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from copyd.connection import Connection
    from copyd.loading import Position
    from copyd.transfers.source.readings import Reading
    from copyd.transfers.transfer import Transfer

    Describe = Callable[[Connection, Transfer, str], tuple[Reading, ...]]

LOCK_TIMEOUT = "10s"  # how long to wait for a table of the source that somebody else has locked

SOURCE_SETTINGS = {
    "lock_timeout": LOCK_TIMEOUT,
    "row_security": "off",  # rows that a policy hides are an error, not a smaller copy
}

_ENDED = (errors.InvalidParameterValue, errors.UndefinedObject, errors.ObjectNotInPrerequisiteState)
"""What servers say, each at its moment, of a snapshot whose session has ended."""


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
            position = position_of(self.connection)
            found = take(self.connection, position, EXPORTED)
            if not found.is_safely_exported:
                self._own_reader = self._open_reader()
                found = take(self._own_reader, position, NOT_EXPORTED)
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
                yield connection
        elif self._own_reader is not None:
            try:
                yield self._own_reader
            finally:
                if self._own_reader.info.transaction_status is not TransactionStatus.INTRANS:
                    self.close()

    def require_held(self) -> None:
        """Check that the locks were held throughout; raises psycopg.Error if they are gone."""
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
        # Known to `cut` before the first statement, which a silent server would not answer.
        connection = self._reading = self.transfer.source.connect(like=self.connection)
        try:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            share(connection, identifier)
        except BaseException:
            connection.close()
            raise
        return connection


def share(connection: Connection, identifier: str | None) -> None:
    """Begin a reader in an exported snapshot; raises OperationalError if its session ended."""
    if identifier is not None:
        try:
            connection.execute(import_snapshot(identifier))
        except _ENDED as error:
            said = f"the session that holds the snapshot has ended: {facts(error)}"
            raise psycopg.OperationalError(said) from error
    set_local(connection, **SOURCE_SETTINGS)


def import_snapshot(identifier: str) -> sql.Composed:
    """Return the statement that has a transaction see the snapshot exported as `identifier`."""
    return sql.SQL("SET TRANSACTION SNAPSHOT {}").format(identifier)


@contextmanager
def hold(
    transfer: Transfer,
    *,
    describe: Describe | None = None,
    guard: Callable[[Callable[[], None]], AbstractContextManager[object]] = nullcontext,
    settings: Mapping[str, str] = SOURCE_SETTINGS,
) -> Iterator[Source]:
    """Hold what `transfer` reads while the block lasts: nobody can change or empty it.

    ``describe``: another way to find and lock it; ``settings`` come on top of a run's own. ``guard``
    receives a function that cuts the connection, for as long as it is open.

    READ COMMITTED, so that what is looked up after the lock is what the lock protects, and the
    snapshot is that of its own statement.

    Raises CopydError where the source cannot be reached or has not what the transfer names; the
    cause is what the server said.
    """
    server = transfer.source
    # Nothing is written: no COMMIT.
    with closing(server.connect()) as connection, guard(partial(cut, connection)):
        connection.read_only = True
        try:
            session = begin(connection, **{**SOURCE_SETTINGS, **settings})
            readings = (describe or describe_all)(connection, transfer, session.path)
            witness = secrets.randbits(62)
            connection.execute("SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", [witness])
            identity = position_of(connection)
        except (psycopg.Error, CopydError) as error:
            raise CopydError(f"source {server.name}: {facts(error)}") from error
        database = connection.info.dbname
        source = Source(transfer, connection, readings, identity, witness, session.pid, database)
        with closing(source):
            yield source
