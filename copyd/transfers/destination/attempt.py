"""One try to load one destination: one connection, one transaction, to COMMIT or to nothing.

What a try knows ends with it; the destination keeps what outlives it. Each step runs in a thread of
its own and may be cut off: nobody waits for one that was.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from copyd.catalog import OUR_PATH, begin, look_in, looking_in, milliseconds
from copyd.copyman import StatementReceiver
from copyd.errors import CopydError
from copyd.loading import Entry, Ledger, guards, strategies
from copyd.transfers.backend import Backend, cut, end
from copyd.transfers.destination.horizon import decide
from copyd.transfers.destination.pending_rejects import settle_at
from copyd.transfers.destination.preparation import claim, find_targets
from copyd.transfers.destination.rejects import Aside
from copyd.transfers.faults import is_transient
from copyd.transfers.source import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from copyd.connection import Connection
    from copyd.copyman import Link
    from copyd.names import TableName
    from copyd.transfers.destination.table_load import Part
    from copyd.transfers.source import Reading, Snapshot, Source
    from copyd.transfers.transfer import Loading, Mode, Replica, Transfer


CUT_WITHIN = 2.0
"""Seconds that a thread gets to notice that its connection was cut."""
NO_STANDBY = "SET LOCAL synchronous_commit = local"
"""Statistics need not wait for a standby."""
SKIP = "SET LOCAL session_replication_role = replica"
"""What keeps triggers from firing."""


class Attempt:
    """One try; made anew for each. Its steps are taken in the order in which they stand here.

    ``parts`` are the tables in the order of loading, parents before children. ``is_committing``:
    COMMIT was sent and not refused, so that nobody but the ledger knows what became of it unless
    ``is_committed``.
    ``marks``: the highest cursor of each reading, where the source was asked for it.
    """

    def __init__(self, replica: Replica, transfer: Transfer, run: str, *, is_full: bool) -> None:
        self.parts: tuple[Part, ...] = ()
        self.backend: Backend | None = None
        self.is_committing = False
        self.is_committed = False
        self.marks: dict[str, str | None] = {}
        self.analyze_seconds = 0.0
        self.notes: list[str] = []
        self._server = replica.server
        self._loading = _in_full(replica.loading) if is_full else replica.loading
        self._meant = replica.loading.mode
        self._transfer = transfer
        self._run = run
        self._is_full = is_full
        self._ledger = None if transfer.ledger is None else Ledger(transfer.ledger)
        self._connection: Connection | None = None
        self._own_path = ""
        self._aside = _aside(transfer, replica.server.name, run)
        self._receiver: StatementReceiver | None = None
        self._snapshot: Snapshot | None = None
        self._over = threading.Event()
        self._working = threading.Lock()  # guards who uses and who closes the connection

    @property
    def connection(self) -> Connection:
        """The connection; raises RuntimeError before there is one."""
        if self._connection is None:
            raise RuntimeError(f"destination {self._server.name} is not connected")
        return self._connection

    @property
    def is_lost(self) -> bool:
        """Whether its connection is gone, so that nobody can ask the server any more."""
        connection = self._connection
        return connection is None or connection.closed or connection.broken

    # -- before the data --------------------------------------------------------------------------

    def prepare(self, source: Source, predecessor: Backend | None) -> None:
        """Connect, claim the ledger, lock the tables, and see that the rows will fit.

        Raises CopydError or psycopg.Error where they will not.
        """
        connection = self._connect()
        if predecessor is not None:
            end(connection, predecessor)
        self._settle_rejects()
        self.backend = self._begin(connection)
        if self._ledger is not None and self._ledger.prepare(connection):
            connection.commit()  # the ledger is new, and other runs wait for it
            self._begin(connection)
        targets = find_targets(
            connection, source, self._loading, meant=self._meant, own_path=self._own_path
        )
        self.parts = claim(
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
        for part in self.parts:
            part.before = self._count(part)
            if part.is_staged:
                self.connection.execute(strategies.stage(part.target))
            if part.removes:
                self.connection.execute(strategies.stage_keys(part.target))

    def scans(self, snapshot: Snapshot) -> tuple[Scan, ...]:
        """Say what is to be read for this destination, in the order of loading.

        Raises CopydError where the ledger forbids it under `snapshot`.
        """
        self._snapshot = snapshot
        found: list[Scan] = []
        for part in self.parts:
            mode = self._loading.mode
            part.need = decide(
                part.there,
                part.reading,
                self._transfer,
                snapshot,
                mode=mode,
                is_forced=self._is_full,
            )
            found.append(Scan(part.reading, part.need.bounds))
            if part.removes and part.target.key is not None:
                found.append(Scan(part.reading, keys_only=part.target.key.columns))
        return tuple(found)

    def binary_refusal(self, reading: Reading) -> str | None:
        """Say why rows of `reading` cannot come in binary."""
        return self._part(reading).binary_refusal

    # -- the data ---------------------------------------------------------------------------------

    def empty(self) -> None:
        """TRUNCATE the tables; from here on their readers wait for the COMMIT.

        Raises psycopg.Error where the server refuses.
        """
        if self._truncates:
            self.connection.execute(strategies.truncate([part.target for part in self.parts]))
        # COPY fires triggers and defaults of the tables, which find names as the role does.
        look_in(self.connection, self._own_path)

    def receiver(self, scan: Scan, *, format_: str) -> StatementReceiver:
        """Return what takes the rows of `scan`."""
        statement = self.copy_in(scan, format_=format_)
        connection, link = self.connection, self._transfer.link
        if self._aside is None:
            self._receiver = StatementReceiver(connection, statement, link=link)
        elif scan.keys_only is not None:
            self._receiver = self._aside.key_receiver(connection, statement, link=link)
        else:
            part = self._part(scan.reading)
            self._receiver = self._aside.receiver(connection, statement, part, link=link)
        return self._receiver

    def copy_in(self, scan: Scan, *, format_: str) -> sql.Composed:
        """Return the COPY statement that takes the rows of `scan`."""
        part = self._part(scan.reading)
        part.format = format_
        if scan.keys_only is not None:
            return strategies.copy_keys(part.target, format=format_)
        if part.is_staged:
            return strategies.copy_into_stage(part.target, format=format_)
        is_frozen = self._truncates and part.target.relation.kind == "r"
        return strategies.copy_rows(part.target, format=format_, freeze=is_frozen)

    @property
    def link(self) -> Link | None:
        """How the last data travelled; None before any did."""
        return self._receiver.link if self._receiver is not None else None

    def loaded(self, scan: Scan, *, rows: int, size: int) -> None:
        """Note what a scan brought, once the server says that it has it, or has put it aside."""
        part = self._part(scan.reading)
        part.size += size
        if scan.keys_only is None:
            part.read = part.rows = rows

    # -- after the data ---------------------------------------------------------------------------

    def finish(self) -> None:
        """Apply what is staged, write the ledger, run ``after``, COMMIT.

        Raises CopydError where too many rows would vanish, or are rejected, and psycopg.Error where
        the server refuses.
        """
        if self._aside is not None:
            self._aside.settle_held()
        look_in(self.connection, OUR_PATH)
        mode = self._loading.mode
        self._apply(mode)
        for part in reversed(self.parts):
            part.remove_missing(self.connection)
        for part in self.parts:
            part.require_not_shrunk(mode, self._transfer.max_shrink)
        for part in self.parts:
            if self._ledger is not None:
                self._ledger.record(self.connection, self._entry(part))
        self._run_own(self._loading.after, "after")  # whatever it commits, the ledger says so
        if self._aside is not None:
            self._aside.seal(self.parts)
        self._commit()
        self._publish()

    def inherit(self, lost: Attempt) -> None:
        """Take over from another the COMMIT of which nobody knows what became of it."""
        self.parts, self.backend = lost.parts, lost.backend
        self._aside, lost._aside = lost._aside, None
        self.is_committing = True

    def settle(self) -> None:
        """Find out what became of the COMMIT of the one before, however long that takes.

        Raises what will not pass by itself, and at last what kept it from being found out.
        """
        attempts = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_when_event_set(self._over),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            sleep=sleep_using_event(self._over),
            reraise=True,
        )
        attempts(self._ask_the_ledger)
        self.is_committing = self.is_committed
        if self.is_committed:
            self._publish()

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
            for part in self.parts:
                analyze = sql.SQL("ANALYZE {}").format(part.target.relation.identifier)
                connection.execute(analyze)
            connection.commit()
            self.analyze_seconds = monotonic() - began

    # -- being given up ---------------------------------------------------------------------------

    def work(self, step: Callable[[], None]) -> None:
        """Take `step` in a thread; if the try is given up meanwhile, close the connection then."""
        try:
            with self._working:
                step()
        finally:
            if self._over.is_set():
                self.close()

    def cut(self) -> None:
        """Cut the connection under a thread that waits on it: it gets an error instead."""
        self._over.set()
        if self._connection is not None:
            cut(self._connection)

    def cut_and_wait(self) -> None:
        """Cut it, and wait for the thread a little: what it has done is known then."""
        self.cut()
        if self._working.acquire(timeout=CUT_WITHIN):
            self._working.release()

    def close(self) -> None:
        """Roll back what is not committed; a thread that is at work is cut off and does it."""
        self._over.set()
        if self._working.acquire(blocking=False):
            try:
                if self._connection is not None:
                    self._connection.close()
                if self._aside is not None and not self.is_committed:
                    self._aside.close(is_doubtful=self.is_committing)
            finally:
                self._working.release()
        else:
            self.cut()

    # -- steps of steps ---------------------------------------------------------------------------

    def _apply(self, mode: Mode) -> None:
        """Bring what is staged into the tables."""
        if self._aside is not None:
            self._aside.apply(self.connection, self.parts, mode)
            self._aside.require_few(self.parts)
            return
        for part in self.parts:
            part.apply(self.connection, mode)

    def _settle_rejects(self) -> None:
        """Settle what earlier runs left; what cannot be looked at stays, and is told at the end."""
        policy = self._transfer.rejects
        if policy is not None:
            with suppress(CopydError):
                settle_at(self._server, policy.directory, self._transfer.name)

    def _commit(self) -> None:
        self.is_committing = True
        try:
            self.connection.commit()
        except psycopg.Error:
            self.is_committing = self.is_lost  # a server that refuses has surely not committed
            raise
        self.is_committed = True

    def _publish(self) -> None:
        """Publish the rejects of what is committed; what fails here, the next start makes good."""
        if self._aside is not None:
            try:
                self._aside.publish()
            except CopydError as error:
                self.notes.append(str(error))

    def _connect(self) -> Connection:
        self._connection = self._server.connect()
        if self._over.is_set():  # the run did not wait
            raise CopydError(f"connected to {self._server.name} too late")
        return self._connection

    def _begin(self, connection: Connection) -> Backend:
        lock_timeout = milliseconds(self._transfer.lock_timeout)
        session = begin(connection, lock_timeout=lock_timeout)
        self._own_path = session.path
        return Backend(session.pid, session.started)

    @property
    def _truncates(self) -> bool:
        return self._loading.mode == "replace" and self._loading.replace_with == "truncate"

    @property
    def _names(self) -> list[TableName]:
        return [part.name for part in self.parts]

    def _part(self, reading: Reading) -> Part:
        return next(part for part in self.parts if part.reading == reading)

    def _count(self, part: Part) -> int:
        """How many rows are there; the ledger knows, where it is about this table."""
        entry = part.there.entry
        if part.there.is_empty or self._loading.mode == "insert":
            return 0
        if entry is not None and entry.relation == part.there.oid:
            return entry.rows
        is_asked = self._ledger is not None
        return strategies.count(self.connection, part.target) if is_asked else 0

    def _delete_all(self) -> None:
        connection, triggers = self.connection, self._loading.triggers
        targets = [part.target for part in self.parts]
        keepers = guards.delete_triggers(connection, targets, triggers=triggers)
        for part in reversed(self.parts):
            part.before = connection.execute(strategies.delete(part.target)).rowcount
            names = keepers.get(part.target.relation.oid)
            if names:
                guards.require_emptied(connection, part.target, names)

    def _run_own(self, statements: Sequence[str], key: str) -> None:
        """Run the operator's SQL, which finds names as the role does."""
        if not statements:
            return
        connection = self.connection
        before = _transaction(connection)
        with looking_in(connection, self._own_path):
            for statement in statements:
                connection.execute(sql.SQL(statement))
        if _transaction(connection) != before:
            raise CopydError(f"{key} ends the transaction: leave COMMIT and ROLLBACK out of it")

    def _entry(self, part: Part) -> Entry:
        """What the ledger says of the table from the COMMIT on."""
        snapshot, relation = self._snapshot, part.target.relation
        if snapshot is None:
            raise RuntimeError("nothing was read yet")
        entry, source = part.there.entry, part.reading.relation
        full_horizon, full_at = snapshot.xmin, part.there.now
        if entry is not None and not part.need.is_full:
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
            mark=self.marks.get(part.reading.name),
            filenode=source.filenode if source is not None else None,
            rows=part.held,
            size=part.size,
            format=part.format,
            fingerprint=part.there.fingerprint,
            committed_at=part.there.now,
            full_at=full_at,
            after_commit_done=not self._loading.after_commit,
        )

    def _ask_the_ledger(self) -> None:
        """Ask on a new connection, once our old backend has ended; the row's lock says when."""
        if self._ledger is None or self.backend is None:
            raise RuntimeError("without a ledger nobody knows")
        if self._connection is not None:
            self._connection.close()
        connection = self._connect()
        end(connection, self.backend)
        self._begin(connection)
        name = self._names[0]
        self.is_committed = self._ledger.settle(connection, name.schema, name.name, self._run)


def _aside(transfer: Transfer, destination: str, run: str) -> Aside | None:
    if transfer.on_error == "stop" or transfer.rejects is None or transfer.ledger is None:
        return None
    return Aside(
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
