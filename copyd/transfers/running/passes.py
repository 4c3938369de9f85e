"""One pass: the source is scanned once for destinations that need the same rows.

It runs in a thread of its own and changes nothing that the runner knows: it posts messages. While a
destination is fed, its connection and its receivers are the pass's; they come back with Completed,
or when a pass that has dropped it has ended.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg

from copyd.connection import one_row
from copyd.copyman import CopyManager, StatementProducer
from copyd.errors import CopydError
from copyd.transfers.faults import facts
from copyd.transfers.running.messages import Channel, Completed, Findings, PassEnded
from copyd.transfers.running.relay import Relay, SourceLost
from copyd.transfers.source import choose_format, copy_out, watermark_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from copyd.connection import Connection
    from copyd.copyman import Producer, Receiver
    from copyd.transfers.running.context import Run
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Message
    from copyd.transfers.source import Scan, Source

ENDS_WITHIN = 2.0
"""Seconds that a pass gets to leave COPY in order before its connections are cut."""


class Pass:
    """Carries out `scans` for `members`, which are in State.FED; `post` takes its messages."""

    def __init__(
        self,
        run: Run,
        source: Source,
        members: Sequence[Destination],
        scans: Sequence[Scan],
        post: Callable[[Message], None],
    ) -> None:
        self.channel = Channel(post)
        self._run = run
        self._source = source
        self._scans = scans
        self._post = post
        self._attempts = {member: member.trying for member in members}
        self._gone: set[Destination] = set()  # dropped, or complete
        self._held_back = dict.fromkeys(members, 0.0)  # seconds, of all scans so far
        self._thread = threading.Thread(target=self._work, name="copyd pass", daemon=True)

    def start(self) -> None:
        """Begin; the last message is PassEnded."""
        self._thread.start()

    def close(self) -> None:
        """Return once the thread has ended: at the next chunk, or cut off after a while.

        Nobody may close a connection before: its descriptor would be another's while the pass still
        writes to it.
        """
        self.channel.close()
        self._thread.join(ENDS_WITHIN)
        if self._thread.is_alive():
            self._source.cut()
            for member, attempt in self._attempts.items():
                if member not in self._gone:
                    attempt.session.cut()
            self._thread.join()

    def _work(self) -> None:
        try:
            self._feed()
        except BaseException as error:  # noqa: BLE001 - handed to the runner, whose boundary this is
            self._post(PassEnded(error))
        else:
            self._post(PassEnded(None))

    def _feed(self) -> None:
        """Feed all members; raises SourceLost where the source is to blame."""
        try:
            with self._source.reader() as connection:
                findings = Findings(self._marks(connection), self._bounds(connection))
                for scan in self._scans:
                    self.channel.require_open()
                    if self._fed():
                        is_last = scan is self._scans[-1]
                        self._relay(connection, scan, findings if is_last else None)
                self._source.require_held()
        except SourceLost:
            raise
        except (psycopg.Error, CopydError) as error:  # the latter: it cannot be connected to
            raise SourceLost(facts(error)) from error
        for member in self._fed():
            self.channel.tell(Completed(member, findings))

    def _fed(self) -> list[Destination]:
        return [member for member in self._attempts if member not in self._gone]

    def _marks(self, connection: Connection) -> dict[str, str | None]:
        """The highest watermarks, where the next bounded lookback will start from them."""
        marks: dict[str, str | None] = {}
        source = self._source
        queries = watermark_queries(self._scans, source.snapshot, source.transfer.overlap)
        for reading, query in queries.items():
            (found,) = one_row(connection, query)
            marks[reading.name] = None if found is None else reading.tagged(found)
        return marks

    def _bounds(self, connection: Connection) -> dict[Destination, dict[str, str | None]]:
        """Where earlier bounded scans began, for a full scan that counts the rows they missed."""
        return {
            destination: {
                table.reading.name: one_row(connection, table.bound_query)[0]
                for table in attempt.tables
                if table.bound_query is not None
            }
            for destination, attempt in self._attempts.items()
        }

    def _relay(self, connection: Connection, scan: Scan, findings: Findings | None) -> None:
        transfer, fed = self._source.transfer, self._fed()
        format_ = choose_format(
            transfer.format,
            [column.type for column in scan.columns],
            [self._attempts[each].binary_refusal(scan.reading) for each in fed],
            has_rejects=transfer.on_error != "stop",
        )
        members: dict[Receiver, Destination] = {
            self._attempts[each].receiver(scan, format_=format_.name): each for each in fed
        }
        statement = copy_out(scan, self._source.snapshot, format_=format_.name)
        producer = StatementProducer(
            connection, statement.as_string(connection), link=transfer.link
        )
        copy = self._copy(producer, members)
        Relay(
            copy=copy,
            scan=scan,
            source=self._source,
            format=format_,
            members=members,
            attempts=self._attempts,
            channel=self.channel,
            findings=findings,
            gone=self._gone,
        ).run()
        for receiver, destination in members.items():
            self._held_back[destination] = copy.held_back(receiver)

    def _copy(self, producer: Producer, members: dict[Receiver, Destination]) -> CopyManager:
        transfer = self._source.transfer
        patience = min(transfer.answer_timeout, self._run.seconds_left)
        copy = CopyManager(
            producer,
            *members,
            stall_timeout=transfer.stall_timeout,
            producer_stall_timeout=patience,
            verdict_timeout=patience,
            max_wait=transfer.max_wait,
            drops_at_start=True,
        )
        for receiver, destination in members.items():
            copy.charge(receiver, self._held_back[destination])
        return copy
