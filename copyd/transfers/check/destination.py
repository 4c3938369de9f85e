"""A look at one destination: what a run would do there, up to its first change."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd.catalog import begin, milliseconds
from copyd.connection import one_row
from copyd.loading import Ledger, guards
from copyd.statements import statement
from copyd.transfers.destination import (
    look_up_there,
    misfits,
    name_of,
    need_of,
    order_of,
    parts_of,
    refusals,
    target_of,
    use_of,
)
from copyd.transfers.faults import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from copyd.connection import Connection
    from copyd.loading import Entry, Target
    from copyd.names import TableName
    from copyd.transfers.check.findings import Notes
    from copyd.transfers.source import Snapshot, Source
    from copyd.transfers.transfer import Loading, Replica, Transfer

_WRITABLE = statement("copyd.transfers.check", "writable")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source gives to all destinations; it stays held while they are looked at."""

    source: Source
    snapshot: Snapshot


def look_at(
    transfer: Transfer,
    replica: Replica,
    notes: Notes,
    stack: ExitStack,
    *,
    offer: Offer | None,
    within: float,
) -> None:
    """Note all that a run would refuse at `replica`, on a connection that `stack` closes.

    Without an `offer` the tables cannot be judged. Raises CopydError or psycopg.Error where the
    server is lost.
    """
    connection = stack.enter_context(closing(replica.server.connect()))
    connection.read_only = True
    wait, patience = milliseconds(transfer.lock_timeout), milliseconds(within)
    own_path = begin(connection, lock_timeout=wait, statement_timeout=patience).path
    _require_writable(connection, notes)
    ledger = None if transfer.ledger is None else Ledger(transfer.ledger)
    reasons = () if ledger is None else ledger.refusals(connection)
    for sentence in reasons:
        notes.error(sentence)
    if offer is None:
        notes.note("warning", "its tables were not looked at, for want of the source")
        return
    visit = _Visit(notes, connection, offer, replica.loading)
    visit.fit(own_path)
    if not reasons:
        visit.claim(ledger)
    visit.sum_up()


def _require_writable(connection: Connection, notes: Notes) -> None:
    row = one_row(connection, _WRITABLE)
    is_standby, read_only = row
    if is_standby:
        notes.error("it is a standby, where nothing can be written: name its primary")
    elif read_only == "on":
        notes.error(
            "its transactions are read-only: set default_transaction_read_only = off for the role"
        )


@dataclass
class _Visit:
    notes: Notes
    connection: Connection
    offer: Offer
    loading: Loading
    targets: list[Target] = field(default_factory=list)

    def fit(self, own_path: str) -> None:
        """Find the tables, and note why they cannot be loaded."""
        loading, connection, source = self.loading, self.connection, self.offer.source
        pairs = []
        for number, reading in enumerate(source.readings):
            named = loading.tables.get(reading.into, reading.into)
            with self.notes.trying(connection, named):
                (relation,) = look_up_there(connection, [reading], loading, own_path)
                target = target_of(reading, relation, meant=loading.mode, number=number)
                self.targets.append(target)
                pairs.append((reading, relation))
        with self.notes.trying(connection):
            for misfit in misfits(connection, source, pairs, loading, meant=loading.mode):
                self.notes.error(misfit.sentence, misfit.table)
        use = use_of(loading, deletes=source.transfer.delete_missing)
        with self.notes.trying(connection):
            for refusal in guards.refusals_by_table(connection, self.targets, use):
                self.notes.error(refusal.sentence, refusal.table or "")
        with self.notes.trying(connection):
            order_of(connection, self.targets, loading)

    def claim(self, ledger: Ledger | None) -> None:
        """Note where tables are not this transfer's to load."""
        names = [name_of(target) for target in self.targets]
        entries: dict[TableName, Entry | None] = {}
        with self.notes.trying(self.connection):
            entries |= {} if ledger is None else ledger.look(self.connection, names)
        for target in self.targets:
            with self.notes.trying(self.connection, target.relation.label):
                if self._can_be_seen(target):  # else that is said already
                    self._judge(target, entries, has_ledger=ledger is not None)

    def _judge(
        self, target: Target, entries: Mapping[TableName, Entry | None], *, has_ledger: bool
    ) -> None:
        source, loading, mode = self.offer.source, self.loading, self.loading.mode
        parts = parts_of(self.connection, source, [target], loading, entries, meant=mode)
        part = parts[target.relation.oid]
        transfer, identity = source.transfer, source.identity
        if has_ledger:
            adopt = loading.adopt
            for sentence in refusals(part.there, transfer, identity, mode=mode, adopt=adopt):
                self.notes.error(sentence, target.relation.label)
        need_of(part.there, part.reading, transfer, self.offer.snapshot, mode=mode)

    def _can_be_seen(self, target: Target) -> bool:
        asked = "SELECT pg_catalog.has_any_column_privilege(%s::oid, 'SELECT')"
        return self.connection.execute(asked, [target.relation.oid]).fetchone() == (True,)

    def sum_up(self) -> None:
        """Note what is worth knowing, and what is well."""
        general = guards.warnings(self.connection, ())
        for target in self.targets:
            relation, triggers = target.relation, self.loading.triggers
            for sentence in guards.warnings(self.connection, [relation], triggers=triggers):
                if sentence not in general:
                    self.notes.note("warning", sentence, relation.label)
            if self.notes.is_well(relation.label):
                key = f", key {', '.join(target.key.columns)}" if target.key is not None else ""
                how = f"{self.loading.mode}, {counted(len(target.columns), 'column')}{key}"
                self.notes.note("ok", how, relation.label)
