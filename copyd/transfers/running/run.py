"""A run of a transfer, from the first connection to the report."""

from __future__ import annotations

import random
import threading
import time
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from copyd import events
from copyd.errors import CopydError
from copyd.transfers.destination import Attempt, prepare, wind_up
from copyd.transfers.faults import SourceFailed, facts, is_transient
from copyd.transfers.running.context import Run
from copyd.transfers.running.destination import Destination, Outcome, Verdict
from copyd.transfers.running.relay import SourceLost
from copyd.transfers.running.runner import Runner
from copyd.transfers.running.states import State
from copyd.transfers.source import hold
from copyd.transfers.stop import RunStopped, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from copyd.events import Observer
    from copyd.transfers.transfer import Replica, Transfer


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended; ``outcomes`` are in the transfer's order.

    ``pending``: for rejects of this or an earlier run, why it is unknown if they were committed.
    """

    transfer: str
    run: str
    verdict: Verdict
    seconds: float
    outcomes: tuple[Outcome, ...]
    pending: tuple[str, ...] = ()


def run(
    transfer: Transfer,
    *,
    is_full: bool = False,
    observe: Observer = events.ignore,
    clock: Callable[[], float] = time.monotonic,
    rng: Callable[[], float] = random.random,
    stop: Stop | None = None,
) -> Report:
    """Run `transfer` once; `observe` receives the events.

    `is_full`: load every row anew, whatever the ledgers say. `stop` ends the run early; destinations
    without a COMMIT then keep their old data and have failed.

    Raises CopydError, before any destination is touched, if the source cannot be read or `stop` is
    already set.
    """
    began = clock()
    identifier = uuid.uuid4().hex
    stop = stop or Stop()
    stop.require_none()
    deadline = began + transfer.deadline
    whole = Run(transfer, identifier, observe, clock, deadline, is_full=is_full, rng=rng, stop=stop)
    destinations = [Destination(replica) for replica in transfer.replicas]
    prepare(transfer)
    _carry_out(whole, destinations)
    pending = _wind_up(whole)
    verdicts = [destination.verdict or Verdict.FAILED for destination in destinations]
    report = Report(
        transfer=transfer.name,
        run=identifier,
        verdict=judge(verdicts, minimum=transfer.minimum_destinations),
        seconds=clock() - began,
        outcomes=tuple(destination.outcome() for destination in destinations),
        pending=pending,
    )
    observe(events.RunEnded(report.verdict.value, report.seconds))
    return report


def judge(verdicts: Sequence[Verdict], *, minimum: int = 1) -> Verdict:
    """Return the verdict of a run from those of its destinations.

    Fewer than `minimum` successes: failed, or unknown if the unknown ones could make up for it.
    """
    succeeded = verdicts.count(Verdict.SUCCEEDED)
    if succeeded == len(verdicts):
        return Verdict.SUCCEEDED
    if succeeded >= minimum:
        return Verdict.PARTIAL
    is_open = succeeded + verdicts.count(Verdict.UNKNOWN) >= minimum
    return Verdict.UNKNOWN if is_open else Verdict.FAILED


def _wind_up(run: Run) -> tuple[str, ...]:
    try:
        pending = wind_up(run.transfer)
    except CopydError as error:
        return (str(error),)  # the folder of rejects: no failure after the verdicts
    for each in pending:
        run.observe(events.RejectsPending(each.destination, each.run, each.reason or ""))
    return tuple(f"run {each.run}: {each.reason}" for each in pending)


def _carry_out(run: Run, destinations: Sequence[Destination]) -> None:
    """Feed, under new snapshots if need be, until every destination has a verdict."""

    def attempt(replica: Replica) -> Attempt:
        return Attempt(replica, run.transfer, run.identifier, is_full=run.is_full)

    losses = 0
    with closing(Runner(run, destinations, attempts=attempt)) as runner:
        while any(destination.state is not State.ENDED for destination in destinations):
            try:
                _feed(run, runner, destinations, is_first=not losses)
            except CopydError as error:
                if not losses and not isinstance(error, SourceLost):
                    run.stop.require_none()
                    if run.clock() >= run.deadline:
                        raise CopydError(_in_words(run, error)) from error
                    raise
                losses += 1
                cause = _source_dropped(run, error, losses)
                if cause is not None:
                    runner.give_up(cause)


def _feed(run: Run, runner: Runner, destinations: Sequence[Destination], *, is_first: bool) -> None:
    guard = partial(_cut_at_the_end, run)
    with hold(run.transfer, guard=guard) as source, guard(source.cut):
        if is_first:
            names = tuple(destination.name for destination in destinations)
            name, rows = run.transfer.name, source.estimated_rows
            run.observe(events.RunStarted(name, run.identifier, names, rows))
        runner.feed(source)


@contextmanager
def _cut_at_the_end(run: Run, cut: Callable[[], None]) -> Iterator[None]:
    # Decision: A run is stopped by cutting what it waits for
    timer = threading.Timer(min(run.seconds_left, threading.TIMEOUT_MAX), cut)
    timer.daemon = True
    timer.start()
    try:
        with run.stop.calling(cut):
            yield
    finally:
        timer.cancel()


def _source_dropped(run: Run, error: CopydError, losses: int) -> CopydError | None:
    """Wait before the source is read again; return the cause instead if that is pointless."""
    cause = SourceFailed(_in_words(run, error))
    wait = run.transfer.reintroduce.wait(losses, run.rng())
    is_in_time = run.clock() + wait < run.deadline
    is_left = losses <= run.transfer.reintroduce.attempts
    will_return = is_in_time and is_left and is_transient(error)
    try:
        run.stop.require_none()
        run.observe(events.SourceDropped(facts(cause), will_return))
        if will_return:
            run.stop.wait(wait)
    except RunStopped as stopped:
        return stopped
    return None if will_return else cause


def _in_words(run: Run, error: CopydError) -> str:
    said = str(error)
    if isinstance(error, SourceLost):
        said = f"source {run.transfer.source.name}: {facts(error)}"
    if run.clock() >= run.deadline:
        said = f"the deadline of {run.transfer.deadline:g} s has passed; {said}"
    return said
