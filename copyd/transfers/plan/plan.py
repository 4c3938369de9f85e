"""The statements a run would send in the present state of source and ledgers; none is sent.

A plan prints the list a run executes (destination/actions.py), with names for values known only
during the run. Catalog queries are left out, and so is everything a run sends only after a fault:
retries, the search for bad rows, the rewrite of rows that swap unique values, and the query to the
ledger about a COMMIT in doubt.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import IsolationLevel, sql

from copyd.catalog import OUR_PATH, path_statement, settings
from copyd.errors import CopydError
from copyd.loading import Ledger
from copyd.transfers.destination import (
    Intent,
    Session,
    claim,
    decide,
    find_deferrable,
    find_delete_triggers,
    look,
)
from copyd.transfers.faults import facts
from copyd.transfers.plan.script import Script, written
from copyd.transfers.source import (
    EXPORTED,
    SOURCE_SETTINGS,
    choose_format,
    copy_out,
    hold,
    import_snapshot,
    is_long,
    lock,
    watermark_queries,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.transfers.destination import Prepared, TableLoad
    from copyd.transfers.source import Scan, Snapshot, Source
    from copyd.transfers.transfer import Replica, Transfer


def plan(transfer: Transfer, *, is_full: bool = False) -> tuple[Script, ...]:
    """Return the statements of a run, source first; raises CopydError without a source."""
    with hold(transfer) as source, ExitStack() as stack:
        try:
            snapshot = source.snapshot
        except psycopg.Error as error:
            raise CopydError(f"source {transfer.source.name}: {facts(error)}") from error
        drafts = [_Draft.of(source, replica, is_full=is_full) for replica in transfer.replicas]
        groups: dict[tuple[Scan, ...], list[_Draft]] = {}
        for draft in drafts:
            stack.callback(draft.session.close)
            draft.look(snapshot)
            if draft.refusal is None:
                groups.setdefault(draft.scans, []).append(draft)
        # Decision: Destinations share a pass when their scans are equal
        ordered = sorted(groups.items(), key=lambda group: is_long(group[0]))
        passes = [
            _pass(source, snapshot, scans, group, number=number)
            for number, (scans, group) in enumerate(ordered, start=1)
        ]
        return (_held(source), *passes, *(draft.script(snapshot) for draft in drafts))


@dataclass
class _Draft:
    """One destination of a plan: its state, or the ``refusal`` that would end a run."""

    name: str
    intent: Intent
    session: Session
    prepared: Prepared | None = None
    creation: tuple[sql.Composed, ...] = ()
    refusal: str | None = None
    tables: tuple[TableLoad, ...] = field(default=(), init=False)

    @classmethod
    def of(cls, source: Source, replica: Replica, *, is_full: bool) -> _Draft:
        transfer, name = source.transfer, replica.server.name
        ledger = None if transfer.ledger is None else Ledger(transfer.ledger)
        session = Session(replica.server, lock_timeout=transfer.lock_timeout)
        return cls(name, Intent.of(source, replica, ledger, is_full=is_full), session)

    @property
    def scans(self) -> tuple[Scan, ...]:
        return tuple(scan for table in self.tables for scan in table.scans)

    def look(self, snapshot: Snapshot) -> None:
        intent = self.intent
        try:
            connection = self.session.connect()
            connection.read_only = True
            self.session.begin()
            self.prepared = look(connection, intent, snapshot, self.session.own_path, stops=True)
            self.tables = self.prepared.tables
            find_delete_triggers(connection, self.tables, intent.loading)
            if intent.keeps_rejects:
                find_deferrable(connection, [table for table in self.tables if table.is_staged])
            if intent.ledger is not None:
                self.creation = intent.ledger.creation(connection)
        except (CopydError, psycopg.Error) as error:
            self.refusal = facts(error)

    def script(self, snapshot: Snapshot) -> Script:
        if self.prepared is None or self.refusal is not None:
            return Script(self.name, "destination", refusal=self.refusal)
        claimed = claim(self.prepared.found, self.intent, self.creation)
        decided = (*claimed, *decide(self.prepared, self.intent, snapshot))
        return Script(self.name, "destination", written(decided, self.session))


def _held(source: Source) -> Script:
    def statements() -> Iterator[sql.Composable]:
        yield from settings(source.connection, **SOURCE_SETTINGS)
        yield path_statement(OUR_PATH)
        for reading in source.readings:
            if reading.relation is not None:
                yield lock(reading.relation)
        if source.snapshot.identifier is not None:
            yield sql.SQL("SELECT {}").format(EXPORTED)

    level = IsolationLevel.READ_COMMITTED
    return Script.of_source(source, "source, held", level, statements())


def _pass(
    source: Source,
    snapshot: Snapshot,
    scans: Sequence[Scan],
    group: Sequence[_Draft],
    *,
    number: int,
) -> Script:
    transfer = source.transfer

    def statements() -> Iterator[sql.Composable]:
        if snapshot.identifier is not None:
            yield import_snapshot(snapshot.identifier)
        yield from settings(source.connection, **SOURCE_SETTINGS)
        yield from watermark_queries(scans, snapshot, transfer.overlap).values()
        for table in (table for draft in group for table in draft.tables):
            if table.bound_query is not None:
                yield table.bound_query
        for scan in scans:
            fed = [
                table for draft in group for table in draft.tables if table.reading == scan.reading
            ]
            format_ = choose_format(
                transfer.format,
                [column.type for column in scan.columns],
                [table.binary_refusal for table in fed],
                has_rejects=transfer.on_error != "stop",
            )
            for table in fed:
                table.formats[scan] = format_.name
            yield copy_out(scan, snapshot, format_=format_.name)

    purpose = f"source, pass {number} for {', '.join(draft.name for draft in group)}"
    return Script.of_source(source, purpose, IsolationLevel.REPEATABLE_READ, statements())
