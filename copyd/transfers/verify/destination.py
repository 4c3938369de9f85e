"""A destination's side of a comparison: digests in one READ ONLY transaction, in a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import IsolationLevel, sql

from copyd.catalog import (
    Digest,
    begin,
    compute,
    digest_of,
    forms,
    milliseconds,
)
from copyd.errors import CopydError
from copyd.loading import Ledger, Target
from copyd.names import TableName
from copyd.transfers.backend import cut
from copyd.transfers.destination import does_without_key, look_up_there
from copyd.transfers.faults import facts
from copyd.transfers.source import EVERYTHING, Bounds, Scan
from copyd.transfers.verify.comparison import (
    Compared,
    DigestQuery,
    DigestResult,
    Likeness,
    TablePair,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from queue import SimpleQueue

    from copyd.catalog import Column, Relation
    from copyd.connection import Connection
    from copyd.loading import Entry, Position
    from copyd.transfers.source import Reading
    from copyd.transfers.transfer import Replica, Transfer


class DestinationSide:
    """One destination, looked at in a thread of its own and in one READ ONLY transaction."""

    def __init__(
        self,
        replica: Replica,
        transfer: Transfer,
        readings: Sequence[Reading],
        position: Position,
    ) -> None:
        self._replica = replica
        self._transfer = transfer
        self._readings = readings
        self._position = position
        self._pairs: dict[str, TablePair | str] = {}
        self._results: dict[str, DigestResult] = {}
        self._connection: Connection | None = None
        self._is_over = False

    def run(self, told: SimpleQueue[DestinationSide]) -> None:
        """Find the tables, put itself into `told`, compute the digests."""
        try:
            try:
                self._find()
            except (CopydError, psycopg.Error) as error:
                reason = facts(error)
                self._pairs = {reading.name: reason for reading in self._readings}
            finally:
                told.put(self)
            self._compute()
        finally:
            if self._connection is not None:
                self._connection.close()

    def queries(self) -> tuple[DigestQuery, ...]:
        """What the source is asked for this destination."""
        found = self._pairs.values()
        return tuple(each.query for each in found if isinstance(each, TablePair))

    def judge(self, reading: Reading, results: Mapping[DigestQuery, DigestResult]) -> Compared:
        """Compare one table, with all results in."""
        pair = self._pairs[reading.name]
        name = self._replica.server.name
        if isinstance(pair, str):
            there = self._named(reading)
            return Compared(name, reading.name, there, None, None, Likeness.UNKNOWN, pair)
        there = pair.target.relation.label
        given, held = results[pair.query], self._results[reading.name]
        reasons = [result for result in (given, held) if isinstance(result, str)]
        if reasons:
            likeness = Likeness.UNKNOWN
        elif given == held:
            likeness = Likeness.EQUAL
        else:
            likeness, reasons = Likeness.DIFFERS, self._by_design()
        reason = "; ".join(reasons) or None
        return Compared(name, reading.name, there, _rows(given), _rows(held), likeness, reason)

    def cut(self) -> None:
        """Stop what the server is doing for us, and end the thread that waits for it."""
        self._is_over = True
        if self._connection is not None:
            cut(self._connection, cancels=True)

    def _find(self) -> None:
        connection = self._connection = self._replica.server.connect()
        if self._is_over:
            raise CopydError(f"connected to {self._replica.server.name} too late")
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        lock_timeout = milliseconds(self._transfer.lock_timeout)
        session = begin(connection, lock_timeout=lock_timeout, row_security="off")
        for reading in self._readings:
            self._pairs[reading.name] = self._look(connection, reading, session.path)

    def _compute(self) -> None:
        for name, pair in self._pairs.items():
            if isinstance(pair, TablePair) and self._connection is not None:
                self._results[name] = _hold_against(self._connection, pair)

    def _look(self, connection: Connection, reading: Reading, own_path: str) -> TablePair | str:
        try:
            with connection.transaction():
                loading = self._replica.loading
                (relation,) = look_up_there(connection, [reading], loading, own_path)
                stored = _stored(reading, relation)
                bounds = self._bounds(connection, reading, relation)
        except (CopydError, psycopg.Error) as error:
            return facts(error)
        given, held = forms(reading.columns, stored)
        target = Target(relation=relation, columns=stored, key=None, number=0)
        return TablePair(DigestQuery(Scan(reading, bounds), given), target, held)

    def _by_design(self) -> list[str]:
        """Say what may be no fault of rows that differ."""
        mode, transfer = self._replica.loading.mode, self._transfer
        if mode == "append":
            stays = "rows that the source has deleted or updated since stay as they were"
        elif mode == "merge" and not transfer.delete_missing:
            stays = "rows that the source no longer has stay there"
        else:
            return []
        how = f"copyd once {transfer.name} --full loads all anew"
        return [f"under {mode} {stays} by design; {how}"]

    def _named(self, reading: Reading) -> str:
        return self._replica.loading.tables.get(reading.into, reading.into)

    def _bounds(self, connection: Connection, reading: Reading, relation: Relation) -> Bounds:
        ledger, mode = self._transfer.ledger, self._replica.loading.mode
        if ledger is None or mode != "append" or not does_without_key(reading, relation):
            return EVERYTHING
        name = TableName(relation.schema, relation.name)
        entry = _read_entry(connection, Ledger(ledger), name)
        if entry is None or entry.relation != relation.oid:
            return EVERYTHING
        return loaded_until(entry, reading, self._transfer.name, self._position)


def _hold_against(connection: Connection, pair: TablePair) -> DigestResult:
    select_digest = sql.SQL("SELECT {} FROM {}")
    query = select_digest.format(digest_of(pair.rendered), pair.target.rows)
    try:
        with connection.transaction():
            return compute(connection, query)
    except psycopg.Error as error:
        return facts(error)


def _stored(reading: Reading, relation: Relation) -> tuple[Column, ...]:
    """Return the columns that hold what is read, in its order; CopydError where one is missing."""
    by_name = {column.name: column for column in relation.columns}
    missing = [column.name for column in reading.columns if column.name not in by_name]
    if missing:
        raise CopydError(f"table {relation.label} has no column {', '.join(missing)}")
    return tuple(by_name[column.name] for column in reading.columns)


def _rows(result: DigestResult) -> int | None:
    return result.rows if isinstance(result, Digest) else None


def loaded_until(entry: Entry, reading: Reading, transfer: str, position: Position) -> Bounds:
    """Return the bounds of rows that a keyless append has loaded; raises CopydError if unknown."""
    is_ours = entry.transfer == transfer and entry.horizon is not None
    if not is_ours or entry.position.system_identifier != position.system_identifier:
        return EVERYTHING
    filenode = reading.relation.filenode if reading.relation is not None else None
    if entry.position.timeline != position.timeline or entry.filenode != filenode:
        raise CopydError(
            f"the source failed over, or its table {reading.name} was rewritten, since rows were "
            "last appended, and without a key nobody can tell those that are there: run copyd once "
            f"{transfer} --full"
        )
    return Bounds(until=entry.horizon)


def _read_entry(connection: Connection, ledger: Ledger, table: TableName) -> Entry | None:
    """Read the ledger in the snapshot, without a lock; raises CopydError if it is not trusted."""
    if ledger.creation(connection):
        return None
    for sentence in ledger.refusals(connection):
        raise CopydError(sentence)
    return ledger.look(connection, [table])[table]
