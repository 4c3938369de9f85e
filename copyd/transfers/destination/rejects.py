"""What one destination refuses in one try: put aside, so that all other rows are loaded."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.catalog import deferrable_constraints
from copyd.copyman import BatchReceiver
from copyd.errors import CopydError
from copyd.loading import TRIALS, Bisection, staged_rows, strategies
from copyd.loading.rejects import LoadedTable, RejectFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.connection import Connection
    from copyd.copyman import LinkName, Reject
    from copyd.loading import Applied, Target
    from copyd.transfers.destination.table_load import TableLoad
    from copyd.transfers.transfer import Mode, RejectPolicy


class Rejects:
    """The rejects of one try. Its steps are taken in the order in which they stand here.

    It works on the try's connection, in its transaction, and in one thread at a time.
    """

    def __init__(
        self, policy: RejectPolicy, ledger: str, *, transfer: str, destination: str, run: str
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._files = RejectFiles(
            policy.directory, transfer=transfer, destination=destination, run=run
        )
        self._receivers: list[tuple[TableLoad, BatchReceiver]] = []
        self._ordinals: dict[int, list[int]] = {}  # by the target's number, of what was rejected

    # -- while data comes -------------------------------------------------------------------------

    def receiver(
        self, connection: Connection, statement: sql.Composed, part: TableLoad, *, link: LinkName
    ) -> BatchReceiver:
        """Return what takes the rows of a table, or of its staging table."""
        receiver = BatchReceiver(
            connection,
            statement,
            on_reject=partial(self._put_aside, part),
            batch_rows=self._policy.batch_rows,
            batch_size=self._policy.batch_size,
            columns={column.name: column.type for column in part.target.columns},
            immediate=() if part.is_staged else _deferrable(connection, part),
            max_rejects=self._policy.max_rejects - self._files.rows,
            keeps_held=True,
            link=link,
        )
        self._receivers.append((part, receiver))
        return receiver

    def key_receiver(
        self, connection: Connection, statement: sql.Composed, *, link: LinkName
    ) -> BatchReceiver:
        """Return what takes keys alone: one that the destination cannot hold is not there either."""
        return BatchReceiver(connection, statement, on_reject=_forget, link=link)

    # -- after the data ---------------------------------------------------------------------------

    def retry_held(self) -> None:
        """Try again what foreign keys refused, as long as some are taken; the rest is rejected."""
        receivers = [receiver for _, receiver in self._receivers]
        _retry_all(receivers)
        for part, receiver in self._receivers:
            if not part.is_staged:
                part.rows = receiver.loaded

    def apply(self, connection: Connection, parts: Sequence[TableLoad], mode: Mode) -> None:
        """Bring what is staged into the tables, but for the rows that these refuse.

        Raises psycopg.Error for what no row is to blame for, CopydError where too many are refused.
        """
        bisections = []
        for part in parts:
            if not part.is_staged:
                part.apply(connection, mode)
                continue
            part.look_for_missed(connection)
            bisection = self._bisection(connection, part, mode)
            with _checking(connection, part):
                bisection.run()
            bisections.append((part, bisection))
        with ExitStack() as checking:
            for part, bisection in bisections:
                if bisection.held:
                    checking.enter_context(_checking(connection, part))
            _retry_all([bisection for _, bisection in bisections])
        for part, bisection in bisections:
            part.note(bisection.applied)

    def require_few(self, parts: Sequence[TableLoad]) -> None:
        """Raise CopydError where more of what was read is rejected than the policy allows."""
        read, rejected = sum(part.read for part in parts), self._files.rows
        if rejected > Fraction(str(self._policy.max_reject_ratio)) * read:
            raise CopydError(
                f"{rejected:,} of {read:,} rows were rejected, a larger share than "
                f"max_reject_ratio = {self._policy.max_reject_ratio:g} allows"
            )

    # -- around the COMMIT ------------------------------------------------------------------------

    def write_manifest(self, parts: Sequence[TableLoad]) -> None:
        """Sync the files before COMMIT, with what the ledger is to be asked about it later."""
        tables = [
            LoadedTable(
                *part.name,
                columns=part.target.names,
                previous_run=part.there.entry.run if part.there.entry is not None else None,
            )
            for part in parts
        ]
        self._files.write_manifest(ledger=self._ledger, tables=tables, now=time.time())

    def publish(self) -> None:
        """Give the files their name, after COMMIT."""
        self._files.publish()

    def close(self, *, is_doubtful: bool) -> None:
        """Remove the files, or leave them for the ledger to decide about; not if published."""
        if is_doubtful:
            self._files.close()
        else:
            self._files.discard()

    # -- steps of steps ---------------------------------------------------------------------------

    def _put_aside(self, part: TableLoad, reject: Reject) -> None:
        if self._files.rows >= self._policy.max_rejects:
            raise CopydError(
                f"more than max_rejects = {self._policy.max_rejects:,} rows were rejected"
            )
        self._files.add(part.name, reject)
        part.rejected += 1
        self._ordinals.setdefault(part.target.number, []).append(reject.ordinal)

    def _bisection(self, connection: Connection, part: TableLoad, mode: Mode) -> Bisection:
        def bring(target: Target) -> Applied:
            if mode == "append" and part.is_compared:
                strategies.require_no_doubles(connection, part.target)
            if part.removes and target.number == part.target.number + TRIALS:
                connection.execute(staged_rows.same_keys(part.target, target))
            return part.bring(connection, mode, target)

        left_out = sorted(self._ordinals.get(part.target.number, ()))
        put_aside = partial(self._put_aside, part)
        return Bisection(connection, part.target, bring, put_aside, left_out=left_out)


def _forget(reject: Reject) -> None:
    del reject


def _retry_all(waiting: Sequence[BatchReceiver | Bisection]) -> None:
    """Try what is held again, at all of them, until none takes any more."""
    while sum(each.retry() for each in waiting):
        pass
    for each in waiting:
        each.refuse()


def _deferrable(connection: Connection, part: TableLoad) -> tuple[sql.Identifier, ...]:
    """Return the constraints to be checked row by row though they could wait for the COMMIT."""
    oid, has_order = part.target.relation.oid, not part.is_circular
    return deferrable_constraints(connection, oid, foreign_keys=has_order)


@contextmanager
def _checking(connection: Connection, part: TableLoad) -> Iterator[None]:
    """Have constraints checked by each statement, so that the row to blame can be found."""
    names = _deferrable(connection, part)
    mode = sql.SQL("SET CONSTRAINTS {} {}")
    if names:
        connection.execute(mode.format(sql.SQL(", ").join(names), sql.SQL("IMMEDIATE")))
    yield
    if names:
        connection.execute(mode.format(sql.SQL(", ").join(names), sql.SQL("DEFERRED")))
