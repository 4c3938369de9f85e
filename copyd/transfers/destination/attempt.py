"""One try to load one destination: one connection, one transaction, to COMMIT or to nothing.

What a try knows ends with it; the destination keeps what outlives it. Each step runs in a thread of
its own and may be cut off: nobody waits for one that was.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.catalog import OUR_PATH, look_in, looking_in
from copyd.copyman import StatementReceiver
from copyd.errors import CopydError
from copyd.loading import Entry, Ledger, guards, strategies
from copyd.transfers.backend import end
from copyd.transfers.destination.commit import Commit
from copyd.transfers.destination.horizon import need_of
from copyd.transfers.destination.pending_rejects import resolve_pending
from copyd.transfers.destination.preparation import claim, find_targets
from copyd.transfers.destination.rejects import Rejects
from copyd.transfers.destination.session import Session
from copyd.transfers.source import Scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.connection import Connection
    from copyd.copyman import Link
    from copyd.names import TableName
    from copyd.transfers.backend import Backend
    from copyd.transfers.destination.table_load import TableLoad
    from copyd.transfers.source import Reading, Snapshot, Source
    from copyd.transfers.transfer import Loading, Mode, Replica, Transfer


NO_STANDBY = "SET LOCAL synchronous_commit = local"
"""Statistics need not wait for a standby."""
SKIP = "SET LOCAL session_replication_role = replica"
"""What keeps triggers from firing."""


class Attempt:
    """One try; made anew for each. Its steps are taken in the order in which they stand here.

    ``tables`` are in the order of loading, parents before children. ``session``: its connection, and
    the thread that uses it; ``commit``: its COMMIT, which may be in doubt. ``marks``: the highest
    value of each reading's watermark column, where the source was asked for it.
    """

    def __init__(self, replica: Replica, transfer: Transfer, run: str, *, is_full: bool) -> None:
        self.tables: tuple[TableLoad, ...] = ()
        self.marks: dict[str, str | None] = {}
        self.analyze_seconds = 0.0
        self._server = replica.server
        self._loading = _in_full(replica.loading) if is_full else replica.loading
        self._meant = replica.loading.mode
        self._transfer = transfer
        self._run = run
        self._is_full = is_full
        self._ledger = None if transfer.ledger is None else Ledger(transfer.ledger)
        self.commit = Commit(run, self._ledger, _rejects(transfer, replica.server.name, run))
        self.session = Session(
            replica.server, lock_timeout=transfer.lock_timeout, on_close=self.commit.close
        )
        self._receiver: StatementReceiver | None = None
        self._snapshot: Snapshot | None = None
        self._lost_backend: Backend | None = None

    @property
    def connection(self) -> Connection:
        """The session's connection; raises RuntimeError before there is one."""
        return self.session.connection

    @property
    def _rejects(self) -> Rejects | None:
        return self.commit.rejects

    # -- before the data --------------------------------------------------------------------------

    def prepare(self, source: Source, predecessor: Backend | None) -> None:
        """Connect, claim the ledger, lock the tables, and see that the rows will fit.

        Raises CopydError or psycopg.Error where they will not.
        """
        connection = self.session.connect()
        if predecessor is not None:
            end(connection, predecessor)
        self._resolve_pending_rejects()
        self.session.begin()
        if self._ledger is not None and self._ledger.prepare(connection):
            connection.commit()  # the ledger is new, and other runs wait for it
            self.session.begin()
        targets = find_targets(
            connection, source, self._loading, meant=self._meant, own_path=self.session.own_path
        )
        self.tables = claim(
            connection, source, targets, self._loading, self._ledger, meant=self._meant
        )
        if self._loading.triggers == "skip":
            connection.execute(SKIP)

    def clear(self) -> None:
        """Run ``before``, then make room: rows deleted, or tables made for what is staged.

        Raises psycopg.Error where the server refuses, CopydError where ``before`` ends the
        transaction, or a trigger keeps rows.
        """
        self._run_own(self._loading.before, "before")
        if self._loading.mode == "replace" and self._loading.replace_with == "delete":
            self._delete_all()
            return
        for table in self.tables:
            table.before = self._count(table)
            if table.is_staged:
                self.connection.execute(strategies.stage(table.target))
            if table.removes:
                self.connection.execute(strategies.stage_keys(table.target))

    def scans(self, snapshot: Snapshot) -> tuple[Scan, ...]:
        """Say what is to be read for this destination, in the order of loading.

        Raises CopydError where the ledger forbids it under `snapshot`.
        """
        self._snapshot = snapshot
        found: list[Scan] = []
        for table in self.tables:
            mode = self._loading.mode
            table.need = need_of(
                table.there,
                table.reading,
                self._transfer,
                snapshot,
                mode=mode,
                is_forced=self._is_full,
            )
            found.append(Scan(table.reading, table.need.bounds))
            if table.removes and table.target.key is not None:
                found.append(Scan(table.reading, keys_only=table.target.key.columns))
        return tuple(found)

    def binary_refusal(self, reading: Reading) -> str | None:
        """Say why rows of `reading` cannot come in binary."""
        return self._table(reading).binary_refusal

    # -- the data ---------------------------------------------------------------------------------

    def empty(self) -> None:
        """TRUNCATE the tables; from here on their readers wait for the COMMIT.

        Raises psycopg.Error where the server refuses.
        """
        if self._truncates:
            self.connection.execute(strategies.truncate([table.target for table in self.tables]))
        # COPY fires triggers and defaults of the tables, which find names as the role does.
        look_in(self.connection, self.session.own_path)

    def receiver(self, scan: Scan, *, format_: str) -> StatementReceiver:
        """Return what takes the rows of `scan`."""
        statement = self.copy_in(scan, format_=format_)
        connection, link = self.connection, self._transfer.link
        if self._rejects is None:
            self._receiver = StatementReceiver(connection, statement, link=link)
        elif scan.keys_only is not None:
            self._receiver = self._rejects.key_receiver(connection, statement, link=link)
        else:
            table = self._table(scan.reading)
            self._receiver = self._rejects.receiver(connection, statement, table, link=link)
        return self._receiver

    def copy_in(self, scan: Scan, *, format_: str) -> sql.Composed:
        """Return the COPY statement that takes the rows of `scan`."""
        table = self._table(scan.reading)
        table.format = format_
        if scan.keys_only is not None:
            return strategies.copy_keys(table.target, format=format_)
        if table.is_staged:
            return strategies.copy_into_stage(table.target, format=format_)
        is_frozen = self._truncates and table.target.relation.kind == "r"
        return strategies.copy_rows(table.target, format=format_, freeze=is_frozen)

    @property
    def link(self) -> Link | None:
        """How the last data travelled; None before any did."""
        return self._receiver.link if self._receiver is not None else None

    def loaded(self, scan: Scan, *, rows: int, size: int) -> None:
        """Note what a scan brought, once the server says that it has it, or has put it aside."""
        table = self._table(scan.reading)
        table.size += size
        if scan.keys_only is None:
            table.read = table.rows = rows

    # -- after the data ---------------------------------------------------------------------------

    def finish(self) -> None:
        """Apply what is staged, write the ledger, run ``after``, COMMIT.

        Raises CopydError where too many rows would vanish, or are rejected, and psycopg.Error where
        the server refuses.
        """
        if self._rejects is not None:
            self._rejects.retry_held()
        look_in(self.connection, OUR_PATH)
        mode = self._loading.mode
        self._apply(mode)
        for table in reversed(self.tables):
            table.remove_missing(self.connection)
        for table in self.tables:
            table.require_not_shrunk(mode, self._transfer.max_shrink)
        for table in self.tables:
            if self._ledger is not None:
                self._ledger.record(self.connection, self._entry(table))
        self._run_own(self._loading.after, "after")  # whatever it commits, the ledger says so
        if self._rejects is not None:
            self._rejects.write_manifest(self.tables)
        self.commit.send(self.session)

    def inherit(self, lost: Attempt) -> None:
        """Take over the COMMIT of another try, of which nobody knows the outcome."""
        self.tables, self._lost_backend = lost.tables, lost.session.backend
        self.commit.inherit(lost.commit)

    def resolve(self) -> None:
        """Find out what became of the COMMIT that was inherited; raises as `Commit.resolve`."""
        if self._lost_backend is None:
            raise RuntimeError("no COMMIT was inherited")
        self.commit.resolve(self.session, self.tables[0].name, self._lost_backend)

    def tidy(self) -> None:
        """Do what follows the COMMIT: ``after_commit``, ANALYZE.

        Raises psycopg.Error where the server refuses; what was committed stays.
        """
        connection = self.connection
        connection.rollback()
        connection.autocommit = True
        for statement in self._loading.after_commit:
            connection.execute(sql.SQL(statement))
        if self._ledger is not None and self._loading.after_commit:
            with connection.transaction():
                look_in(connection, OUR_PATH)
                self._ledger.after_commit_done(connection, self._names, self._run)
        if self._loading.analyze:
            began = monotonic()
            connection.autocommit = False
            connection.execute(NO_STANDBY)
            for table in self.tables:
                analyze = sql.SQL("ANALYZE {}").format(table.target.relation.identifier)
                connection.execute(analyze)
            connection.commit()
            self.analyze_seconds = monotonic() - began

    # -- steps of steps ---------------------------------------------------------------------------

    def _apply(self, mode: Mode) -> None:
        """Bring what is staged into the tables."""
        if self._rejects is not None:
            self._rejects.apply(self.connection, self.tables, mode)
            self._rejects.require_few(self.tables)
            return
        for table in self.tables:
            table.apply(self.connection, mode)

    def _resolve_pending_rejects(self) -> None:
        """Ask about rejects of earlier runs; what cannot be asked stays, and is told at the end."""
        policy = self._transfer.rejects
        if policy is not None:
            with suppress(CopydError):
                resolve_pending(self._server, policy.directory, self._transfer.name)

    @property
    def _truncates(self) -> bool:
        return self._loading.mode == "replace" and self._loading.replace_with == "truncate"

    @property
    def _names(self) -> list[TableName]:
        return [table.name for table in self.tables]

    def _table(self, reading: Reading) -> TableLoad:
        return next(table for table in self.tables if table.reading == reading)

    def _count(self, table: TableLoad) -> int:
        """How many rows are there; the ledger knows, where it is about this table."""
        entry = table.there.entry
        if table.there.is_empty or self._loading.mode == "insert":
            return 0
        if entry is not None and entry.relation == table.there.oid:
            return entry.rows
        is_asked = self._ledger is not None
        return strategies.count(self.connection, table.target) if is_asked else 0

    def _delete_all(self) -> None:
        connection, triggers = self.connection, self._loading.triggers
        targets = [table.target for table in self.tables]
        keepers = guards.delete_triggers(connection, targets, triggers=triggers)
        for table in reversed(self.tables):
            table.before = connection.execute(strategies.delete(table.target)).rowcount
            names = keepers.get(table.target.relation.oid)
            if names:
                guards.require_emptied(connection, table.target, names)

    def _run_own(self, statements: Sequence[str], key: str) -> None:
        """Run the operator's SQL, which finds names as the role does."""
        if not statements:
            return
        connection = self.connection
        before = _transaction(connection)
        with looking_in(connection, self.session.own_path):
            for statement in statements:
                connection.execute(sql.SQL(statement))
        if _transaction(connection) != before:
            raise CopydError(f"{key} ends the transaction: leave COMMIT and ROLLBACK out of it")

    def _entry(self, table: TableLoad) -> Entry:
        """What the ledger says of the table from the COMMIT on."""
        snapshot, relation = self._snapshot, table.target.relation
        if snapshot is None:
            raise RuntimeError("nothing was read yet")
        entry, source = table.there.entry, table.reading.relation
        full_horizon, full_at = snapshot.xmin, table.there.now
        if entry is not None and not table.need.is_full:
            full_horizon, full_at = entry.full_horizon or 0, entry.full_at or full_at
        return Entry(
            schema=relation.schema,
            name=relation.name,
            relation=relation.oid,
            transfer=self._transfer.name,
            run=self._run,
            position=snapshot.reached,
            snapshot=snapshot.text,
            horizon=snapshot.xmin,
            full_horizon=full_horizon,
            mark=self.marks.get(table.reading.name),
            filenode=source.filenode if source is not None else None,
            rows=table.held,
            size=table.size,
            format=table.format,
            fingerprint=table.there.fingerprint,
            committed_at=table.there.now,
            full_at=full_at,
            after_commit_done=not self._loading.after_commit,
        )


def _rejects(transfer: Transfer, destination: str, run: str) -> Rejects | None:
    if transfer.on_error == "stop" or transfer.rejects is None or transfer.ledger is None:
        return None
    return Rejects(
        transfer.rejects, transfer.ledger, transfer=transfer.name, destination=destination, run=run
    )


def _in_full(loading: Loading) -> Loading:
    """Return how a full run loads: everything anew, whatever the ledger says."""
    if loading.mode in ("append", "merge"):
        return replace(loading, mode="replace", replace_with="delete")
    return loading


def _transaction(connection: Connection) -> object:
    """The number of the transaction, given to it if it has none yet."""
    row = connection.execute("SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text").fetchone()
    return row and row[0]
