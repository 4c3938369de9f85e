"""The check of one destination."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copyd.catalog import begin, milliseconds
from copyd.connection import one_row
from copyd.loading import Ledger, guards
from copyd.statements import statement
from copyd.transfers.destination import Intent, look
from copyd.transfers.faults import counted

if TYPE_CHECKING:
    from contextlib import ExitStack

    from copyd.connection import Connection
    from copyd.transfers.check.findings import Notes
    from copyd.transfers.destination import Prepared
    from copyd.transfers.source import Snapshot, Source
    from copyd.transfers.transfer import Replica, Transfer

_WRITABLE = statement("copyd.transfers.check", "writable")


@dataclass(frozen=True, slots=True)
class Offer:
    """The source and its snapshot, both held until every destination is checked."""

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
    """Note every refusal of a run; raises CopydError, psycopg.Error if the connection fails."""
    connection = stack.enter_context(closing(replica.server.connect()))
    connection.read_only = True
    wait, patience = milliseconds(transfer.lock_timeout), milliseconds(within)
    own_path = begin(connection, lock_timeout=wait, statement_timeout=patience).path
    _require_writable(connection, notes)
    ledger = None if transfer.ledger is None else Ledger(transfer.ledger)
    if offer is None:
        for sentence in () if ledger is None else ledger.refusals(connection):
            notes.error(sentence)
        notes.note("warning", "its tables were not looked at, for want of the source")
        return
    intent = Intent.of(offer.source, replica, ledger)
    prepared = look(connection, intent, offer.snapshot, own_path, stops=False)
    notes.refuse(prepared.refusals)
    _sum_up(connection, intent, prepared, notes)


def _require_writable(connection: Connection, notes: Notes) -> None:
    is_standby, read_only = one_row(connection, _WRITABLE)
    if is_standby:
        notes.error("it is a standby, where nothing can be written: name its primary")
    elif read_only == "on":
        notes.error(
            "its transactions are read-only: set default_transaction_read_only = off for the role"
        )


def _sum_up(connection: Connection, intent: Intent, prepared: Prepared, notes: Notes) -> None:
    general, loading = guards.warnings(connection, ()), intent.loading
    for target in prepared.found.targets:
        relation = target.relation
        for sentence in guards.warnings(connection, [relation], triggers=loading.triggers):
            if sentence not in general:
                notes.note("warning", sentence, relation.label)
        if notes.is_well(relation.label):
            key = f", key {', '.join(target.key.columns)}" if target.key is not None else ""
            how = f"{loading.mode}, {counted(len(target.columns), 'column')}{key}"
            notes.note("ok", how, relation.label)
