"""Runs a transfer once: one snapshot, a pass for all, more passes for those that were dropped.

Each destination commits as soon as a pass that fed it is over, whatever became of the others.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import psycopg
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from copyd import events
from copyd.copyman import CopyFail, CopyManager, ReceiverFault, StatementProducer
from copyd.errors import CopydError
from copyd.transfers.destination import Destination, Outcome, Verdict
from copyd.transfers.retry import is_transient
from copyd.transfers.server import one_line
from copyd.transfers.snapshot import reader, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from copyd.copyman import Receiver
    from copyd.events import Observer
    from copyd.transfers.snapshot import Snapshot
    from copyd.transfers.transfer import Transfer

    Connection = psycopg.Connection[Any]

REPORT_EVERY = 1024 * 1024
"""Bytes between two events about data relayed."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended, and each of its destinations, in the transfer's order."""

    verdict: Verdict
    seconds: float
    outcomes: tuple[Outcome, ...]


def run(transfer: Transfer, *, observe: Observer = events.ignore) -> Report:
    """Carry out `transfer` once; events go to `observe`.

    Raises CopydError where the source cannot be read at all: no destination was touched then.
    """
    began = time.monotonic()
    destinations = [Destination(server) for server in transfer.destinations]
    with take(transfer) as snapshot:
        names = tuple(destination.name for destination in destinations)
        observe(events.RunStarted(names, snapshot.estimated_rows))
        try:
            Runner(snapshot, observe).feed(destinations)
        finally:
            for destination in destinations:
                destination.close()
    report = Report(
        verdict=judge([destination.verdict or Verdict.FAILED for destination in destinations]),
        seconds=time.monotonic() - began,
        outcomes=tuple(destination.outcome() for destination in destinations),
    )
    observe(events.RunEnded(report.verdict.value, report.seconds))
    return report


