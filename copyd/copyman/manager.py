"""The CopyManager: one producer's chunks, in lockstep, to every receiver that keeps up.

A copy has succeeded only when the producer and every remaining receiver have said so; anything
else is CopyFail. See docs/copyman.md.
"""

from __future__ import annotations

from enum import Enum
from time import sleep
from typing import TYPE_CHECKING

from copyd.copyman.faults import CannotReconcile, CopyFail, ProducerFault, ReceiverFault
from copyd.copyman.pump import Limits, attend, drive, leave
from copyd.copyman.receiver_group import ReceiverGroup

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from copyd.copyman.chunk import Chunk
    from copyd.copyman.ports import Producer, Pumped, Receiver


LITTLE, MOMENT = 64 * 1024, 0.0003
"""After a chunk of fewer bytes the manager sleeps so many seconds before it waits for the producer.

A server sends 8 kB at a time: woken for each, a client that is faster needs several times the CPU.
Below 500 MB/s this does not delay the source: a local socket holds what comes in that time."""


class _Phase(Enum):
    NEW = "not started"
    COPYING = "copying"
    EXHAUSTED = "exhausted"
    EXITED = "ended"


class CopyManager:
    """Copies from one Producer to many Receivers; a context manager and an iterator.

    Entering starts COPY everywhere. Each iteration transfers one chunk to all of ``receivers``
    and yields ``(num_messages, num_bytes)``: CopyData messages (in text, one a row) and bytes of
    payload. At the end ``receivers`` is empty, and ``completed`` holds those whose server confirmed
    the copy; receivers that are behind (see `Receiver.is_behind`) may need more iterations than
    others. COMMIT is the caller's.

    ``stall_timeout``, ``producer_stall_timeout``: seconds without progress after which a receiver or
    the producer is at fault; None waits for ever. ``verdict_timeout``: the same for a receiver that
    has all data and only has to confirm; a server takes longer the more it checks at the end; see
    `OutcomeUnknown`. ``max_wait``: seconds in all that one receiver may hold the others back, by
    stalling or by being slow; see `held_back`. ``drops_at_start``: a receiver that cannot enter COPY
    is a ReceiverFault of the first cycle, as long as another one can; else it ends the copy.
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
        self._unstarted: dict[Receiver, Exception] = {}  # to be raised in the first cycle
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
        """Perform the entire copy.

        Raises CopyFail, also for what goes wrong at the start.
        """
        with self:
            for _ in self:
                pass

    # -- context manager ------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Start COPY at the producer, then at all receivers at once.

        Raises CopyFail where one of them cannot, after all others have been stopped, and
        RuntimeError for a manager or a producer that was used before.
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
        """End the copy: silently if it is complete, else with everything aborted.

        Raises CopyFail where the iterator was not exhausted, where no receiver completed, or
        where the block raised (its exception is the cause). KeyboardInterrupt and SystemExit
        stay themselves, with the CopyFail as context.
        """
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

    # -- iterator -------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        """Return the manager itself."""
        return self

    def __next__(self) -> tuple[int, int]:
        """Transfer the next chunk; returns ``(num_messages, num_bytes)``.

        The counts of a cycle in which a receiver faulted are added to those of the next one.

        Raises StopIteration at the end, and when no receiver is left. Raises ReceiverFault when
        receivers raised or stalled: they are out of ``receivers``, everybody else has the chunk.
        Raises ProducerFault when the producer raised.
        """
        if self._phase is _Phase.NEW:
            raise RuntimeError("the copy was not started: iterate inside 'with manager:'")
        if self._phase is _Phase.EXITED:
            raise StopIteration
        self._group.release_dropped()
        faults, self._unstarted = self._unstarted, {}
        self._drop(faults)
        has_moved = self._transfer_chunk() if self._can_go_on() else self._await_late()
        if not has_moved and self._counted == (0, 0):
            raise StopIteration
        counted, self._counted = self._counted, (0, 0)
        return counted

    def reconcile(self, faulted_receiver: Receiver) -> None:
        """Take back a receiver that faulted in the last cycle; it goes on where it stopped.

        Raises CannotReconcile where it has missed data since, or where its connection is lost;
        RuntimeError where it never belonged to this manager.
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
        """Count `seconds` of an earlier copy against `receiver`, as if it had held back this one."""
        self._group.lags.charge(receiver, seconds)

    def held_back(self, receiver: Receiver) -> float:
        """Return the seconds for which `receiver` has held back the others that are left.

        It is the time that it needed beyond the fastest of them, from being given a chunk to having
        taken it and from the end of the data to its verdict, less what `Budget` grants. Delays in
        turn cancel out. 0 where there is no other receiver.

        Raises RuntimeError where it never belonged to this manager.
        """
        self._check_membership(receiver)
        return self._group.held_back(receiver)

    def _check_membership(self, receiver: Receiver) -> None:
        if receiver not in self._group.members:
            raise RuntimeError(f"{receiver!r} is not a receiver of this copy")

    # -- phases of a copy -------------------------------------------------------------------------

    def _start_producer(self) -> None:
        try:
            self.producer.start()
        except RuntimeError:
            raise  # it ran before: a mistake of the caller
        except Exception as error:
            raise self._cannot_start(error) from error
        self._started.append(self.producer)
        faults = drive([self.producer], Limits(self.producer_stall_timeout))
        if faults:
            fault = faults[self.producer]
            raise self._cannot_start(fault) from fault

    def _cannot_start(self, error: Exception) -> CopyFail:
        self._producer_fault = error
        return CopyFail(self, f"the producer cannot start: {error}", producer_fault=error)

    def _start_receivers(self) -> None:
        limits = Limits(self.stall_timeout, self.max_wait if self.drops_at_start else None)
        faults = self._group.start(self.producer.encoding, limits)
        if faults and self.drops_at_start and faults.keys() < self.receivers:
            self._unstarted = faults
        elif faults:
            reasons = "; ".join(f"{receiver!r}: {error}" for receiver, error in faults.items())
            failure = CopyFail(self, f"cannot start {reasons}", receiver_faults=faults)
            raise failure from next(iter(faults.values()))

    def _can_go_on(self) -> bool:
        return self._phase is _Phase.COPYING and bool(self.receivers) and self._is_readable

    def _transfer_chunk(self) -> bool:
        """Bring one chunk, or what is missing of it, to every receiver; False at the end."""
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

    def _await_late(self) -> bool:
        """Wait a little for those that were behind; False where there are none."""
        if self._phase is not _Phase.EXHAUSTED or not self.receivers:
            return False
        self._drop(self._group.await_late(Limits(self.verdict_timeout)))
        return True

    def _read(self) -> Chunk | None:
        """Wait for the producer's next chunk; None at its end."""
        faults: dict[Receiver, Exception] = {}
        try:
            if self._brings_little():
                sleep(MOMENT)
            while (chunk := self.producer.read()) is None and not self.producer.is_finished:
                timeout = self.producer_stall_timeout
                faults = attend(self.producer, self.receivers, stall_timeout=timeout)
                if faults:
                    break
        except Exception as error:
            self._producer_fault = error
            self._is_readable = self.producer.can_resume
            raise ProducerFault(self, f"{self.producer!r}: {error}") from error
        self._drop(faults)
        return chunk

    def _brings_little(self) -> bool:
        """Whether the producer is a connection in COPY whose last chunk was small."""
        producer = self.producer
        return self._has_little and producer.can_resume and producer.fileno() is not None

    def _drop(self, faults: dict[Receiver, Exception]) -> None:
        if faults:
            self._group.drop(faults)
            raise ReceiverFault(self, faults)

    def _abort(self, failure: CopyFail) -> None:
        """Bring every connection out of COPY, or close it.

        Faults of receivers that took part to the end go into `failure`.
        """
        started = [party for party in self._group.started if party not in self.completed]
        leaving: list[Pumped] = [*self._started, *started]
        try:
            # Not the error: it may quote a row, and servers log this reason.
            given_up = "the copy was given up"
            faults = leave(leaving, given_up, stall_timeout=self.realign_timeout)
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
    """Copy everything; returns ``(total_messages, total_bytes)``.

    Messages are CopyData messages: in text and CSV one a line, in binary one a row and one for
    the trailer. Bytes are payload. Rows, by each server's own count, are ``producer.rows`` and
    ``receiver.rows``.

    Raises CopyFail where a receiver or the producer faults.
    """
    total_messages = total_bytes = 0
    with CopyManager(producer, *receivers) as copy:
        for num_messages, num_bytes in copy:
            total_messages += num_messages
            total_bytes += num_bytes
    return total_messages, total_bytes
