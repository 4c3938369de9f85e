"""The statements that a run would send, as the source and the ledgers are now; none is sent.

The steps are those of a run, taken on a script: a plan cannot say something else than a run does.
What a fault would change is not in it: tries again, rows that two tables trade, a COMMIT that is
settled.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from copyd.catalog import begin
from copyd.errors import CopydError
from copyd.loading import strategies
from copyd.transfers.destination import (
    DEFER,
    SKIP,
    Attempt,
    find_targets,
    is_locked,
    name_of,
    order_of,
    parts_of,
    require_ours,
)
from copyd.transfers.faults import facts
from copyd.transfers.plan.recorder import Later, Script, Unknown
from copyd.transfers.source import (
    SOURCE_SETTINGS,
    choose_format,
    copy_out,
    hold,
    is_long,
    lock,
    mark_query,
    share,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.connection import Connection
    from copyd.loading import Entry, Ledger, Target
    from copyd.names import TableName
    from copyd.transfers.backend import Backend
    from copyd.transfers.source import Scan, Snapshot, Source
    from copyd.transfers.transfer import Replica, Transfer


@dataclass(frozen=True, slots=True)
class Section:
    """What one session would send; or, where it would get nowhere, why."""

    server: str
    purpose: str
    statements: tuple[str, ...] = ()
    refusal: str | None = None


def plan(transfer: Transfer, *, is_full: bool = False) -> tuple[Section, ...]:
    """Say what a run of `transfer` would send: to the source, then to each destination.

    Raises CopydError where the source cannot be read.
    """
    with hold(transfer) as source, ExitStack() as stack:
        try:
            snapshot = source.snapshot
        except psycopg.Error as error:
            raise CopydError(f"source {transfer.source.name}: {facts(error)}") from error
        rehearsals = []
        for replica in transfer.replicas:
            rehearsal = Rehearsal(replica, transfer, is_full=is_full)
            stack.callback(rehearsal.session.close)
            rehearsal.begin(source, snapshot)
            rehearsals.append(rehearsal)
        groups: dict[tuple[Scan, ...], list[Rehearsal]] = {}
        for rehearsal in rehearsals:
            if rehearsal.refusal is None:
                groups.setdefault(rehearsal.needs, []).append(rehearsal)
        ordered = sorted(groups.items(), key=lambda group: is_long(group[0]))
        passes = [
            _pass(source, snapshot, scans, group, number=number)
            for number, (scans, group) in enumerate(ordered, start=1)
        ]
        return (_holding(source), *passes, *(each.end() for each in rehearsals))


class Rehearsal(Attempt):
    """A try that is written down; its steps are those of a try."""

    def __init__(self, replica: Replica, transfer: Transfer, *, is_full: bool) -> None:
        super().__init__(replica, transfer, Later("run"), is_full=is_full)
        self.name = replica.server.name
        self.refusal: str | None = None
        self.needs: tuple[Scan, ...] = ()
        self._script: Script | None = None

    def begin(self, source: Source, snapshot: Snapshot) -> None:
        """Take the steps before the data; where that fails, ``refusal`` says why."""
        try:
            self.prepare(source, None)
            self.clear()
            self.needs = self.scans(snapshot)
            self.empty()
        except (CopydError, psycopg.Error) as error:
            self.refusal = facts(error)

    def prepare(self, source: Source, predecessor: Backend | None) -> None:
        """Look at what is there, then go on with a script instead of the connection.

        Raises CopydError or psycopg.Error where a run could not go on.
        """
        del predecessor
        connection = self.session.connect()
        connection.read_only = True
        self.session.begin()
        if self._ledger is not None:
            for sentence in self._ledger.refusals(connection):
                raise CopydError(sentence)
        targets = find_targets(
            connection, source, self._loading, meant=self._meant, own_path=self.session.own_path
        )
        has_circles = self._arrange(connection, source, targets)
        self._script = Script(connection)
        self.session.use(self._script.as_connection)
        self._begin_again()
        if self._ledger is not None:
            self._claim(connection, self._ledger, targets)
        if is_locked(self._loading):
            self.connection.execute(strategies.lock(targets))
        if has_circles and self._loading.triggers != "skip":
            self.connection.execute(DEFER)
        if self._loading.triggers == "skip":
            self.connection.execute(SKIP)

    def take(self, scan: Scan, *, format_: str) -> None:
        """Write down how the rows of `scan` are taken."""
        self.connection.execute(self.copy_in(scan, format_=format_))
        self.loaded(scan, rows=Unknown(), size=Unknown())

    def end(self) -> Section:
        """Take the steps after the data, and return all."""
        script = self._script
        if script is None or self.refusal is not None:
            return Section(self.name, "destination", refusal=self.refusal)
        if self._transfer.overlap != "all":
            self.marks = {
                table.reading.name: Later("mark") for table in self.tables if table.reading.cursor
            }
        self.finish()
        self.tidy()
        return Section(self.name, "destination", tuple(script.statements))

    def _begin_again(self) -> None:
        """Begin as before; the search path that is the role's own is known already."""
        own_path = self.session.own_path
        self.session.begin()
        self.session.own_path = own_path

    def _arrange(self, connection: Connection, source: Source, targets: Sequence[Target]) -> bool:
        """Put the parts in the order of loading; True where their references go in a circle."""
        entries: dict[TableName, Entry | None] = {}
        if self._ledger is not None:
            entries = self._ledger.look(connection, map(name_of, targets))
        loading, transfer = self._loading, source.transfer
        parts = parts_of(connection, source, targets, loading, entries, meant=self._meant)
        for part in parts.values() if self._ledger is not None else ():
            mode, adopt = loading.mode, loading.adopt
            require_ours(part.there, transfer, source.identity, mode=mode, adopt=adopt)
        order = order_of(connection, targets, loading)
        self.tables = tuple(parts[oid] for oid in order.order)
        return bool(order.circles)

    def _claim(self, connection: Connection, ledger: Ledger, targets: Sequence[Target]) -> None:
        creation = ledger.creation(connection)
        for statement in creation:
            self.connection.execute(statement)
        if creation:
            self.connection.commit()
            self._begin_again()
        ledger.hold(self.connection, map(name_of, targets))


