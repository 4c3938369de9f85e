"""Runs a transfer once: one snapshot, a pass for all, more passes for those that were dropped.

Each destination commits as soon as a pass that fed it is over, whatever became of the others.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import psycopg
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential
from tenacity.nap import sleep_using_event

from copyd import events
from copyd.copyman import CopyFail, CopyManager, ReceiverFault, StatementProducer
from copyd.errors import CopydError
from copyd.transfers.destination import Destination, Outcome, Verdict
from copyd.transfers.retry import is_transient
from copyd.transfers.server import one_line
from copyd.transfers.snapshot import reader, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from copyd.copyman import Receiver
    from copyd.events import Observer
    from copyd.transfers.snapshot import Snapshot
    from copyd.transfers.transfer import Transfer

    Connection = psycopg.Connection[Any]

RECONNECT_FOR = 30.0
"""Seconds that a dropped destination gets to be reachable again."""
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
    return found.pop() if len(found) == 1 else Verdict.PARTIAL


class Runner:
    """The passes of one run, one after the other."""

    def __init__(self, snapshot: Snapshot, observe: Observer) -> None:
        self._snapshot = snapshot
        self._observe = observe
        self._transfer = snapshot.transfer
        self._passes = 0
        self._interrupted = Event()

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
        """Prepare all at once, so that a slow one holds up nobody; drop those that cannot be."""
        for destination, error in self._in_parallel(step, destinations).items():
            self._end(destination, Verdict.FAILED, error)
        for destination in destinations:
            if destination.cause is not None and destination.verdict is None:
                destination.cause = None
                self._observe(events.DestinationReintroduced(destination.name))

    def _prepare_again(self, destination: Destination) -> None:
        """Wait for a replica that went away; what is wrong for good ends the wait."""
        attempts = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_delay(RECONNECT_FOR),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            sleep=sleep_using_event(self._interrupted),
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
        try:
            with reader(self._snapshot) as source:
                completed = self._relay(source, destinations)
        except (CopyFail, CopydError, psycopg.Error) as error:
            self._blame(error, destinations)
        else:
            self._commit(completed)

    def _relay(
        self, source: Connection, destinations: Sequence[Destination]
    ) -> Sequence[Destination]:
        """Relay all the data; returns the destinations whose servers say that they have it.

        Raises CopyFail where there is none.
        """
        by_receiver: dict[Receiver, Destination] = {each.fed: each for each in destinations}
        statement = self._snapshot.statement(source)
        producer = StatementProducer(source, statement, link=self._transfer.link)
        stall_timeout = self._transfer.stall_timeout
        with CopyManager(producer, *by_receiver, stall_timeout=stall_timeout) as copy:
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
        destination.drops += 1
        will_return = is_transient(cause) and destination.drops <= self._transfer.reintroduce
        self._observe(events.DestinationDropped(destination.name, one_line(cause), will_return))
        if not will_return:
            self._end(destination, Verdict.FAILED, cause)

    def _blame(self, error: Exception, destinations: Sequence[Destination]) -> None:
        """A pass failed as a whole: by receivers that could not start, or else by the source.

        The others of a pass that could not start are innocent and get the next one.
        """
        unfinished = [each for each in destinations if each.verdict is None]
        if isinstance(error, CopyFail) and error.producer_fault is None:
            if error.receiver_faults is not None:
                for destination in unfinished:
                    cause = error.receiver_faults.get(destination.fed)
                    if cause is not None:
                        self._drop(destination, cause)
            return
        cause = CopydError(f"source {self._transfer.source.name}: {one_line(error)}")
        for destination in unfinished:
            self._end(destination, Verdict.FAILED, cause)

    def _commit(self, completed: Sequence[Destination]) -> None:
        """Commit all at once; only what COMMIT confirmed is counted."""
        self._in_parallel(Destination.commit, completed)
        for destination in completed:
            self._end(destination, destination.verdict or Verdict.UNKNOWN, destination.cause)

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

    def _in_parallel(
        self, step: Callable[[Destination], None], destinations: Sequence[Destination]
    ) -> dict[Destination, Exception]:
        """Take `step` for all destinations, each in a thread; returns what was raised."""
        if not destinations:
            return {}
        failures: dict[Destination, Exception] = {}
        with ThreadPoolExecutor(len(destinations), thread_name_prefix="copyd") as threads:
            futures = {threads.submit(step, each): each for each in destinations}
            try:
                wait(futures)
            except BaseException:
                self._interrupted.set()
                raise
            for future, destination in futures.items():
                error = future.exception()
                if isinstance(error, Exception):
                    failures[destination] = error
        return failures
