"""One pass: the source is scanned once for destinations that need the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from copyd.copyman import BatchReceiver, CopyFail, CopyManager, StatementProducer
from copyd.errors import CopydError
from copyd.transfers.faults import facts, name_table
from copyd.transfers.running.relay import Relay
from copyd.transfers.running.states import State
from copyd.transfers.source import bound_query, choose_format, copy_out, mark_query
from copyd.transfers.stop import RunStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from copyd.connection import Connection
    from copyd.copyman import Producer, Receiver
    from copyd.events import Observer
    from copyd.transfers.running.states import Destination
    from copyd.transfers.source import Scan, Source


class SourceLost(CopydError):
    """The source did not deliver; its cause is what the server or the network said."""


@dataclass(frozen=True, kw_only=True)
class Passes:
    """What all passes of a run have in common.

    ``drop`` takes a destination out of the pass for what it raised; ``finish`` lets one go on that has
    all of it, though others are late; ``tick`` is called while data
    flows and may raise to end it; ``time_left``: seconds until the deadline.
    """

    source: Source
    observe: Observer
    drop: Callable[[Destination, BaseException], None]
    finish: Callable[[Destination], None]
    tick: Callable[[], None]
    time_left: Callable[[], float]

    def feed(self, members: Sequence[Destination], scans: Sequence[Scan]) -> None:
        """Carry out `scans` for `members`; those still in State.FED afterwards have all of it.

        Raises SourceLost where the source is to blame, and what ``tick`` raises.
        """
        held_back = dict.fromkeys(members, 0.0)
        try:
            with self.source.reader() as connection:
                marks = self._marks(connection, scans)
                self._find_bounds(connection, members)
                for scan in scans:
                    self.tick()
                    fed = _still_fed(members)
                    if fed:
                        last = marks if scan is scans[-1] else None
                        self._scan(connection, scan, fed, held_back, last)
                self.source.require_held()
        except (SourceLost, RunStopped):
            raise
        except (psycopg.Error, CopydError) as error:  # the latter: it cannot be connected to
            raise SourceLost(facts(error)) from error
        for member in _still_fed(members):
            member.trying.marks = marks

    def _marks(self, connection: Connection, scans: Sequence[Scan]) -> dict[str, str | None]:
        """The highest value of each cursor, where a bounded overlap will start from it."""
        if self.source.transfer.overlap == "all":
            return {}
        marks: dict[str, str | None] = {}
        for reading in {scan.reading for scan in scans}:
            if reading.cursor is not None:
                row = connection.execute(mark_query(reading, self.source.snapshot)).fetchone()
                found = row[0] if row is not None else None
                marks[reading.name] = None if found is None else reading.tagged(found)
        return marks

    def _find_bounds(self, connection: Connection, members: Sequence[Destination]) -> None:
        """Ask where bounded scans began, for those that look at what these had left out."""
        for member in members:
            for table in member.trying.tables:
                if table.need.left_out is not None:
                    query = bound_query(table.reading, table.need.left_out)
                    row = connection.execute(query).fetchone()
                    table.bound = row[0] if row is not None else None

    def _scan(
        self,
        connection: Connection,
        scan: Scan,
        fed: Sequence[Destination],
        held_back: dict[Destination, float],
        last: dict[str, str | None] | None,
    ) -> None:
        """Relay one scan; `held_back`: for how long each has held the others back in this pass.

        `last`: the marks, where no other scan follows.
        """
        transfer = self.source.transfer
        format_ = choose_format(
            transfer.format,
            [column.type for column in scan.columns],
            [each.trying.binary_refusal(scan.reading) for each in fed],
            has_rejects=transfer.on_error != "stop",
        )
        members: dict[Receiver, Destination] = {
            each.trying.receiver(scan, format_=format_.name): each for each in fed
        }
        statement = copy_out(scan, self.source.snapshot, format_=format_.name)
        producer = StatementProducer(
            connection, statement.as_string(connection), link=transfer.link
        )
        copy = self._copy(producer, members)
        for receiver, destination in members.items():
            copy.charge(receiver, held_back[destination])

        def complete(receiver: Receiver, size: int) -> None:
            destination = members[receiver]
            destination.link, destination.format = destination.trying.link, format_
            self._note(scan, destination, receiver, sent=producer.rows, size=size)
            if last is not None and copy.receivers:
                self._let_go(destination, last)

        self._relay(copy, members, partial(self._drop_from, scan), complete)
        for receiver, destination in members.items():
            if receiver not in copy.completed:
                destination.link, destination.format = destination.trying.link, format_
            held_back[destination] = copy.held_back(receiver)

    def _copy(self, producer: Producer, receivers: Iterable[Receiver]) -> CopyManager:
        transfer = self.source.transfer
        patience = min(transfer.answer_timeout, self.time_left())
        return CopyManager(
            producer,
            *receivers,
            stall_timeout=transfer.stall_timeout,
            producer_stall_timeout=patience,
            verdict_timeout=patience,
            max_wait=transfer.max_wait,
            drops_at_start=True,
        )

    def _relay(
        self,
        copy: CopyManager,
        members: dict[Receiver, Destination],
        drop: Callable[[Destination, BaseException], None],
        complete: Callable[[Receiver, int], None],
    ) -> None:
        relay = Relay(
            copy=copy,
            members=members,
            observe=self.observe,
            drop=drop,
            tick=self.tick,
            complete=complete,
        )
        try:
            relay.run()
        except CopyFail as failure:
            self._blame(failure, members, drop)

    def _note(
        self,
        scan: Scan,
        destination: Destination,
        receiver: Receiver,
        *,
        sent: int | None,
        size: int,
    ) -> None:
        """Note what a destination has; drop it where its server stored fewer rows than were sent."""
        # A batch receiver sees for itself that all it has read is loaded, rejected or held.
        stored = receiver.read if isinstance(receiver, BatchReceiver) else receiver.rows
        destination.trying.loaded(scan, rows=stored or 0, size=size)
        if sent != stored:
            name = scan.reading.name
            said = f"table {name}: {stored} of {sent} rows were stored, a trigger keeps rows out"
            self.drop(destination, CopydError(f'{said}: use triggers = "skip" or change it'))

    def _let_go(self, destination: Destination, marks: dict[str, str | None]) -> None:
        """Let a destination finish that has all of the last scan, while others are late."""
        self.source.require_held()
        if destination.state is State.FED:
            destination.trying.marks = marks
            self.finish(destination)

    def _drop_from(self, scan: Scan, destination: Destination, cause: BaseException) -> None:
        self.drop(destination, name_table(cause, scan.reading.name))

    def _blame(
        self,
        failure: CopyFail,
        members: dict[Receiver, Destination],
        drop: Callable[[Destination, BaseException], None],
    ) -> None:
        """A copy failed as a whole: by its source, or because nobody could start or was left.

        Raises SourceLost, or what ended the copy where it was none of its parties.
        """
        if failure.producer_fault is not None:
            raise SourceLost(facts(failure.producer_fault)) from failure.producer_fault
        faults = failure.receiver_faults or {}
        cause = failure.__cause__
        if cause is not None and cause not in faults.values():
            raise cause  # the deadline, or whoever observes
        for receiver, fault in faults.items():
            if members[receiver].state is State.FED:
                drop(members[receiver], fault)


def _still_fed(members: Sequence[Destination]) -> list[Destination]:
    return [member for member in members if member.state is State.FED]