def _holding(source: Source) -> Section:
    """What the session sends that holds the tables while the run lasts."""
    script = Script(source.connection, is_read_only=True)
    begin(script.as_connection, **SOURCE_SETTINGS)
    for reading in source.readings:
        if reading.relation is not None:
            script.execute(lock(reading.relation))
    if source.snapshot.identifier is not None:
        script.write("SELECT pg_catalog.pg_export_snapshot()")
    return Section(source.transfer.source.name, "source, held", tuple(script.statements))


def _pass(
    source: Source,
    snapshot: Snapshot,
    scans: Sequence[Scan],
    group: Sequence[Rehearsal],
    *,
    number: int,
) -> Section:
    """What the session sends that reads once for all of `group`, who take it."""
    transfer = source.transfer
    level = psycopg.IsolationLevel.REPEATABLE_READ
    script = Script(source.connection, isolation=level, is_read_only=True)
    share(script.as_connection, snapshot.identifier)
    if transfer.overlap != "all":
        for reading in dict.fromkeys(scan.reading for scan in scans):
            if reading.cursor is not None:
                script.execute(mark_query(reading, snapshot))
    for scan in scans:
        format_ = choose_format(
            transfer.format,
            [column.type for column in scan.columns],
            [each.binary_refusal(scan.reading) for each in group],
            has_rejects=transfer.on_error != "stop",
        )
        script.execute(copy_out(scan, snapshot, format_=format_.name))
        for rehearsal in group:
            rehearsal.take(scan, format_=format_.name)
    purpose = f"source, pass {number} for {', '.join(each.name for each in group)}"
    return Section(transfer.source.name, purpose, tuple(script.statements))
