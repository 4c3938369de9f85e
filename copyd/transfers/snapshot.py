"""One snapshot of the source, held by a connection that never carries a COPY.

A COPY that is cancelled aborts its transaction; here that cannot take the snapshot with it. The
lock comes before the snapshot, because TRUNCATE and rewriting ALTER TABLE are not MVCC-safe: an
older snapshot sees the table empty. Source: PostgreSQL documentation, "MVCC Caveats".
"""

from __future__ import annotations

import secrets
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import IsolationLevel, sql

from copyd.errors import CopydError
from copyd.loading.columns import copied
from copyd.loading.relations import Column, Relation, look_up, query_columns
from copyd.loading.session import LOCK_TIMEOUT, set_local
from copyd.transfers.server import one_line
from copyd.transfers.transfer import Query, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.transfers.transfer import Transfer

    Connection = psycopg.Connection[Any]


SOURCE_SETTINGS = {
    "lock_timeout": LOCK_TIMEOUT,
    "row_security": "off",  # rows that a policy hides are an error, not a smaller copy
}
TABLE_ROWS = sql.SQL("{table} ({columns})")
SELECTED_ROWS = sql.SQL("(SELECT {columns} FROM {table})")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the passes of a run have in common.

    ``witness``: a number whose advisory lock the holding session has; who cannot get that lock is
    connected to the source's own database. ``holder``: that session's process id on its server.
    ``relation`` is None for a query.
    """

    transfer: Transfer
    identifier: str
    witness: int
    holder: int
    relation: Relation | None
    columns: tuple[Column, ...]

    @property
    def estimated_rows(self) -> int | None:
        """Rows to expect, None where nobody knows."""
        return self.relation.estimated_rows if self.relation is not None else None

    def statement(self, connection: Connection) -> str:
        """Return the COPY statement that reads the snapshot's rows."""
        what = self.transfer.what
        if isinstance(what, Table):
            assert self.relation is not None  # noqa: S101 - `take` looked the table up
            names = sql.SQL(", ").join(sql.Identifier(column.name) for column in self.columns)
            shape = TABLE_ROWS if self.relation.is_table else SELECTED_ROWS
            table = self.relation.identifier
            rows = shape.format(table=table, columns=names).as_string(connection)
        else:
            rows = f"({what.text}\n)"
        return f"COPY {rows} TO STDOUT (FORMAT {self.transfer.format})"


@contextmanager
def take(transfer: Transfer) -> Iterator[Snapshot]:
    """Hold a snapshot of the transfer's source while the block lasts.

    READ COMMITTED, so that what is looked up after the lock is what the lock protects, and the
    snapshot is that of its own statement.

    Raises CopydError where the source cannot be reached or has not what the transfer names.
    """
    source = transfer.source
    with closing(source.connect()) as connection:  # it writes nothing: no COMMIT
        connection.read_only = True
        try:
            set_local(connection, **SOURCE_SETTINGS)
            relation, columns = _lock_and_describe(connection, transfer.what)
            witness = secrets.randbits(62)
            row = connection.execute(
                "SELECT pg_export_snapshot(), pg_try_advisory_xact_lock(%s)", [witness]
            ).fetchone()
        except (psycopg.Error, CopydError) as error:
            raise CopydError(f"source {source.name}: {one_line(error)}") from error
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        holder = connection.info.backend_pid
        yield Snapshot(transfer, row[0], witness, holder, relation, columns)


@contextmanager
def reader(snapshot: Snapshot) -> Iterator[Connection]:
    """Open another connection to the source that sees the same snapshot."""
    with closing(snapshot.transfer.source.connect()) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot.identifier))
        set_local(connection, **SOURCE_SETTINGS)
        yield connection


def _lock_and_describe(
    connection: Connection, what: Table | Query
) -> tuple[Relation | None, tuple[Column, ...]]:
    """Lock what is read, then look at it: nobody can change or empty it any more."""
    if isinstance(what, Query):
        return None, query_columns(connection, what.text)
    found = look_up(connection, what.name)
    if found.is_lockable:
        lock = sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(found.identifier)
        connection.execute(lock)
    else:  # LOCK TABLE does not take it, but reading it locks it just so
        connection.execute(sql.SQL("SELECT FROM {} LIMIT 0").format(found.identifier))
    relation = look_up(connection, what.name)
    if relation.oid != found.oid:
        raise CopydError(f"table {what.name} was replaced by another just now: run it again")
    return relation, copied(relation.columns)
