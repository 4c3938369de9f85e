"""Rows that one destination rejects in one try: written to files, while the rest is loaded."""
# Decision: Bad rows are taken out first, the rest is loaded as one

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from copyd.copyman import BatchReceiver
from copyd.errors import CopydError
from copyd.loading import TRIALS, Bisection, staged_rows, strategies
from copyd.loading.rejects import LoadedTable, RejectFiles
from copyd.transfers.destination.actions import constraints, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg import sql

    from copyd.connection import Connection
    from copyd.copyman import LinkName, Reject
    from copyd.loading import Applied, Target
    from copyd.transfers.destination.table_load import TableLoad
    from copyd.transfers.destination.targets import Intent
    from copyd.transfers.transfer import RejectPolicy


class Rejects:
    """The rejects of one try, in its transaction; one thread calls the methods in order."""

    def __init__(
        self, policy: RejectPolicy, ledger: str, *, transfer: str, destination: str, run: str
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._files = RejectFiles(
            policy.directory, transfer=transfer, destination=destination, run=run
        )
        self._receivers: list[tuple[TableLoad, BatchReceiver]] = []
        self._ordinals: dict[int, list[int]] = {}  # of rejected rows, by target number

    # -- while data comes -------------------------------------------------------------------------

    def receiver(
        self, connection: Connection, statement: sql.Composable, table: TableLoad, *, link: LinkName
    ) -> BatchReceiver:
        receiver = BatchReceiver(
            connection,
            statement,
            on_reject=partial(self._reject, table),
            batch_rows=self._policy.batch_rows,
            batch_size=self._policy.batch_size,
            columns={column.name: column.type for column in table.target.columns},
            immediate=() if table.is_staged else table.deferrable,
            max_rejects=self._policy.max_rejects - self._files.rows,
            keeps_held=True,
            link=link,
        )
        self._receivers.append((table, receiver))
        return receiver

    def key_receiver(
        self, connection: Connection, statement: sql.Composable, *, link: LinkName
    ) -> BatchReceiver:
        # A key that the destination cannot store is not at the destination: it is ignored.
        return BatchReceiver(connection, statement, on_reject=_forget, link=link)

    # -- after the data ---------------------------------------------------------------------------

    def retry_held(self) -> None:
        """Retry rows that foreign keys refused until none loads any more; reject the rest."""
        receivers = [receiver for _, receiver in self._receivers]
        _retry_all(receivers)
        for table, receiver in self._receivers:
            if not table.is_staged:
                table.rows = receiver.loaded

    def apply(self, connection: Connection, tables: Sequence[TableLoad], intent: Intent) -> None:
        """Apply staged rows, reject bad ones; raises psycopg.Error, CopydError for too many."""
        bisections = []
        for table in tables:
            if table.is_staged:
                bisection = self._bisection(connection, table, intent)
                with _checking(connection, table):
                    bisection.run()
                bisections.append((table, bisection))
        with ExitStack() as checking:
            for table, bisection in bisections:
                if bisection.held:
                    checking.enter_context(_checking(connection, table))
            _retry_all([bisection for _, bisection in bisections])
        for table, bisection in bisections:
            table.note(bisection.applied)
        self.require_few(tables)

    def require_few(self, tables: Sequence[TableLoad]) -> None:
        read, rejected = sum(table.read for table in tables), self._files.rows
        if rejected > Fraction(str(self._policy.max_reject_ratio)) * read:
            raise CopydError(
                f"{rejected:,} of {read:,} rows were rejected, a larger share than "
                f"max_reject_ratio = {self._policy.max_reject_ratio:g} allows"
            )

    # -- around the COMMIT ------------------------------------------------------------------------

    def write_manifest(self, tables: Sequence[TableLoad]) -> None:
        """Sync the files before COMMIT, with the manifest by which the ledger is queried later."""
        loaded = [
            LoadedTable(
                *table.name,
                columns=table.target.names,
                previous_run=table.state.entry.run if table.state.entry is not None else None,
            )
            for table in tables
        ]
        self._files.write_manifest(ledger=self._ledger, tables=loaded, now=time.time())

    def publish(self) -> None:
        self._files.publish()

    def close(self, *, is_doubtful: bool) -> None:
        """Remove the files unless published; if the COMMIT `is_doubtful`, the ledger decides."""
        if is_doubtful:
            self._files.close()
        else:
            self._files.discard()

    # -- steps of steps ---------------------------------------------------------------------------

    def _reject(self, table: TableLoad, reject: Reject) -> None:
        if self._files.rows >= self._policy.max_rejects:
            raise CopydError(
                f"more than max_rejects = {self._policy.max_rejects:,} rows were rejected"
            )
        self._files.add(table.name, reject)
        table.rejected += 1
        self._ordinals.setdefault(table.target.number, []).append(reject.ordinal)

    def _bisection(self, connection: Connection, table: TableLoad, intent: Intent) -> Bisection:
        def bring(target: Target) -> Applied:
            if table.removes and target.number == table.target.number + TRIALS:
                connection.execute(staged_rows.same_keys(table.target, target))
            return strategies.apply(connection, steps_of(table, intent, target))

        left_out = sorted(self._ordinals.get(table.target.number, ()))
        reject = partial(self._reject, table)
        return Bisection(connection, table.target, bring, reject, left_out=left_out)


def _forget(reject: Reject) -> None:
    del reject


def _retry_all(waiting: Sequence[BatchReceiver | Bisection]) -> None:
    # Rows of one table may be what rows of another wait for, so all tables are retried in turn.
    while sum(each.retry() for each in waiting):
        pass
    for each in waiting:
        each.refuse()


@contextmanager
def _checking(connection: Connection, table: TableLoad) -> Iterator[None]:
    # Immediate constraints fail at a statement, by which the search finds the bad row.
    if table.deferrable:
        connection.execute(constraints(table.deferrable, "IMMEDIATE"))
    yield
    if table.deferrable:
        connection.execute(constraints(table.deferrable, "DEFERRED"))
