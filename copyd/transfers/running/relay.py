"""One scan of a pass: a CopyManager's cycles told to the runner, its faults judged.

A stall is reconciled in its own cycle while the destination has some of its ``max_wait`` left; any
other fault drops the destination at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from copyd.copyman import BatchReceiver, CannotReconcile, CopyFail, CopyManager, ReceiverFault
from copyd.errors import CopydError
from copyd.transfers.faults import facts, name_table
from copyd.transfers.running.messages import Completed, Dropped, Loaded, Progressed, Reconciled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copyd.copyman import Receiver
    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Channel, Findings
    from copyd.transfers.source import ChosenFormat, Scan, Source

REPORT_EVERY, REPORT_SIZE = 0.1, 1024 * 1024
"""Seconds, or bytes, between two messages about data relayed."""


class SourceLost(CopydError):
    """The source did not deliver; the cause is the error of its server or of the network."""


@dataclass(kw_only=True)
class Relay:
    """Relays the COPY of ``scan`` to many destinations.

    ``attempts`` are the tries of a pass, and ``gone`` those destinations that are out of it or have
    completed it. ``findings``: those of the pass where this is its last scan, so that who has all of
    it may finish though others are late.
    """

    copy: CopyManager
    scan: Scan
    source: Source
    format: ChosenFormat
    members: Mapping[Receiver, Destination]
    attempts: Mapping[Destination, Attempt]
    channel: Channel
    findings: Findings | None
    gone: set[Destination]
    _size: dict[Destination, int] = field(default_factory=dict)
    _stalls: dict[Receiver, int] = field(default_factory=dict)
    _loaded: set[Receiver] = field(default_factory=set)

    def run(self) -> None:
        """Copy to the end.

        Raises SourceLost, or the error that ended the copy where no party of it is to blame.
        """
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
        due = -inf  # the first chunk is news at once
        try:
            for more_messages, more_size in self.copy:
                messages += more_messages
                size += more_size
                moment = monotonic()
                if moment >= due or size >= REPORT_SIZE:
                    self._advance(messages, size, waits=due == -inf)
                    messages = size = 0
                    due = moment + REPORT_EVERY
                if self.copy.completed - self._loaded:
                    self._advance(messages, size)
                    messages = size = 0
                    self._note_completed()
        finally:
            self._advance(messages, size)

    def _advance(self, messages: int, size: int, *, waits: bool = True) -> None:
        if not messages and not size:
            self.channel.require_open()
            return
        fed = [self.members[each] for each in self.copy.receivers | self.copy.completed]
        for destination in fed:
            self._size[destination] = self._size.get(destination, 0) + size
        names = frozenset(destination.name for destination in fed)
        self.channel.tell(Progressed(names, messages, size), waits=waits)

    def _note_completed(self) -> None:
        for receiver in self.copy.completed - self._loaded:
            self._loaded.add(receiver)
            self._note(receiver)

    def _note(self, receiver: Receiver) -> None:
        """Tell that a destination has all rows; drop it where its server stored fewer."""
        destination = self.members[receiver]
        # A batch receiver sees for itself that all it has read is loaded, rejected or held.
        stored = receiver.read if isinstance(receiver, BatchReceiver) else receiver.rows
        sent, size = self.copy.producer.rows, self._size.get(destination, 0)
        link = self.attempts[destination].link
        loaded = Loaded(destination, self.scan, stored or 0, size, link, self.format)
        self.channel.tell(loaded)
        if sent != stored:
            name = self.scan.reading.name
            said = f"table {name}: {stored} of {sent} rows were stored, a trigger keeps rows out"
            self._drop(receiver, CopydError(f'{said}: use triggers = "skip" or change it'))
        elif self.findings is not None and self.copy.receivers:
            self.source.require_held()
            self.gone.add(destination)
            self.channel.tell(Completed(destination, self.findings))

    def _judge(self, receiver: Receiver, cause: BaseException) -> None:
        """Take a faulted receiver back, or drop its destination."""
        if isinstance(cause, TimeoutError) and self._has_patience(receiver):
            try:
                self.copy.reconcile(receiver)
            except CannotReconcile as error:
                cause = error
            else:
                held_back = self.copy.held_back(receiver)
                self.channel.tell(Reconciled(self.members[receiver], held_back))
                return
        self._drop(receiver, cause)

    def _has_patience(self, receiver: Receiver) -> bool:
        """Whether a receiver that stalled once more has some of its time left."""
        max_wait, stall_timeout = self.copy.max_wait, self.copy.stall_timeout
        self._stalls[receiver] = self._stalls.get(receiver, 0) + 1
        if max_wait is None or stall_timeout is None:
            return False
        stalled = self._stalls[receiver] * stall_timeout
        return max(stalled, self.copy.held_back(receiver)) < max_wait

    def _drop(self, receiver: Receiver, cause: BaseException) -> None:
        destination = self.members[receiver]
        self.gone.add(destination)
        named = name_table(cause, self.scan.reading.name)
        self.channel.tell(Dropped(destination, named, self.attempts[destination].link, self.format))

    def _blame(self, failure: CopyFail) -> None:
        """A copy failed as a whole: by its source, or because nobody could start or was left.

        Raises SourceLost, or the error that ended the copy where no party of it is to blame.
        """
        if failure.producer_fault is not None:
            raise SourceLost(facts(failure.producer_fault)) from failure.producer_fault
        faults = failure.receiver_faults or {}
        cause = failure.__cause__
        if cause is not None and cause not in faults.values():
            raise cause  # the pass is not wanted any more, or a defect
        for receiver, fault in faults.items():
            if self.members[receiver] not in self.gone:
                self._drop(receiver, fault)