def judge(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a run from those of its destinations."""
    found = set(verdicts)
    if Verdict.SUCCEEDED in found:
        return Verdict.SUCCEEDED if len(found) == 1 else Verdict.PARTIAL
    return Verdict.UNKNOWN if Verdict.UNKNOWN in found else Verdict.FAILED


def judge_commit(error: Exception | None, *, is_lost: bool) -> Verdict:
    """Return the verdict after a COMMIT: `error` is what it raised, None where it is confirmed."""
    if error is None:
        return Verdict.SUCCEEDED
    # Who was cut off in the middle, by us or by the network, may have committed all the same.
    return Verdict.UNKNOWN if is_lost or isinstance(error, TimeoutError) else Verdict.FAILED


class Runner:
    """The passes of one run, one after the other."""

    def __init__(self, snapshot: Snapshot, observe: Observer) -> None:
        self._snapshot = snapshot
        self._observe = observe
        self._transfer = snapshot.transfer
        self._passes = 0

    def feed(self, destinations: Sequence[Destination]) -> None:
        """Bring every destination to a verdict."""
        self._prepare(destinations, lambda destination: destination.prepare(self._snapshot))
        while waiting := [each for each in destinations if each.verdict is None]:
            self._pass(waiting)
            waiting = [each for each in waiting if each.verdict is None]
            self._prepare(waiting, self._prepare_again)

    def _prepare(
        self, destinations: Sequence[Destination], step: Callable[[Destination], None]
    ) -> None:
        """Prepare all at once; those that cannot be, or take too long, are out."""
        timeout = self._transfer.prepare_timeout
        for destination, error in in_parallel(step, destinations, timeout=timeout):
            if error is not None:
                self._end(destination, Verdict.FAILED, error)
            elif destination.is_dropped:
                destination.is_dropped = False
                destination.cause = None
                self._observe(events.DestinationReintroduced(destination.name))

    def _prepare_again(self, destination: Destination) -> None:
        """Wait for a replica that went away; what is wrong for good ends the wait."""
        attempts = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_delay(self._transfer.prepare_timeout),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            reraise=True,
        )
        attempts(destination.prepare, self._snapshot)

    def _pass(self, destinations: Sequence[Destination]) -> None:
        """Scan the source once for `destinations`; commit those that got all of it."""
        self._passes += 1
        for destination in destinations:
            destination.passes += 1
            destination.began = time.monotonic()
        names = tuple(destination.name for destination in destinations)
        self._observe(events.PassStarted(self._passes, names))
        if self._transfer.truncate:
            destinations = self._emptied(destinations)
        if not destinations:
            return
        try:
            with reader(self._snapshot) as source:
                completed = self._relay(source, destinations)
        except (CopyFail, CopydError, psycopg.Error) as error:
            self._blame(error, destinations)
        else:
            self._commit(completed)

    def _emptied(self, destinations: Sequence[Destination]) -> Sequence[Destination]:
        """Empty all tables at once, as late as can be; returns those that are empty now."""
        timeout = self._transfer.prepare_timeout
        for destination, error in in_parallel(Destination.empty, destinations, timeout=timeout):
            if error is not None:
                self._end(destination, Verdict.FAILED, error)
        return [each for each in destinations if each.verdict is None]

    def _relay(
        self, source: Connection, destinations: Sequence[Destination]
    ) -> Sequence[Destination]:
        """Relay all the data; returns the destinations whose servers say that they have it.

        Raises CopyFail where there is none.
        """
        by_receiver: dict[Receiver, Destination] = {each.fed: each for each in destinations}
        statement = self._snapshot.statement(source)
        producer = StatementProducer(source, statement, link=self._transfer.link)
        copy = CopyManager(
            producer,
            *by_receiver,
            stall_timeout=self._transfer.stall_timeout,
            producer_stall_timeout=self._transfer.answer_timeout,
            verdict_timeout=self._transfer.answer_timeout,
        )
        with copy:
            while copy.receivers:
                try:
                    self._relay_until_fault(copy, by_receiver)
                except ReceiverFault as fault:
                    for receiver, cause in fault.faults.items():
                        self._drop(by_receiver[receiver], cause)
        return [by_receiver[receiver] for receiver in copy.completed]

    def _relay_until_fault(
        self, copy: CopyManager, by_receiver: Mapping[Receiver, Destination]
    ) -> None:
        messages = size = 0
        due = 1  # the first chunk is news at once
        try:
            for more_messages, more_size in copy:
                messages += more_messages
                size += more_size
                if size >= due:
                    self._advance(by_receiver, copy.receivers | copy.completed, messages, size)
                    messages = size = 0
                    due = REPORT_EVERY
        finally:
            if messages or size:
                self._advance(by_receiver, copy.receivers | copy.completed, messages, size)

    def _advance(
        self,
        by_receiver: Mapping[Receiver, Destination],
        receivers: Iterable[Receiver],
        messages: int,
        size: int,
    ) -> None:
        fed = [by_receiver[receiver] for receiver in receivers]
        for destination in fed:
            destination.size += size
        names = frozenset(destination.name for destination in fed)
        self._observe(events.DataRelayed(names, messages, size))

    def _drop(self, destination: Destination, cause: BaseException) -> None:
        """Take a destination out of the pass, for good or until the next pass."""
        destination.cause = cause
        destination.is_dropped = True
        destination.drops += 1
        will_return = is_transient(cause) and destination.drops <= self._transfer.reintroduce
        self._observe(events.DestinationDropped(destination.name, one_line(cause), will_return))
        if not will_return:
            self._end(destination, Verdict.FAILED, cause)

    def _blame(self, error: Exception, destinations: Sequence[Destination]) -> None:
        """A pass failed as a whole: by receivers that could not start, or else by the source.

        The others of a pass that could not start are innocent and get the next one. Raises
        `error`, or what caused it, where nobody of the run is to blame: a defect.
        """
        fed = [each for each in destinations if each.verdict is None and not each.is_dropped]
        faults: Mapping[Receiver, BaseException] = {}
        if isinstance(error, CopyFail) and error.producer_fault is None:
            faults = error.receiver_faults or {}
            if fed and not faults:
                raise error.__cause__ or error
            for destination in fed:
                if destination.fed in faults:
                    self._drop(destination, faults[destination.fed])
            return
        cause = CopydError(f"source {self._transfer.source.name}: {one_line(error)}")
        for destination in destinations:
            if destination.verdict is None:
                self._end(destination, Verdict.FAILED, cause)

    def _commit(self, completed: Sequence[Destination]) -> None:
        """Commit all at once, and say of each as soon as it is known; only that is counted."""
        timeout = self._transfer.answer_timeout
        try:
            for destination, error in in_parallel(Destination.commit, completed, timeout=timeout):
                self._end(destination, judge_commit(error, is_lost=destination.is_lost), error)
        finally:
            for destination in completed:
                if destination.ended is None:  # the run is interrupted
                    self._end(destination, Verdict.UNKNOWN, None)

    def _end(self, destination: Destination, verdict: Verdict, cause: BaseException | None) -> None:
        destination.verdict = verdict
        destination.cause = cause
        destination.ended = time.monotonic()
        destination.close()
        outcome = destination.outcome()
        self._observe(
            events.DestinationEnded(
                outcome.destination, verdict.value, outcome.rows, outcome.size, outcome.cause
            )
        )


def in_parallel(
    step: Callable[[Destination], None], destinations: Sequence[Destination], *, timeout: float
) -> Iterator[tuple[Destination, Exception | None]]:
    """Take `step` for all destinations at once; yields each when it is done, and what it raised.

    One that is not done after `timeout` seconds is cut off and raised a TimeoutError. When the
    caller is interrupted, all connections are cut: no thread outlives the run by much.
    """
    done: SimpleQueue[tuple[Destination, Exception | None]] = SimpleQueue()

    def take(destination: Destination) -> None:
        try:
            step(destination)
        except Exception as error:  # noqa: BLE001 - handed to the runner, whose boundary this is
            done.put((destination, error))
        else:
            done.put((destination, None))

    missing = list(destinations)
    for destination in missing:
        threading.Thread(target=take, args=(destination,), name="copyd", daemon=True).start()
    deadline = time.monotonic() + timeout
    try:
        while missing:
            with suppress(Empty):
                finished = done.get(timeout=max(deadline - time.monotonic(), 0.0))
                missing.remove(finished[0])
                yield finished
                continue
            late, missing = missing, []
            for destination in late:
                destination.cut()
                yield destination, TimeoutError(f"no answer within {timeout:g} s")
    finally:
        for destination in missing:
            destination.cut()
