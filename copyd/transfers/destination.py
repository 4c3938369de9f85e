"""One destination of a run: its connection, its transaction, and how it ended."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from copyd.copyman import StatementReceiver
from copyd.errors import CopydError
from copyd.loading.columns import require_match
from copyd.loading.relations import Relation, look_up
from copyd.loading.session import LOCK_TIMEOUT, set_local
from copyd.transfers.server import one_line

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from copyd.copyman import Link
    from copyd.transfers.server import Server
    from copyd.transfers.snapshot import Snapshot

    Connection = psycopg.Connection[Any]

GONE_WITHIN = 5.0
"""Seconds that an old backend of ours gets to end."""


class Verdict(Enum):
    """How a destination, or a run, ended. ``unknown``: the answer to COMMIT was lost."""

    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one destination ended.

    Rows and bytes are those that it committed; seconds run from the start of its last pass to
    its verdict.
    """

    destination: str
    verdict: Verdict
    rows: int
    size: int
    seconds: float
    passes: int
    link: Link | None
    cause: str | None


@dataclass(eq=False)
class Destination:
    """One replica in one run. It is prepared, fed in a pass, and committed; or dropped."""

    server: Server
    connection: Connection | None = None
    table: sql.Identifier | None = None
    receiver: StatementReceiver | None = None
    backend: tuple[int, object] | None = None
    verdict: Verdict | None = None
    cause: BaseException | None = None
    is_dropped: bool = False
    passes: int = 0
    drops: int = 0
    size: int = 0
    began: float | None = None
    ended: float | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        return self.server.name

    @property
    def fed(self) -> StatementReceiver:
        """Its receiver in the current pass.

        Raises RuntimeError before it was prepared.
        """
        if self.receiver is None:
            raise RuntimeError(f"destination {self.name} was not prepared")
        return self.receiver

    def prepare(self, snapshot: Snapshot) -> None:
        """Connect, open the transaction, and see that the rows will fit.

        Raises CopydError or psycopg.Error where they will not.
        """
        transfer = snapshot.transfer
        self.close()
        self.size = 0
        self.connection = connection = self.server.connect()
        if self.verdict is not None:  # the run did not wait
            connection.close()
            raise CopydError(f"connected to {self.name} too late")
        self._end_predecessor(connection)
        set_local(connection, lock_timeout=LOCK_TIMEOUT)
        relation = look_up(connection, transfer.what.into)
        require_distinct(connection, relation, snapshot)
        require_match(
            snapshot.columns,
            relation.columns,
            table=f"{relation.schema}.{relation.name}",
            is_binary=transfer.format == "binary",
        )
        self.table = relation.identifier
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in snapshot.columns)
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(
            relation.identifier, names, sql.Identifier(transfer.format)
        )
        self.receiver = StatementReceiver(connection, statement, link=transfer.link)

    def empty(self) -> None:
        """TRUNCATE the table; from here on its readers wait for the run's COMMIT.

        Raises psycopg.Error where the server refuses.
        """
        if self.table is not None:
            self.fed.connection.execute(sql.SQL("TRUNCATE {}").format(self.table))

    def commit(self) -> None:
        """Commit; what the server or the network said is raised as psycopg's own error."""
        self.fed.connection.commit()

    @property
    def is_lost(self) -> bool:
        """Whether its connection is gone, so that nobody can ask the server any more."""
        return self.connection is None or self.connection.closed or self.connection.broken

    def cut(self) -> None:
        """Cut the connection under a thread that waits on it: it gets an error instead."""
        connection = self.connection
        if connection is not None and not connection.closed:
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Roll back what is not committed."""
        if self.connection is not None:
            self.connection.close()

    def outcome(self) -> Outcome:
        """Say how it ended, and in one sentence why."""
        is_committed = self.verdict is Verdict.SUCCEEDED
        cause = one_line(self.cause) if self.cause is not None else None
        if self.verdict is Verdict.UNKNOWN:
            why = f" ({cause})" if cause is not None else ""
            cause = f"the answer to COMMIT was lost, look whether the rows are there{why}"
        return Outcome(
            destination=self.name,
            verdict=self.verdict or Verdict.FAILED,
            rows=(self.fed.rows or 0) if is_committed else 0,
            size=self.size if is_committed else 0,
            seconds=(self.ended - self.began) if self.began and self.ended else 0.0,
            passes=self.passes,
            link=self.receiver.link if self.receiver is not None else None,
            cause=cause,
        )

    def _end_predecessor(self, connection: Connection) -> None:
        """End the backend of an earlier pass, which may still hold its locks and half a table.

        Raises CopydError, caused by a TimeoutError, where it does not end.
        """
        if self.backend is not None:
            attempts = Retrying(
                retry=retry_if_result(bool),
                stop=stop_after_delay(GONE_WITHIN),
                wait=wait_fixed(0.05),
                retry_error_callback=_still_there,
            )
            if attempts(_terminate, connection, *self.backend):
                still = f"its backend {self.backend[0]} of the last pass does not end"
                raise CopydError(still) from TimeoutError(still)
        row = connection.execute(
            "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        connection.rollback()  # the transaction of the run begins with its settings
        self.backend = (row[0], row[1]) if row is not None else None


def require_distinct(connection: Connection, relation: Relation, snapshot: Snapshot) -> None:
    """Raise CopydError where `relation` is what the run reads, or another of its destinations.

    Two sessions that compete for one advisory lock are in one database; there the session that
    holds the snapshot has locked all that the run reads.
    """
    table = f"{relation.schema}.{relation.name}"
    if not _try_lock(connection, snapshot.witness) and _is_read(connection, relation, snapshot):
        raise CopydError(f"table {table} there is the source itself")
    if not _try_lock(connection, snapshot.witness + relation.oid):
        raise CopydError(f"table {table} there is a destination of this run already")


def _try_lock(connection: Connection, number: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [number]).fetchone()
    return row == (True,)


def _is_read(connection: Connection, relation: Relation, snapshot: Snapshot) -> bool:
    held = connection.execute(
        "SELECT 1 FROM pg_locks WHERE locktype = 'relation' AND pid = %s AND relation = %s::oid",
        [snapshot.holder, relation.oid],
    )
    return held.fetchone() is not None


def _still_there(state: RetryCallState) -> bool:
    """Answer what the last attempt answered."""
    return bool(state.outcome and state.outcome.result())


def _terminate(connection: Connection, pid: int, started: object) -> bool:
    """Terminate a backend of ours; True while it is still there."""
    found = connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid = %s AND backend_start = %s",
        [pid, started],
    ).fetchone()
    connection.rollback()
    return found is not None
