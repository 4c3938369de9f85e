"""One scan of a pass: a CopyManager's cycles, told as events, its faults judged.

A stall is reconciled in its own cycle while the destination has some of its ``max_wait`` left; any
other fault drops the destination at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from copyd import events
from copyd.copyman import CannotReconcile, CopyManager, ReceiverFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from copyd.copyman import Receiver
    from copyd.events import Observer
    from copyd.transfers.running.states import Destination

REPORT_EVERY, REPORT_SIZE = 0.1, 1024 * 1024
"""Seconds, or bytes, between two events about data relayed."""


@dataclass(kw_only=True)
class Relay:
    """Relays one COPY to many destinations.

    ``sizes``: bytes of payload that each was given. ``drop`` takes one out of the pass; ``tick`` is
    called while data flows, and ends the copy where it raises. ``complete`` is called once for each
    receiver that has completed, though others may be late.
    """

    copy: CopyManager
    members: Mapping[Receiver, Destination]
    observe: Observer
    drop: Callable[[Destination, BaseException], None]
    tick: Callable[[], None]
    complete: Callable[[Receiver, int], None]
    sizes: dict[Destination, int] = field(default_factory=dict)
    stalls: dict[Receiver, int] = field(default_factory=dict)
    _told: set[Receiver] = field(default_factory=set)

    def run(self) -> None:
        """Copy to the end.

        Raises CopyFail where no destination has it all, or where ``tick`` raised.
        """
        with self.copy as copy:
            while copy.receivers:
                try:
                    self._until_fault()
                except ReceiverFault as fault:
                    for receiver, cause in fault.faults.items():
                        self._judge(receiver, cause)
                    self.tick()
                self._tell_of_completed()

    def _until_fault(self) -> None:
        messages = size = 0
        due = -inf  # the first chunk is news at once
        try:
            for more_messages, more_size in self.copy:
                messages += more_messages
                size += more_size
                moment = monotonic()
                if moment >= due or size >= REPORT_SIZE:
                    self._flush(messages, size)
                    messages = size = 0
                    due = moment + REPORT_EVERY
                    self.tick()
                if self.copy.completed:
                    self._flush(messages, size)
                    messages = size = 0
                    self._tell_of_completed()
        finally:
            self._flush(messages, size)

    def _flush(self, messages: int, size: int) -> None:
        if messages or size:
            self._advance(messages, size)

    def _tell_of_completed(self) -> None:
        """Let those go that have all of it; others may be late."""
        for receiver in self.copy.completed - self._told:
            self._told.add(receiver)
            self.complete(receiver, self.sizes.get(self.members[receiver], 0))

    def _advance(self, messages: int, size: int) -> None:
        fed = self._of(self.copy.receivers | self.copy.completed)
        for destination in fed:
            self.sizes[destination] = self.sizes.get(destination, 0) + size
        names = frozenset(destination.name for destination in fed)
        self.observe(events.DataRelayed(names, messages, size))

    def _of(self, receivers: Iterable[Receiver]) -> list[Destination]:
        return [self.members[receiver] for receiver in receivers]

    def _judge(self, receiver: Receiver, cause: BaseException) -> None:
        """Take a faulted receiver back, or take its destination out."""
        destination = self.members[receiver]
        if isinstance(cause, TimeoutError) and self._has_patience(receiver):
            try:
                self.copy.reconcile(receiver)
            except CannotReconcile as error:
                cause = error
            else:
                destination.reconciliations += 1
                held_back = self.copy.held_back(receiver)
                self.observe(events.DestinationReconciled(destination.name, held_back))
                return
        self.drop(destination, cause)

    def _has_patience(self, receiver: Receiver) -> bool:
        """Whether a receiver that stalled once more has some of its time left."""
        max_wait, stall_timeout = self.copy.max_wait, self.copy.stall_timeout
        self.stalls[receiver] = self.stalls.get(receiver, 0) + 1
        if max_wait is None or stall_timeout is None:
            return False
        stalled = self.stalls[receiver] * stall_timeout
        return max(stalled, self.copy.held_back(receiver)) < max_wait
