"""Checks servers and transfers for everything a run would refuse; changes nothing.

All transactions are READ ONLY and rolled back. A check sends the queries of a run, but continues
after a refusal. The source's tables are locked as by a SELECT while the destinations are checked.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from copyd.catalog import begin, looking_in, milliseconds, read_access
from copyd.connection import one_row
from copyd.errors import CopydError
from copyd.loading import guards
from copyd.names import quote
from copyd.statements import statement
from copyd.transfers.check.destination import Offer, look_at
from copyd.transfers.check.findings import Finding, Notes
from copyd.transfers.faults import counted, facts
from copyd.transfers.source import (
    Bounds,
    bound_query,
    describe_query,
    find,
    hold,
    lock,
    reading_of,
    select_rows,
)
from copyd.transfers.transfer import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from copyd.catalog import Relation
    from copyd.connection import Connection
    from copyd.transfers.server import Server
    from copyd.transfers.source import Reading
    from copyd.transfers.transfer import Replica, Tables, Transfer

WITHIN = 15.0  # seconds for all servers to answer; they are checked in parallel


def inspect(
    transfers: Sequence[Transfer], servers: Sequence[Server], *, within: float = WITHIN
) -> tuple[Finding, ...]:
    """Check all `servers`, then the `transfers` between reachable ones; a timeout is an error."""
    asked = {server.name: partial(_look_at_server, server, within) for server in servers}
    found = _Inquiry(asked, within).findings()
    reached = asked.keys() - {each.server for each in found if each.severity == "error"}
    for transfer in transfers:
        found += _inspect(transfer, reached, within)
    return tuple(found)


@dataclass
class _Inquiry:
    """Checks of several servers in parallel; connections stay open until every check has ended."""

    asked: Mapping[str, Callable[[Notes, ExitStack], None]]
    within: float
    transfer: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    answers: SimpleQueue[tuple[Notes, Exception | None]] = field(default_factory=SimpleQueue)

    def findings(self) -> list[Finding]:
        """Return the findings in the order of the servers; raises defects of copyd itself."""
        threads = {name: self._start(name) for name in self.asked}
        try:
            answers = self._collect()
        finally:
            self.over.set()
        for name in answers:
            threads[name].join()
        return [finding for name in self.asked for finding in self._told(name, answers)]

    def _start(self, name: str) -> threading.Thread:
        started = threading.Thread(
            target=self._take, args=[name], name=f"copyd {name}", daemon=True
        )
        started.start()
        return started

    def _take(self, name: str) -> None:
        notes = Notes(name, self.transfer)
        with ExitStack() as stack:
            defect = None
            try:
                self.asked[name](notes, stack)
            except (CopydError, psycopg.Error) as error:
                notes.error(facts(error))
            except Exception as error:  # noqa: BLE001 - raised where the answers are read
                defect = error
            self.answers.put((notes, defect))
            # A closed connection gives up its advisory locks, by which self_copy recognizes a table
            # that two destinations share.
            self.over.wait()

    def _collect(self) -> dict[str, Notes]:
        deadline = monotonic() + self.within
        found: dict[str, Notes] = {}
        while len(found) < len(self.asked):
            try:
                notes, defect = self.answers.get(timeout=max(deadline - monotonic(), 0))
            except Empty:
                break
            if defect is not None:
                raise defect
            found[notes.server] = notes
        return found

    def _told(self, name: str, answers: Mapping[str, Notes]) -> list[Finding]:
        if name in answers:
            return answers[name].found
        late = Notes(name, self.transfer)
        late.error(f"no answer within {self.within:g} s")
        return late.found


# -- a server ---------------------------------------------------------------------------------------

_SERVER = statement("copyd.transfers.check", "server")


def _look_at_server(server: Server, within: float, notes: Notes, stack: ExitStack) -> None:
    connection = stack.enter_context(closing(server.connect()))
    connection.read_only = True
    begin(connection, statement_timeout=milliseconds(within))
    version, role, database = one_row(connection, _SERVER)
    notes.note("ok", f"PostgreSQL {version}, role {quote(role)}, database {quote(database)}")
    for sentence in guards.warnings(connection, ()):
        notes.note("warning", sentence)


# -- a transfer -------------------------------------------------------------------------------------


def _inspect(transfer: Transfer, reached: AbstractSet[str], within: float) -> list[Finding]:
    notes = Notes(transfer.source.name, transfer.name)
    there = [each for each in transfer.replicas if each.server.name in reached]
    absent = [each for each in transfer.replicas if each.server.name not in reached]
    try:
        if transfer.source.name not in reached:
            raise CopydError("it is this transfer's source, and could not be looked at")
        describe = partial(_describe, notes)
        settings = {"statement_timeout": milliseconds(within), "lock_timeout": "1s"}
        with hold(transfer, describe=describe, settings=settings) as source:
            offer = Offer(source, source.snapshot)
            found = _ask_destinations(transfer, there, within, offer)
    except (CopydError, psycopg.Error) as error:
        notes.error(facts(error))
        found = _ask_destinations(transfer, there, within, None)
    missing = Notes("", transfer.name)
    for replica in absent:
        missing.server = replica.server.name
        missing.error("it is a destination of this transfer, and could not be looked at")
    return [*notes.found, *found, *missing.found]


def _ask_destinations(
    transfer: Transfer, replicas: Sequence[Replica], within: float, offer: Offer | None
) -> list[Finding]:
    asked = {
        replica.server.name: partial(look_at, transfer, replica, offer=offer, within=within)
        for replica in replicas
    }
    return _Inquiry(asked, within, transfer.name).findings()


# -- the source -------------------------------------------------------------------------------------


def _describe(
    notes: Notes, connection: Connection, transfer: Transfer, own_path: str
) -> tuple[Reading, ...]:
    what = transfer.what
    readings: list[Reading] = []
    if isinstance(what, Query):
        with notes.trying(connection, "query"):
            readings.append(describe_query(connection, transfer, what, own_path))
            _try_reading(connection, transfer, readings[0], own_path)
            notes.note("ok", counted(len(readings[0].columns), "column"), "query")
        return tuple(readings)
    relations = _find_all(notes, connection, transfer, what, own_path)
    for relation in relations:
        with notes.trying(connection, relation.label):
            readings.append(reading_of(relation, transfer, what))
            _look_at_reading(notes, connection, transfer, readings[-1], own_path)
    _compare_options(notes, what, relations)
    return tuple(readings)


def _find_all(
    notes: Notes, connection: Connection, transfer: Transfer, what: Tables, own_path: str
) -> tuple[Relation, ...]:
    alone: dict[int, Relation] = {}
    names = []
    for name in what.names:
        with notes.trying(connection, name):
            found = find(connection, transfer, replace(what, names=(name,)), own_path)
            alone |= {relation.oid: relation for relation in found}
            names.append(name)
    together = tuple(alone.values())
    if len(names) > 1:
        with notes.trying(connection):
            together = find(connection, transfer, replace(what, names=tuple(names)), own_path)
    return together


def _look_at_reading(
    notes: Notes, connection: Connection, transfer: Transfer, reading: Reading, own_path: str
) -> None:
    relation = reading.relation
    assert relation is not None  # noqa: S101 - it is a table's
    names = [column.name for column in reading.columns]
    for sentence in read_access.refusals(connection, relation, names):
        notes.error(sentence, relation.label)
    if not notes.is_well(relation.label):
        return
    connection.execute(lock(relation))
    _try_reading(connection, transfer, reading, own_path)
    rows = reading.estimated_rows
    size = "" if rows is None else f", about {counted(rows, 'row')}"
    notes.note("ok", f"{counted(len(names), 'column')}{size}", relation.label)


def _try_reading(
    connection: Connection, transfer: Transfer, reading: Reading, own_path: str
) -> None:
    """EXPLAIN the queries of a run; raises psycopg.Error if the server refuses one."""
    with looking_in(connection, own_path):
        explain = sql.SQL("EXPLAIN {}")
        connection.execute(explain.format(select_rows(reading)))
        if reading.watermark_column is not None and transfer.overlap != "all":
            connection.execute(bound_query(reading, Bounds(lookback=transfer.overlap)))


def _compare_options(notes: Notes, what: Tables, relations: Sequence[Relation]) -> None:
    read = {relation.label for relation in relations}
    for name in what.options:
        if name not in read:
            notes.note("warning", "it has options, but is not among the tables that are read", name)
