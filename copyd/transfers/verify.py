"""Whether destinations hold what the source holds: rows counted and hashed by every server itself.

The source is read in one snapshot, each destination in one of its own. So what is written, or
loaded, between them is a difference. Nothing is written anywhere.
"""

from __future__ import annotations

import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import IsolationLevel, sql

from copyd.errors import CopydError
from copyd.loading.digest import Digest, Form, compute, digest_of, forms
from copyd.loading.ledger import Ledger
from copyd.loading.relations import look_up
from copyd.loading.session import OUR_PATH, begin, look_in, looking_in, milliseconds
from copyd.loading.target import Target
from copyd.names import TableName
from copyd.transfers.fitting import does_without_key
from copyd.transfers.reading import EVERYTHING, Bounds, Scan, conditions, select
from copyd.transfers.snapshot import SOURCE_SETTINGS, hold
from copyd.transfers.wording import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from copyd.loading.ledger import Entry, Position
    from copyd.loading.relations import Column, Relation
    from copyd.transfers.reading import Reading
    from copyd.transfers.snapshot import Snapshot, Source
    from copyd.transfers.transfer import Replica, Transfer

    Connection = psycopg.Connection[Any]

CANCEL_TIMEOUT = 2.0
"""Seconds to ask a server to stop before its connection is cut."""

_BY_PATH = re.compile(
    r"\breg(class|collation|config|dictionary|oper|operator|proc|procedure|type)\b"
)


class Likeness(Enum):
    """What came of comparing."""

    EQUAL = "equal"
    DIFFERS = "differs"
    UNKNOWN = "not compared"


@dataclass(frozen=True, slots=True)
class Compared:
    """One table at one destination; rows are None where nobody could count them.

    ``table`` is the source's, ``there`` the destination's. ``reason``: why it was not compared, or
    why it may differ by design.
    """

    destination: str
    table: str
    there: str
    source_rows: int | None
    rows: int | None
    likeness: Likeness
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every table at every destination, in the transfer's order.

    ``cause``: why nothing at all could be compared.
    """

    transfer: str
    seconds: float
    tables: tuple[Compared, ...]
    cause: str | None = None

    @property
    def likeness(self) -> Likeness:
        """Of all of them: one that differs makes it differ, else one that nobody knows."""
        return _sum_up(self.tables, is_whole=self.cause is None)

    def likeness_at(self, destination: str) -> Likeness:
        """Of the tables at one destination."""
        return _sum_up(self.at(destination), is_whole=self.cause is None)

    def at(self, destination: str) -> tuple[Compared, ...]:
        """The tables at one destination."""
        return tuple(each for each in self.tables if each.destination == destination)


def verify(transfer: Transfer, *, clock: Callable[[], float] = time.monotonic) -> Comparison:
    """Compare every table of `transfer` at every destination with the source.

    Where the source cannot be read, the comparison says so; nothing is raised.
    """
    if not transfer.replicas:
        return Comparison(transfer.name, 0.0, ())
    began = clock()
    tables: tuple[Compared, ...] = ()
    cause = None
    try:
        with hold(transfer) as source:
            tables = _compare(source)
    except CopydError as error:
        cause = str(error)
    except psycopg.Error as error:
        cause = f"source {transfer.source.name}: {facts(error)}"
    return Comparison(transfer.name, clock() - began, tables, cause)


def _sum_up(tables: Sequence[Compared], *, is_whole: bool) -> Likeness:
    found = {each.likeness for each in tables}
    if Likeness.DIFFERS in found:
        return Likeness.DIFFERS
    return Likeness.UNKNOWN if Likeness.UNKNOWN in found or not is_whole else Likeness.EQUAL


# -- what is asked, and of whom -------------------------------------------------------------------


class Asked(NamedTuple):
    """The rows of one scan at the source, spelled so."""

    scan: Scan
    spelled: tuple[Form, ...]


class Question(NamedTuple):
    """One table to be compared: what to ask the source, and what the destination."""

    asked: Asked
    target: Target
    spelled: tuple[Form, ...]


Answer = Digest | str
"""A digest, or the reason why there is none."""


def _compare(source: Source) -> tuple[Compared, ...]:
    """Ask the source and all destinations at once; the source each thing once."""
    snapshot, transfer = source.snapshot, source.transfer
    inspections = [
        Inspection(replica, transfer, source.readings, snapshot.position)
        for replica in transfer.replicas
    ]
    told: SimpleQueue[Inspection] = SimpleQueue()
    answers: dict[Asked, Answer] = {}
    with source.reader() as reader, _threads(inspections) as threads:
        ended = [threads.submit(inspection.run, told) for inspection in inspections]
        teller = Teller(reader, snapshot)
        for _ in inspections:
            for asked in told.get().asked():
                if asked not in answers:
                    answers[asked] = teller.tell(asked)
        for each in ended:
            each.result()
    return tuple(
        inspection.judge(reading, answers)
        for inspection in inspections
        for reading in source.readings
    )


@contextmanager
def _threads(inspections: Sequence[Inspection]) -> Iterator[ThreadPoolExecutor]:
    """Threads for all; where the block is left by an error they are not waited for long."""
    with ThreadPoolExecutor(len(inspections), thread_name_prefix="verify") as threads:
        try:
            yield threads
        except BaseException:
            for inspection in inspections:
                inspection.cut()
            raise


class Teller:
    """The source's side: digests of what its snapshot shows."""

    def __init__(self, reader: Connection, snapshot: Snapshot) -> None:
        self._reader = reader
        self._snapshot = snapshot
        self._own_path = begin(reader, **SOURCE_SETTINGS).path

    def tell(self, asked: Asked) -> Answer:
        """Compute a digest, or say why it cannot be had."""
        reading, connection = asked.scan.reading, self._reader
        is_ours = reading.has_xmin and reading.where is None
        by_path = [column.name for column in reading.columns if _BY_PATH.search(column.signature)]
        if by_path and not is_ours:
            return (
                f"column {by_path[0]} names objects, which the source spells by the search path "
                "that its view, query or condition needs: leave the column out"
            )
        wanted = conditions(asked.scan, self._snapshot)
        query = select(reading, digest_of(asked.spelled), wanted)
        try:
            with connection.transaction():
                look_in(connection, OUR_PATH if is_ours else self._own_path)
                return compute(connection, query)
        except psycopg.Error as error:
            return f"the source: {facts(error)}"


