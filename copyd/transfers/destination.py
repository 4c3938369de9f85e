"""One destination of a run: its connection, its transaction, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from copyd.copyman import StatementReceiver
from copyd.errors import CopydError
from copyd.loading.columns import require_match
from copyd.loading.relations import look_up
from copyd.loading.session import set_local
from copyd.transfers.server import one_line

if TYPE_CHECKING:
    from copyd.copyman import Link
    from copyd.transfers.server import Server
    from copyd.transfers.snapshot import Snapshot

    Connection = psycopg.Connection[Any]

LOCK_TIMEOUT = "10s"


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
    receiver: StatementReceiver | None = None
    verdict: Verdict | None = None
    cause: BaseException | None = None
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
        set_local(connection, lock_timeout=LOCK_TIMEOUT)
        relation = look_up(connection, transfer.what.into)
        table = f"{relation.schema}.{relation.name}"
        if not _alone(connection, snapshot.witness) and _is_same(relation.oid, snapshot):
            raise CopydError(f"table {table} there is the source itself")
        if not _alone(connection, snapshot.witness + relation.oid):
            raise CopydError(f"table {table} there is a destination of this run already")
        is_binary = transfer.format == "binary"
        require_match(snapshot.columns, relation.columns, table=table, is_binary=is_binary)
        if transfer.truncate:
            connection.execute(sql.SQL("TRUNCATE {}").format(relation.identifier))
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in snapshot.columns)
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(
            relation.identifier, names, sql.Identifier(transfer.format)
        )
        self.receiver = StatementReceiver(connection, statement, link=transfer.link)

    def commit(self) -> None:
        """Commit; the verdict is known afterwards, unless the connection was lost meanwhile."""
        assert self.connection is not None  # noqa: S101 - it was fed
        try:
            self.connection.commit()
        except psycopg.Error as error:
            is_lost = self.connection.closed or self.connection.broken
            self.verdict = Verdict.UNKNOWN if is_lost else Verdict.FAILED
            self.cause = error
        else:
            self.verdict = Verdict.SUCCEEDED
            self.cause = None

    def close(self) -> None:
        """Roll back what is not committed."""
        if self.connection is not None:
            self.connection.close()

    def outcome(self) -> Outcome:
        """Say how it ended, and in one sentence why."""
        is_committed = self.verdict is Verdict.SUCCEEDED
        cause = one_line(self.cause) if self.cause is not None else None
        if self.verdict is Verdict.UNKNOWN:
            cause = f"the answer to COMMIT was lost, look whether the rows are there: {cause}"
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


def _alone(connection: Connection, number: int) -> bool:
    """Whether no other session of this database and run holds the lock `number`."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [number]).fetchone()
    return row == (True,)


def _is_same(oid: int, snapshot: Snapshot) -> bool:
    return snapshot.relation is not None and snapshot.relation.oid == oid
