"""The receivers of one copy, in lockstep; each step returns the faults by receiver."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from copyd.copyman.fairness import Budget, Lags
from copyd.copyman.faults import OutcomeUnknown
from copyd.copyman.pump import Limits, drive, each, leave
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.copyman.chunk import Chunk
    from copyd.copyman.ports import Receiver

    Faults = dict[Receiver, Exception]

LATE_CYCLE = 0.02
"""Seconds of a cycle that waits for the receivers that are behind at the end."""


class ReceiverGroup:
    """``active`` receivers take part, ``faulted`` ones left in the last cycle: `take_back` may follow.

    ``has_rest``: a receiver that was taken back still needs some of the chunk.
    """

    def __init__(self, receivers: Iterable[Receiver]) -> None:
        self.active = set(receivers)
        self.members = frozenset(self.active)
        self.completed: set[Receiver] = set()
        self.faulted: set[Receiver] = set()
        self.started: list[Receiver] = []
        self.has_rest = False
        self.lags: Lags[Receiver] = Lags()
        self._budget = Budget()
        self._chunk: Chunk | None = None
        self._unserved: set[Receiver] = set()  # the chunk is still to be offered to them
        self._moved: dict[Receiver, tuple[int, float]] = {}  # of those that are late at the end

    def start(self, encoding: str | None, limits: Limits) -> Faults:
        """Enter COPY everywhere; `encoding` is the producer's."""
        faults = each(self.active, lambda receiver: self._start(receiver, encoding))
        return faults | drive(self.active - faults.keys(), limits, self.lags)

    def _start(self, receiver: Receiver, encoding: str | None) -> None:
        if encoding and receiver.encoding and encoding != receiver.encoding:
            raise CopydError(
                f"its client_encoding is {receiver.encoding}, the producer's is {encoding}: "
                "set both to the same"
            )
        receiver.start()
        self.started.append(receiver)

    def take(self, chunk: Chunk) -> None:
        """Make `chunk` the one that `feed` brings to every receiver."""
        self._chunk = chunk
        self._unserved = set(self.active)
        self.lags.credit(self.active, self._budget.seconds_for(chunk.size, moment=monotonic()))

    def feed(self, limits: Limits) -> Faults:
        """Bring the chunk, or what is missing of it, to every receiver."""
        self.has_rest = False
        faults = self._offer()
        ready = self.active - faults.keys()
        return faults | drive(ready, limits, self.lags, behind=self._behind)

    def _offer(self) -> Faults:
        """Offer the chunk where it is missing; a receiver that raises may be offered it again."""
        chunk = self._chunk
        if chunk is None:
            return {}
        faults = each(self._unserved & self.active, lambda receiver: receiver.offer(chunk))
        self._unserved = set(faults)
        return faults

    def _behind(self) -> list[Receiver]:
        return [receiver for receiver in self.active if receiver.is_behind]

    def finish(self, limits: Limits) -> Faults:
        """End the data and await the verdicts, but not of those that are behind: see `await_late`."""
        faults = each(self.active, lambda receiver: receiver.finish())
        prompt, is_waiting = self.active, True
        while is_waiting:
            prompt = self.active - faults.keys() - set(self._behind())
            faults |= self._drive_a_while(prompt, limits)
            is_waiting = bool(self._moved)
        return self._complete(prompt, faults)

    def await_late(self, limits: Limits) -> Faults:
        """Wait a little for the verdicts of those that were behind."""
        late = set(self.active)
        faults = self._drive_a_while(late, limits)
        return self._complete(late - self._moved.keys(), faults)

    def _drive_a_while(self, receivers: set[Receiver], limits: Limits) -> Faults:
        """Drive `receivers` up to a late cycle; those that are not done then are in ``_moved``."""
        return drive(
            receivers,
            limits,
            self.lags,
            behind=self._behind,
            moved=self._moved,
            until=monotonic() + LATE_CYCLE,
        )

    def _complete(self, done: set[Receiver], faults: Faults) -> Faults:
        """Those of `done` that have no fault have completed."""
        self.completed.update(done - faults.keys())
        self.active.difference_update(self.completed)
        for receiver, fault in faults.items():
            self._moved.pop(receiver, None)
            if isinstance(fault, TimeoutError):
                receiver.close()
                faults[receiver] = OutcomeUnknown(f"no verdict: {fault}; the connection is closed")
        return faults

    def drop(self, faults: Faults) -> None:
        """Take the receivers that faulted in this cycle out."""
        self.active.difference_update(faults)  # in place: the manager shares the set
        self.faulted = set(faults)

    def take_back(self, receiver: Receiver) -> None:
        """Let a receiver that faulted in the last cycle go on where it stopped."""
        self.faulted.remove(receiver)
        self.active.add(receiver)
        self.has_rest = True

    def release_dropped(self) -> None:
        """Make those that were not taken back leave COPY, without waiting."""
        leave(self.faulted, "the receiver was dropped", stall_timeout=0)
        self.faulted = set()

    def held_back(self, receiver: Receiver) -> float:
        """Return the seconds for which `receiver` held back the others; see CopyManager."""
        others = (self.active | self.completed) - {receiver}
        return max(0.0, self.lags.lag(receiver, others))
