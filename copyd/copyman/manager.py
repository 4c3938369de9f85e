"""The CopyManager: a producer's chunks, in lockstep, to every receiver that keeps up.

A copy succeeds only when the producer and every remaining receiver have confirmed its end; any
other outcome is CopyFail. See docs/copyman.md.
"""

from __future__ import annotations

from enum import Enum
from time import sleep
from typing import TYPE_CHECKING

from copyd.copyman.faults import CannotReconcile, CopyFail, ProducerFault, ReceiverFault
from copyd.copyman.pump import Limits, attend, drive, each, leave
from copyd.copyman.receiver_group import ReceiverGroup

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from copyd.copyman.chunk import Chunk
    from copyd.copyman.ports import Producer, Pumped, Receiver


# Decision: A server that sends little is given a moment
LITTLE, MOMENT = 64 * 1024, 0.0003
"""After a chunk of fewer bytes, sleep for this many seconds before the next read.

A server sends 8 kB at a time; a faster client that wakes up for each needs several times the CPU.
A local socket's buffer holds the data of that time up to 500 MB/s, so the source is not delayed."""


class _Phase(Enum):
    NEW = "not started"
    COPYING = "copying"
    EXHAUSTED = "exhausted"
    EXITED = "ended"


class CopyManager:
    """Copies from a Producer to many Receivers; a context manager and an iterator.

    Entering starts COPY everywhere. Each iteration transfers a chunk to all of ``receivers``
    and yields ``(num_messages, num_bytes)``: CopyData messages (in text, a row each) and bytes of
    payload. At the end ``receivers`` is empty, and ``completed`` contains the receivers whose
    server confirmed the copy; those behind (see `Receiver.is_behind`) may need more iterations than
    others. COMMIT is the caller's.

    ``stall_timeout``, ``producer_stall_timeout``: seconds without progress after which a receiver or
    the producer is at fault; None waits for ever. ``verdict_timeout``: the same for a receiver that
    has all data and only has to confirm, which takes longer if the server checks more at the end;
    see `OutcomeUnknown`. ``max_wait``: total seconds for which a receiver may hold the others back,
    by stalling or by being slow; see `held_back`. ``drops_at_start``: a receiver that cannot enter
    COPY is a ReceiverFault of the first cycle if another can; otherwise CopyFail.
    """

    realign_timeout = 2.0
    """Seconds without progress after which an aborted connection is closed instead of realigned."""

    def __init__(
        self,
        producer: Producer,
        *receivers: Receiver,
        stall_timeout: float | None = None,
        producer_stall_timeout: float | None = None,
        verdict_timeout: float | None = None,
        max_wait: float | None = None,
        drops_at_start: bool = False,
    ) -> None:
        self.producer = producer
        self._group = ReceiverGroup(receivers)
        self.receivers = self._group.active
        self.completed = self._group.completed
        self.stall_timeout = stall_timeout
        self.producer_stall_timeout = producer_stall_timeout
        self.verdict_timeout = verdict_timeout
        self.max_wait = max_wait
        self.drops_at_start = drops_at_start
        self._phase = _Phase.NEW
        self._started: list[Pumped] = []
        self._unstarted: dict[Receiver, Exception] = {}  # raised in the first cycle
        self._counted = (0, 0)
        self._has_little = False  # the last chunk was small
        self._producer_fault: Exception | None = None
        self._is_readable = True

    def __repr__(self) -> str:
        parts = [self._phase.value, f"from {self.producer!r}"]
        for title in ("receivers", "completed"):
            members = getattr(self, title)
            if members:
                parts.append(f"{title} {sorted(map(repr, members))}")
        return f"<CopyManager {', '.join(parts)}>"

    def run(self) -> None:
        """Perform the entire copy; raises CopyFail, also for errors at the start."""
        with self:
            for _ in self:
                pass

    def __enter__(self) -> Self:
        """Start COPY at the producer, then at all receivers at once.

        Raises CopyFail if a party cannot, after all others were stopped, and RuntimeError if the
        manager or the producer was used before.
        """
        if self._phase is not _Phase.NEW:
            raise RuntimeError(f"a CopyManager runs once; this one is {self._phase.value}")
        self._phase = _Phase.COPYING
        try:
            if not self.receivers:
                raise CopyFail(self, "no receivers")
            self._start_producer()
            self._start_receivers()
        except BaseException as error:
            self._phase = _Phase.EXITED
            failure = error if isinstance(error, CopyFail) else CopyFail(self, _in_words(error))
            self._abort(failure)
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the copy: silently if it is complete, otherwise by aborting all parties.

        Raises CopyFail if the iterator was not exhausted, if no receiver completed, or if the block
        raised (its exception is the cause). KeyboardInterrupt and SystemExit stay themselves, with
        the CopyFail as context.
        """
        # Decision: Leaving before exhaustion is always CopyFail
        is_exhausted = self._phase is _Phase.EXHAUSTED and not self.receivers
        is_complete = is_exhausted and bool(self.completed)
        failure = CopyFail(self, self._reason(exc), producer_fault=self._producer_fault)
        self._phase = _Phase.EXITED
        self._abort(failure)
        if isinstance(exc, Exception):
            raise failure from exc
        if exc is not None:
            exc.__context__ = failure
        elif not is_complete:
            raise failure from self._producer_fault

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, int]:
        """Transfer the next chunk; returns ``(num_messages, num_bytes)``.

        The counts of a cycle in which a receiver faulted are added to those of the next cycle.

        Raises StopIteration at the end, and when no receiver is left. Raises ReceiverFault if
        receivers raised or stalled: they are out of ``receivers``, all others have the chunk.
        Raises ProducerFault if the producer raised.
        """
        if self._phase is _Phase.NEW:
            raise RuntimeError("the copy was not started: iterate inside 'with manager:'")
        if self._phase is _Phase.EXITED:
            raise StopIteration
        self._group.release_dropped()
        faults, self._unstarted = self._unstarted, {}
        self._drop(faults)
        if not self._advance() and self._counted == (0, 0):
            raise StopIteration
        counted, self._counted = self._counted, (0, 0)
        return counted

    def reconcile(self, faulted_receiver: Receiver) -> None:
        """Take back a receiver that faulted in the last cycle; it continues where it stopped.

        Raises CannotReconcile if the receiver has missed data since or lost its connection,
        RuntimeError if the receiver never belonged to this manager.
        """
        receiver = faulted_receiver
        self._check_membership(receiver)
        if receiver in self.receivers:
            return
        if receiver not in self._group.faulted or self._phase is not _Phase.COPYING:
            raise CannotReconcile(f"{receiver!r} has missed data; feed it in a new pass")
        if not receiver.can_resume:
            raise CannotReconcile(f"{receiver!r} left COPY; feed it in a new pass")
        self._group.take_back(receiver)

    def charge(self, receiver: Receiver, seconds: float) -> None:
        """Count `seconds` against `receiver`, held back in an earlier copy of the same run."""
        self._group.lags.charge(receiver, seconds)

    def held_back(self, receiver: Receiver) -> float:
        """Return the seconds for which `receiver` has held back the remaining others.

        This is its time beyond the fastest of them, for accepting chunks and for its verdict after
        the end of the data, less the time granted by `Budget`. Alternating delays cancel out.
        Without another receiver the result is 0.

        Raises RuntimeError if the receiver never belonged to this manager.
        """
        self._check_membership(receiver)
        return self._group.held_back(receiver)

    def _check_membership(self, receiver: Receiver) -> None:
        if receiver not in self._group.members:
            raise RuntimeError(f"{receiver!r} is not a receiver of this copy")

    def _start_producer(self) -> None:
        faults = each([self.producer], lambda producer: producer.start())
        if not faults:
            self._started.append(self.producer)
            faults = drive([self.producer], Limits(self.producer_stall_timeout))
        elif isinstance(faults[self.producer], RuntimeError):
            raise faults[self.producer]  # a second run is the caller's mistake
        if faults:
            self._producer_fault = error = faults[self.producer]
            reason = f"the producer cannot start: {error}"
            raise CopyFail(self, reason, producer_fault=error) from error

    def _start_receivers(self) -> None:
        limits = Limits(self.stall_timeout, self.max_wait if self.drops_at_start else None)
        faults = self._group.start(self.producer.encoding, limits)
        if faults and self.drops_at_start and faults.keys() < self.receivers:
            self._unstarted = faults
        elif faults:
            reasons = "; ".join(f"{receiver!r}: {error}" for receiver, error in faults.items())
            failure = CopyFail(self, f"cannot start {reasons}", receiver_faults=faults)
            raise failure from next(iter(faults.values()))

    def _advance(self) -> bool:
        if not self.receivers:
            return False
        if self._phase is _Phase.EXHAUSTED:
            self._drop(self._group.await_late(Limits(self.verdict_timeout)))
            return True
        return self._is_readable and self._transfer_chunk()

    def _transfer_chunk(self) -> bool:
        if not self._group.has_rest:
            chunk = self._read()
            if chunk is None:
                self._phase = _Phase.EXHAUSTED
                self._drop(self._group.finish(Limits(self.verdict_timeout, self.max_wait)))
                return bool(self.receivers)
            messages, size = self._counted
            self._counted = messages + chunk.messages, size + chunk.size
            self._has_little = chunk.size < LITTLE
            self._group.take(chunk)
        self._drop(self._group.feed(Limits(self.stall_timeout, self.max_wait)))
        return True

    def _read(self) -> Chunk | None:
        producer = self.producer
        faults: dict[Receiver, Exception] = {}
        try:
            if self._has_little and producer.can_resume and producer.fileno() is not None:
                sleep(MOMENT)
            while (chunk := producer.read()) is None and not producer.is_finished:
                timeout = self.producer_stall_timeout
                faults = attend(producer, self.receivers, stall_timeout=timeout)
                if faults:
                    break
        except Exception as error:
            self._producer_fault = error
            self._is_readable = producer.can_resume
            raise ProducerFault(self, f"{producer!r}: {error}") from error
        self._drop(faults)
        return chunk

    def _drop(self, faults: dict[Receiver, Exception]) -> None:
        if faults:
            self._group.drop(faults)
            raise ReceiverFault(self, faults)

    def _abort(self, failure: CopyFail) -> None:
        """Make every connection leave COPY, or close it.

        Faults of active receivers are added to `failure`.
        """
        started = [party for party in self._group.started if party not in self.completed]
        leaving: list[Pumped] = [*self._started, *started]
        try:
            # Not the error: an error may quote a row, and servers log this reason.
            reason = "the copy was given up"
            faults = leave(leaving, reason, stall_timeout=self.realign_timeout)
        except BaseException:
            for party in leaving:
                party.close()
            raise
        for party in faults:
            party.close()
        at_exit = {receiver: faults[receiver] for receiver in self.receivers & faults.keys()}
        if at_exit:
            failure.receiver_faults = at_exit | (failure.receiver_faults or {})

    def _reason(self, exc: BaseException | None) -> str:
        if self._producer_fault is not None:
            return f"the producer faulted: {self._producer_fault}"
        if exc is not None:
            return _in_words(exc)
        if not self.receivers and not self.completed:
            return "no receivers"
        return "the copy was given up before its end"


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def transfer(producer: Producer, *receivers: Receiver) -> tuple[int, int]:
    """Copy all data; returns ``(total_messages, total_bytes)``.

    Messages are CopyData messages: a line each in text and CSV; in binary a row each, and the
    trailer. Bytes are payload. Rows, by each server's own count, are ``producer.rows`` and
    ``receiver.rows``.

    Raises CopyFail if a receiver or the producer faults.
    """
    total_messages = total_bytes = 0
    with CopyManager(producer, *receivers) as copy:
        for num_messages, num_bytes in copy:
            total_messages += num_messages
            total_bytes += num_bytes
    return total_messages, total_bytes
