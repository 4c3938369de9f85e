"""One scan of a pass: reports the cycles of a CopyManager, and decides about faults.

A stall is reconciled within its cycle while the destination has some of its ``max_wait`` left; any
other fault drops the destination at once. A throttle would wait here, between two chunks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from copyd.copyman import BatchReceiver, CannotReconcile, CopyFail, CopyManager, ReceiverFault
from copyd.errors import CopydError
from copyd.events import DataRelayed
from copyd.transfers.faults import facts, name_table
from copyd.transfers.running.messages import Reconciled, ScanEnded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copyd.copyman import Receiver
    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Channel, Completed
    from copyd.transfers.source import ChosenFormat, Scan, Source

REPORT_EVERY, REPORT_SIZE = 0.1, 1024 * 1024
"""Seconds, or bytes, between two messages about progress: each costs two context switches."""


class SourceLost(CopydError):
    """The source failed; the cause is the error of its server or of the network."""


@dataclass(kw_only=True)
class Relay:
    """Relays the COPY of ``scan`` to many destinations.

    ``attempts``: the tries of the pass; ``gone``: its dropped and completed destinations.
    ``completions``: messages for destinations with all rows; empty before the last scan.
    """

    copy: CopyManager
    scan: Scan
    source: Source
    format: ChosenFormat
    members: Mapping[Receiver, Destination]
    attempts: Mapping[Destination, Attempt]
    channel: Channel
    completions: Mapping[Destination, Completed]
    gone: set[Destination]
    _sent: Counter[Destination] = field(default_factory=Counter)  # bytes
    _stalls: Counter[Receiver] = field(default_factory=Counter)
    _loaded: set[Receiver] = field(default_factory=set)

    def run(self) -> None:
        """Copy to the end; raises as `_blame`."""
        try:
            with self.copy as copy:
                while copy.receivers:
                    try:
                        self._until_fault()
                    except ReceiverFault as fault:
                        for receiver, cause in fault.faults.items():
                            self._judge(receiver, cause)
                    self._note_completed()
        except CopyFail as failure:
            self._blame(failure)

    def _until_fault(self) -> None:
        messages = size = 0
        due = -inf  # the first chunk is reported at once
        try:
            for more_messages, more_size in self.copy:
                messages += more_messages
                size += more_size
                is_news = due == -inf or bool(self.copy.completed - self._loaded)
                moment = monotonic()
                if is_news or moment >= due or size >= REPORT_SIZE:
                    self._report(messages, size, waits=is_news)
                    messages = size = 0
                    due = moment + REPORT_EVERY
                    self._note_completed()
        finally:
            self._report(messages, size)

    def _report(self, messages: int, size: int, *, waits: bool = True) -> None:
        self.channel.require_open()
        if messages or size:
            fed = [self.members[each] for each in self.copy.receivers | self.copy.completed]
            self._sent.update(dict.fromkeys(fed, size))
            names = frozenset(destination.name for destination in fed)
            self.channel.tell(DataRelayed(names, messages, size), waits=waits)

    def _note_completed(self) -> None:
        for receiver in self.copy.completed - self._loaded:
            self._loaded.add(receiver)
            sent = self.copy.producer.rows
            # A batch receiver checks by itself that each row it read is loaded, rejected or held.
            stored = receiver.read if isinstance(receiver, BatchReceiver) else receiver.rows
            if sent == stored:
                self._end(receiver, rows=stored or 0)
                self._complete(self.members[receiver])
            else:
                name = self.scan.reading.name
                said = (
                    f"table {name}: {stored} of {sent} rows were stored, a trigger keeps rows out"
                )
                self._end(receiver, CopydError(f'{said}: use triggers = "skip" or change it'))

    def _complete(self, destination: Destination) -> None:
        # Decision: A search for bad rows holds no other destination back
        if destination in self.completions and self.copy.receivers:
            self.source.require_held()
            self.gone.add(destination)
            self.channel.tell(self.completions[destination])

    def _judge(self, receiver: Receiver, cause: BaseException) -> None:
        """Reconcile a faulted receiver, or drop its destination."""
        if isinstance(cause, TimeoutError) and self._has_patience(receiver):
            try:
                self.copy.reconcile(receiver)
            except CannotReconcile as error:
                cause = error
            else:
                held_back = self.copy.held_back(receiver)
                self.channel.tell(Reconciled(self.members[receiver], held_back))
                return
        self._end(receiver, cause)

    def _has_patience(self, receiver: Receiver) -> bool:
        """Count a stall; whether the receiver has some of its ``max_wait`` left."""
        max_wait, stall_timeout = self.copy.max_wait, self.copy.stall_timeout
        self._stalls[receiver] += 1
        if max_wait is None or stall_timeout is None:
            return False
        stalled = self._stalls[receiver] * stall_timeout
        return max(stalled, self.copy.held_back(receiver)) < max_wait

    def _end(
        self, receiver: Receiver, error: BaseException | None = None, *, rows: int = 0
    ) -> None:
        """Report the end of the scan for a destination; an error drops it."""
        destination = self.members[receiver]
        if error is not None:
            self.gone.add(destination)
            error = name_table(error, self.scan.reading.name)
        link, size = self.attempts[destination].link, self._sent[destination]
        ended = ScanEnded(destination, self.scan, rows, size, link, self.format, error)
        self.channel.tell(ended)

    def _blame(self, failure: CopyFail) -> None:
        """Drop the receivers that caused `failure`.

        Raises SourceLost, or the cause if neither the source nor a receiver is to blame.
        """
        if failure.producer_fault is not None:
            raise SourceLost(facts(failure.producer_fault)) from failure.producer_fault
        faults = failure.receiver_faults or {}
        cause = failure.__cause__
        if cause is not None and cause not in faults.values():
            raise cause  # PassUnwanted, or a defect
        for receiver, fault in faults.items():
            if self.members[receiver] not in self.gone:
                self._end(receiver, fault)
