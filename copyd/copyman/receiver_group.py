"""The receivers of a copy, in lockstep; each step returns the faults by receiver."""

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

LATE_CYCLE = 0.02  # seconds of a cycle that waits for late receivers at the end


class ReceiverGroup:
    """``active`` receivers take part; ``faulted`` ones left in the last cycle, see `take_back`.

    ``has_rest``: a receiver taken back still needs a part of the chunk.
    """

    # Decision: Lockstep stays

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
        self._unserved: set[Receiver] = set()  # have not been offered the chunk
        self._moved: dict[Receiver, tuple[int, float]] = {}  # see `drive`

    def start(self, encoding: str | None, limits: Limits) -> Faults:
        """Enter COPY at every receiver; `encoding` is the producer's."""
        faults = each(self.active, lambda receiver: self._start(receiver, encoding))
        return faults | drive(self.active - faults.keys(), limits, self.lags)

    def _start(self, receiver: Receiver, encoding: str | None) -> None:
        if encoding and receiver.encoding and encoding != receiver.encoding:
            # Decision: Encodings are refused, not aligned
            raise CopydError(
                f"its client_encoding is {receiver.encoding}, the producer's is {encoding}: "
                "set both to the same"
            )
        receiver.start()
        self.started.append(receiver)

    def take(self, chunk: Chunk) -> None:
        """Set the chunk for `feed`."""
        self._chunk = chunk
        self._unserved = set(self.active)
        self.lags.credit(self.active, self._budget.seconds_for(chunk.size, moment=monotonic()))

    def feed(self, limits: Limits) -> Faults:
        """Send the chunk, or the rest of it, to every receiver."""
        self.has_rest = False
        faults: Faults = {}
        if (chunk := self._chunk) is not None:
            # A receiver that raises is offered the chunk again when it was taken back.
            faults = each(self._unserved & self.active, lambda receiver: receiver.offer(chunk))
            self._unserved = set(faults)
        ready = self.active - faults.keys()
        return faults | drive(ready, limits, self.lags, behind=self._behind)

    def _behind(self) -> list[Receiver]:
        return [receiver for receiver in self.active if receiver.is_behind]

    def finish(self, limits: Limits) -> Faults:
        """End the data and wait for the verdicts, except of receivers behind the others."""
        faults = each(self.active, lambda receiver: receiver.finish())
        prompt, is_waiting = self.active, True
        while is_waiting:
            prompt = self.active - faults.keys() - set(self._behind())
            faults |= self._drive_a_while(prompt, limits)
            is_waiting = bool(self._moved)
        return self._complete(prompt, faults)

    def await_late(self, limits: Limits) -> Faults:
        """Wait for `LATE_CYCLE` for the verdicts of late receivers."""
        late = set(self.active)
        faults = self._drive_a_while(late, limits)
        return self._complete(late - self._moved.keys(), faults)

    def _drive_a_while(self, receivers: set[Receiver], limits: Limits) -> Faults:
        return drive(
            receivers,
            limits,
            self.lags,
            behind=self._behind,
            moved=self._moved,
            until=monotonic() + LATE_CYCLE,
        )

    def _complete(self, done: set[Receiver], faults: Faults) -> Faults:
        self.completed.update(done - faults.keys())
        self.active.difference_update(self.completed)
        for receiver, fault in faults.items():
            self._moved.pop(receiver, None)
            if isinstance(fault, TimeoutError):
                # Decision: Waiting for a verdict has a limit of its own, off by default
                receiver.close()
                faults[receiver] = OutcomeUnknown(f"no verdict: {fault}; the connection is closed")
        return faults

    def drop(self, faults: Faults) -> None:
        """Remove the receivers with `faults` from this cycle."""
        self.active.difference_update(faults)  # in place: the manager shares the set
        self.faulted = set(faults)

    def take_back(self, receiver: Receiver) -> None:
        """Add a receiver from ``faulted`` again; its chunk continues where it stopped."""
        self.faulted.remove(receiver)
        self.active.add(receiver)
        self.has_rest = True

    def release_dropped(self) -> None:
        """Make faulted receivers leave COPY without waiting, unless they were taken back."""
        leave(self.faulted, "the receiver was dropped", stall_timeout=0)
        self.faulted = set()

    def held_back(self, receiver: Receiver) -> float:
        """Return the seconds for which `receiver` has held back the others; see CopyManager."""
        others = (self.active | self.completed) - {receiver}
        return max(0.0, self.lags.lag(receiver, others))
