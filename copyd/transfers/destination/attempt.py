"""One try to load one destination: one transaction, to COMMIT or to nothing.

Each step runs in its own thread, and the session may be cut meanwhile. The statements are decided in
actions.py.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from time import monotonic
from typing import TYPE_CHECKING

import psycopg

from copyd.copyman import StatementReceiver
from copyd.errors import CopydError
from copyd.loading import Ledger
from copyd.transfers.backend import end
from copyd.transfers.destination import actions
from copyd.transfers.destination.actions import Block, Phase
from copyd.transfers.destination.commit import Commit
from copyd.transfers.destination.execution import Execution
from copyd.transfers.destination.pending_rejects import resolve_pending
from copyd.transfers.destination.preparation import (
    examine,
    find_deferrable,
    find_delete_triggers,
    scans_of,
)
from copyd.transfers.destination.refusal import Judge
from copyd.transfers.destination.rejects import Rejects
from copyd.transfers.destination.session import Path, Session
from copyd.transfers.destination.targets import Intent, find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.connection import Connection
    from copyd.copyman import Link
    from copyd.loading import Entry
    from copyd.names import TableName
    from copyd.transfers.backend import Backend
    from copyd.transfers.destination.actions import Action
    from copyd.transfers.destination.preparation import Prepared
    from copyd.transfers.destination.table_load import TableLoad
    from copyd.transfers.destination.targets import Found
    from copyd.transfers.source import Reading, Scan, Snapshot, Source
    from copyd.transfers.transfer import Replica, Transfer


class Attempt:
    """One try, never reused; its methods are called in the order in which they are defined.

    ``tables``: in loading order, parents before children. ``watermarks``: the highest value of each
    reading's watermark column, if the source was queried for it.
    """

    def __init__(self, replica: Replica, transfer: Transfer, run: str, *, is_full: bool) -> None:
        self.tables: tuple[TableLoad, ...] = ()
        self.watermarks: dict[str, str | None] = {}
        self.analyze_seconds = 0.0
        self._replica = replica
        self._transfer = transfer
        self._run = run
        self._is_full = is_full
        self._ledger = None if transfer.ledger is None else Ledger(transfer.ledger)
        self.commit = Commit(run, self._ledger, _rejects(transfer, replica.server.name, run))
        self.session = Session(
            replica.server, lock_timeout=transfer.lock_timeout, on_close=self.commit.close
        )
        self._execution = Execution(self.session, run)
        self._intent: Intent | None = None
        self._prepared: Prepared | None = None
        self._receiver: StatementReceiver | None = None
        self._snapshot: Snapshot | None = None
        self._lost_backend: Backend | None = None

    @property
    def connection(self) -> Connection:
        return self.session.connection

    @property
    def intent(self) -> Intent:
        if self._intent is None:
            raise RuntimeError(f"destination {self._replica.server.name} is not prepared")
        return self._intent

    # -- before the data --------------------------------------------------------------------------

    def prepare(self, source: Source, predecessor: Backend | None) -> None:
        """Connect, claim the ledger, lock and check tables; raises CopydError, psycopg.Error."""
        connection = self.session.connect()
        if predecessor is not None:
            end(connection, predecessor)
        self._resolve_pending_rejects()
        self.session.begin()
        if self._ledger is not None and self._ledger.prepare(connection):
            connection.commit()  # other runs wait for the new ledger
            self.session.begin()
        self._intent = Intent.of(source, self._replica, self._ledger, is_full=self._is_full)
        judge = Judge(connection, stops=True)
        found = find(connection, self._intent, self.session.own_path, judge)
        entries = self._claim(found)
        self._prepared = examine(connection, self._intent, found, entries, judge)
        self.tables = self._prepared.tables

    def clear(self) -> None:
        """Run before, DELETE or create staging tables; raises CopydError, psycopg.Error."""
        self._execution.perform(self._decided(Phase.BEFORE))
        find_delete_triggers(self.connection, self.tables, self.intent.loading)
        if self.intent.loading.deletes:
            self._execution.perform(self._decided(Phase.EMPTY))

    def scans(self, snapshot: Snapshot) -> tuple[Scan, ...]:
        """Return the scans to read, in loading order; raises CopydError by the ledger."""
        self._snapshot = snapshot
        for table in self.tables:
            table.scans = scans_of(table, self.intent, snapshot)
        return tuple(scan for table in self.tables for scan in table.scans)

    def binary_refusal(self, reading: Reading) -> str | None:
        return self._table(reading).binary_refusal

    # -- the data ---------------------------------------------------------------------------------

    def empty(self) -> None:
        """TRUNCATE the tables: readers wait until COMMIT; raises psycopg.Error."""
        if self.intent.loading.truncates:
            self._execution.perform(self._decided(Phase.EMPTY))
        self.session.look_in(Path.OWN)

    def receiver(self, scan: Scan, *, format_: str) -> StatementReceiver:
        table = self._table(scan.reading)
        table.formats[scan] = format_
        statement = actions.load(table, scan, self.intent, format_).step.statement
        connection, link, rejects = self.connection, self._transfer.link, self.commit.rejects
        if rejects is None:
            self._receiver = StatementReceiver(connection, statement, link=link)
        elif scan.keys_only is not None:
            self._receiver = rejects.key_receiver(connection, statement, link=link)
        else:
            if not table.is_staged:
                find_deferrable(connection, [table])
            self._receiver = rejects.receiver(connection, statement, table, link=link)
        return self._receiver

    @property
    def link(self) -> Link | None:
        """The link of the last COPY; None before the first."""
        return self._receiver.link if self._receiver is not None else None

    def loaded(self, scan: Scan, *, rows: int, size: int) -> None:
        """Count the rows and bytes of a scan after the server's answer, rejects included."""
        table = self._table(scan.reading)
        table.size += size
        if scan.keys_only is None:
            table.read = table.rows = rows

    # -- after the data ---------------------------------------------------------------------------

    def finish(self) -> None:
        """Apply staged rows, write the ledger, COMMIT; raises CopydError, psycopg.Error."""
        rejects, mode = self.commit.rejects, self.intent.loading.mode
        if rejects is not None:
            rejects.retry_held()
        self.session.look_in(Path.OURS)
        for table in self.tables:
            table.watermark = self.watermarks.get(table.reading.name)
            table.note_unstaged(mode)
        if rejects is not None:
            find_deferrable(self.connection, [each for each in self.tables if each.is_staged])
        self._apply()
        for table in self.tables:
            table.require_not_shrunk(mode, self._transfer.max_shrink)
        self._execution.perform(self._decided(Phase.AFTER))
        if rejects is not None:
            rejects.write_manifest(self.tables)
        self.commit.send(self.session)

    def inherit(self, lost: Attempt) -> None:
        """Take over a COMMIT in doubt from the try that `lost` its connection."""
        self.tables, self._lost_backend = lost.tables, lost.session.backend
        self._intent, self._prepared, self._snapshot = lost._intent, lost._prepared, lost._snapshot
        self.commit.inherit(lost.commit)

    def resolve(self) -> None:
        """Resolve the inherited COMMIT; raises as `Commit.resolve`."""
        if self._lost_backend is None:
            raise RuntimeError("no COMMIT was inherited")
        self.commit.resolve(self.session, self.tables[0].name, self._lost_backend)

    def tidy(self) -> None:
        """Run ``after_commit`` and ANALYZE; raises psycopg.Error, and committed data stays."""
        connection = self.connection
        connection.rollback()
        connection.autocommit = True
        for block, decided in groupby(self._decided(Phase.AFTER_COMMIT), lambda each: each.block):
            began = monotonic()
            self.session.forget_path()
            if block is Block.NONE:
                self._execution.perform(decided)
            else:
                with connection.transaction():
                    self._execution.perform(decided)
            if block is Block.STATISTICS:
                self.analyze_seconds = monotonic() - began

    # -- actions ----------------------------------------------------------------------------------

    def _decided(self, phase: Phase) -> tuple[Action, ...]:
        if self._prepared is None:
            raise RuntimeError(f"destination {self._replica.server.name} is not prepared")
        return actions.decide(self._prepared, self.intent, self._snapshot, only=phase)

    def _apply(self) -> None:
        rejects = self.commit.rejects
        decided = self._decided(Phase.APPLY)
        for is_guarded, group in groupby(decided, lambda action: action.is_guarded):
            if is_guarded and rejects is not None:
                rejects.apply(self.connection, self.tables, self.intent)
            else:
                self._execution.perform(group)
        if rejects is not None:
            rejects.require_few(self.tables)

    # -- steps of steps ---------------------------------------------------------------------------

    def _claim(self, found: Found) -> dict[TableName, Entry | None]:
        # Decision: The ledger decides, and is not trusted blindly
        entries: dict[TableName, Entry | None] = {}
        for action in actions.claim(found, self.intent):
            execute = partial(self._execution.execute, action)
            with self._naming(found, action.busy):
                if self._ledger is not None and not entries:
                    entries = self._ledger.read(self.connection, found.names, first=execute)
                else:
                    execute()
        return entries

    @contextmanager
    def _naming(self, found: Found, busy: str) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.LockNotAvailable as error:
            label, more = found.targets[0].relation.label, len(found.targets) - 1
            which = f"{label} or of {more} more" if more else label
            waited = f"waited {self._transfer.lock_timeout:g} s for it"
            raise CopydError(f"{busy} table {which}: {waited}") from error

    def _resolve_pending_rejects(self) -> None:
        # Rejects that cannot be resolved now stay pending; `wind_up` returns them after the run.
        policy = self._transfer.rejects
        if policy is not None:
            with suppress(CopydError):
                resolve_pending(self._replica.server, policy.directory, self._transfer.name)

    def _table(self, reading: Reading) -> TableLoad:
        return next(table for table in self.tables if table.reading == reading)


def _rejects(transfer: Transfer, destination: str, run: str) -> Rejects | None:
    policy, ledger = transfer.rejects, transfer.ledger
    if not transfer.keeps_rejects or policy is None or ledger is None:
        return None
    return Rejects(policy, ledger, transfer=transfer.name, destination=destination, run=run)