class Inspection:
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
        self._questions: dict[str, Question | str] = {}
        self._answers: dict[str, Answer] = {}
        self._connection: Connection | None = None
        self._is_over = False

    def run(self, told: SimpleQueue[Inspection]) -> None:
        """Find the tables, put itself into `told`, compute the digests."""
        try:
            try:
                self._find()
            except (CopydError, psycopg.Error) as error:
                reason = facts(error)
                self._questions = {reading.name: reason for reading in self._readings}
            finally:
                told.put(self)
            self._compute()
        finally:
            if self._connection is not None:
                self._connection.close()

    def asked(self) -> tuple[Asked, ...]:
        """What the source has to tell for this destination."""
        found = self._questions.values()
        return tuple(each.asked for each in found if isinstance(each, Question))

    def judge(self, reading: Reading, answers: Mapping[Asked, Answer]) -> Compared:
        """Compare one table, with all answers in."""
        question = self._questions[reading.name]
        name = self._replica.server.name
        if isinstance(question, str):
            there = self._named(reading)
            return Compared(name, reading.name, there, None, None, Likeness.UNKNOWN, question)
        there = question.target.relation.label
        given, held = answers[question.asked], self._answers[reading.name]
        reasons = [answer for answer in (given, held) if isinstance(answer, str)]
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
        connection = self._connection
        if connection is None or connection.closed:
            return
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=CANCEL_TIMEOUT)
        with (
            suppress(OSError, psycopg.OperationalError),
            socket.socket(fileno=os.dup(connection.fileno())) as duplicate,
        ):
            duplicate.shutdown(socket.SHUT_RDWR)

    def _find(self) -> None:
        """Connect, begin, and find what there is to compare.

        Raises CopydError or psycopg.Error where the server cannot be asked.
        """
        connection = self._connection = self._replica.server.connect()
        if self._is_over:
            raise CopydError(f"connected to {self._replica.server.name} too late")
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        lock_timeout = milliseconds(self._transfer.lock_timeout)
        session = begin(connection, lock_timeout=lock_timeout, row_security="off")
        for reading in self._readings:
            self._questions[reading.name] = self._look(connection, reading, session.path)

    def _compute(self) -> None:
        """Compute the digests of the tables that were found, one after the other."""
        for name, question in self._questions.items():
            if isinstance(question, Question) and self._connection is not None:
                self._answers[name] = _hold_against(self._connection, question)

    def _look(self, connection: Connection, reading: Reading, own_path: str) -> Question | str:
        """Find the table and see how it compares, or why it does not."""
        try:
            with connection.transaction():
                with looking_in(connection, own_path):
                    relation = look_up(connection, self._named(reading))
                stored = _stored(reading, relation)
                bounds = self._bounds(connection, reading, relation)
        except (CopydError, psycopg.Error) as error:
            return facts(error)
        given, held = forms(reading.columns, stored)
        target = Target(relation=relation, columns=stored, key=None, number=0)
        return Question(Asked(Scan(reading, bounds), given), target, held)

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
        """Return which rows of the source are meant to be there."""
        ledger, mode = self._transfer.ledger, self._replica.loading.mode
        if ledger is None or mode != "append" or not does_without_key(reading, relation):
            return EVERYTHING
        name = TableName(relation.schema, relation.name)
        entry = _read_entry(connection, Ledger(ledger), name)
        if entry is None or entry.relation != relation.oid:
            return EVERYTHING
        return loaded_until(entry, reading, self._transfer.name, self._position)


def _hold_against(connection: Connection, question: Question) -> Answer:
    """Compute the digest of a destination's table, or say why it cannot be had."""
    select_digest = sql.SQL("SELECT {} FROM {}")
    query = select_digest.format(digest_of(question.spelled), question.target.rows)
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


def _rows(answer: Answer) -> int | None:
    return answer.rows if isinstance(answer, Digest) else None


# -- how far an append without a key has come -----------------------------------------------------


def loaded_until(entry: Entry, reading: Reading, transfer: str, position: Position) -> Bounds:
    """Return which rows an append without a key has loaded; those beyond wait for the next run.

    Raises CopydError where the source no longer tells them from others.
    """
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
    """Read the ledger, without a lock: the transaction's snapshot shows it as the rows are.

    Raises CopydError where the ledger cannot be trusted.
    """
    if ledger.creation(connection):
        return None
    for sentence in ledger.refusals(connection):
        raise CopydError(sentence)
    return ledger.look(connection, [table])[table]
