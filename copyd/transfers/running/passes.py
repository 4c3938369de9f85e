"""A pass: the source is scanned once for destinations with the same scans.

A pass has its own thread and changes no destination; it posts messages. The pass alone uses the
connection of a destination that is fed, until Completed or PassEnded.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg

from copyd.connection import one_row
from copyd.copyman import CopyManager, StatementProducer
from copyd.errors import CopydError
from copyd.transfers.faults import facts
from copyd.transfers.running.messages import Channel, Completed, PassEnded
from copyd.transfers.running.relay import Relay, SourceLost
from copyd.transfers.source import choose_format, copy_out, watermark_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from copyd.connection import Connection
    from copyd.copyman import Producer, Receiver
    from copyd.transfers.running.context import Run
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Message
    from copyd.transfers.source import Scan, Source


class Pass:
    """Performs `scans` for `members`, which are in State.FED; `post` receives its messages."""

    ends_within = 2.0  # seconds for a pass to leave COPY in order before its connections are cut

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
        self._gone: set[Destination] = set()  # dropped or completed
        self._held_back = dict.fromkeys(members, 0.0)  # seconds, of all scans so far
        self._thread = threading.Thread(target=self._work, name="copyd pass", daemon=True)

    def start(self) -> None:
        """Start the thread; the last message is PassEnded."""
        self._thread.start()

    def close(self) -> None:
        """End the pass: return when its thread has ended, by itself or with its connections cut."""
        self.channel.close()
        if self._thread.ident is None:
            return  # interrupted before it started: a closed channel keeps it from all members
        self._thread.join(self.ends_within)
        while self._thread.is_alive():
            # Repeated: the pass may have connected to the source after the last cut.
            self._source.cut()
            for member in self._fed():
                self._attempts[member].session.cut()
            self._thread.join(self.ends_within)

    def _work(self) -> None:
        error = None
        try:
            self._feed()
        except BaseException as raised:  # noqa: BLE001 - handed to the runner, whose boundary this is
            error = raised
        self._post(PassEnded(error))

    def _feed(self) -> None:
        try:
            with self._source.reader() as connection:
                completions = self._completions(connection)
                for scan in self._scans:
                    self.channel.require_open()
                    if self._fed():
                        is_last = scan is self._scans[-1]
                        self._relay(connection, scan, completions if is_last else {})
                self._source.require_held()
        except SourceLost:
            raise
        except (psycopg.Error, CopydError) as error:  # CopydError: connecting failed
            raise SourceLost(facts(error)) from error
        for member in self._fed():
            self.channel.tell(completions[member])

    def _fed(self) -> list[Destination]:
        return [member for member in self._attempts if member not in self._gone]

    def _completions(self, connection: Connection) -> dict[Destination, Completed]:
        source = self._source
        watermarks: dict[str, str | None] = {}
        queries = watermark_queries(self._scans, source.snapshot, source.transfer.overlap)
        for reading, query in queries.items():
            (found,) = one_row(connection, query)
            watermarks[reading.name] = None if found is None else reading.tagged(found)
        bounds = {
            member: {
                table.reading.name: one_row(connection, table.bound_query)[0]
                for table in attempt.tables
                if table.bound_query is not None
            }
            for member, attempt in self._attempts.items()
        }
        return {member: Completed(member, watermarks, bounds[member]) for member in self._attempts}

    def _relay(
        self, connection: Connection, scan: Scan, completions: Mapping[Destination, Completed]
    ) -> None:
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
        copy = self._copy(
            StatementProducer(connection, statement.as_string(connection), link=transfer.link),
            members,
        )
        Relay(
            copy=copy,
            scan=scan,
            source=self._source,
            format=format_,
            members=members,
            attempts=self._attempts,
            channel=self.channel,
            completions=completions,
            gone=self._gone,
        ).run()
        for receiver, destination in members.items():
            self._held_back[destination] = copy.held_back(receiver)

    def _copy(self, producer: Producer, members: Mapping[Receiver, Destination]) -> CopyManager:
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
