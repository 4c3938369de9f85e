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
from copyd.loading.session import set_local
from copyd.transfers.server import one_line
from copyd.transfers.transfer import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.transfers.transfer import Query, Transfer

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the passes of a run have in common.

    ``witness``: a number whose advisory lock the holding session has; who cannot get that lock is
    connected to the source's own database. ``relation`` is None for a query.
    """

    transfer: Transfer
    identifier: str
    witness: int
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
            shape = "{} ({})" if self.relation.is_table else "(SELECT {1} FROM {0})"
            rows = sql.SQL(shape).format(self.relation.identifier, names).as_string(connection)
        else:
            rows = f"({what.text}\n)"
        return f"COPY {rows} TO STDOUT (FORMAT {self.transfer.format})"


@contextmanager
def take(transfer: Transfer) -> Iterator[Snapshot]:
    """Hold a snapshot of the transfer's source while the block lasts.

    Raises CopydError where the source cannot be reached or has not what the transfer names.
    """
    source = transfer.source
    with closing(source.connect()) as connection:  # it wrote nothing: no COMMIT
        try:
            relation, columns = _describe(connection, transfer.what)
            connection.rollback()
            _open_reader(connection)
            if relation is not None and relation.is_lockable:
                lock = sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(relation.identifier)
                connection.execute(lock)
            witness = secrets.randbits(62)
            row = connection.execute(
                "SELECT pg_export_snapshot(), pg_try_advisory_xact_lock(%s)", [witness]
            ).fetchone()
        except (psycopg.Error, CopydError) as error:
            raise CopydError(f"source {source.name}: {one_line(error)}") from error
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        yield Snapshot(transfer, row[0], witness, relation, columns)


@contextmanager
def reader(snapshot: Snapshot) -> Iterator[Connection]:
    """Open another connection to the source that sees the same snapshot."""
    with closing(snapshot.transfer.source.connect()) as connection:
        _open_reader(connection, snapshot.identifier)
        yield connection


def _describe(
    connection: Connection, what: Table | Query
) -> tuple[Relation | None, tuple[Column, ...]]:
    if isinstance(what, Table):
        relation = look_up(connection, what.name)
        return relation, copied(relation.columns)
    return None, query_columns(connection, what.text)


def _open_reader(connection: Connection, identifier: str | None = None) -> None:
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    if identifier is not None:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(identifier))
    set_local(connection)
