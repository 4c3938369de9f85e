"""Brings every destination of a run to its verdict under one snapshot of the source.

The caller's thread is the runner. The runner alone changes destinations, and alone calls observers.
Work that may block on a server has its own thread, which posts messages to the runner's inbox:

- a step of a try (prepare, clear, empty, finish, resolve, tidy) is a daemon thread with a session
  (running/steps.py); at its end it posts StepEnded. After its deadline the runner cuts its
  connection and does not wait for the thread.
- a pass (running/passes.py) scans the source for several destinations and posts DataRelayed,
  Reconciled, ScanEnded, Completed and finally PassEnded. Passes follow each other. Meanwhile other
  destinations are prepared, and completed destinations commit.

So the runner is a loop: receive a message, act on it, check for a stop and the deadline, handle
overdue steps. The states of a destination are a table (running/states.py);
running/lifecycle.py decides which step follows and how a try ends, and this module which
destinations are fed together, and when.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from math import inf
from typing import TYPE_CHECKING

import psycopg

from copyd import events
from copyd.errors import CopydError
from copyd.transfers.faults import facts
from copyd.transfers.running.context import DeadlinePassed
from copyd.transfers.running.destination import Verdict
from copyd.transfers.running.lifecycle import Lifecycle
from copyd.transfers.running.messages import (
    Completed,
    PassEnded,
    Reconciled,
    ScanEnded,
    StepEnded,
)
from copyd.transfers.running.passes import Pass
from copyd.transfers.running.relay import SourceLost
from copyd.transfers.running.states import COMING, LEAVING, State
from copyd.transfers.running.steps import Steps
from copyd.transfers.source import is_long
from copyd.transfers.stop import RunStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.context import Run
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Message, News
    from copyd.transfers.source import Scan, Snapshot, Source
    from copyd.transfers.transfer import Replica


class Runner:
    """The passes of a run and everything beside them.

    `attempts` makes a new try of a replica; `steps` and `passes` start threads.
    """

    # Decision: A thread for a step and for a pass, a table for the states

    def __init__(
        self,
        run: Run,
        destinations: Sequence[Destination],
        *,
        attempts: Callable[[Replica], Attempt],
        steps: Steps | None = None,
        passes: Callable[..., Pass] = Pass,
    ) -> None:
        self._run = run
        self._destinations = destinations
        self._steps = steps or Steps(run.clock)
        self._lifecycle = Lifecycle(run, self._steps, attempts)
        self._passes = passes
        self._source: Source
        self._snapshot: Snapshot | None = None  # the last that observers know of
        self._pass: Pass | None = None

    def feed(self, source: Source) -> None:
        """Bring every destination to a verdict.

        Raises SourceLost if destinations without all their data need another snapshot: call again.
        """
        self._source = source
        for destination in self._in({State.RESTING}):
            self._steps.wait(destination, -inf)
        with self._ending_all():
            while self._open():
                # One group at a time: the next pass may be under another snapshot.
                if (group := self._gather()) is not None:
                    self._feed(*group)

    def give_up(self, cause: CopydError) -> None:
        """Bring all to a verdict without a source; destinations with all their data may finish."""
        with self._ending_all():
            while self._open():
                for destination in self._open():
                    if destination.state not in LEAVING:
                        self._lifecycle.end(destination, Verdict.FAILED, cause)
                if self._open():
                    self._receive(inf)

    def close(self) -> None:
        """End what `feed` left to another snapshot."""
        with self._ending_all():
            pass

    @contextmanager
    def _ending_all(self) -> Iterator[None]:
        """Leave no destination and no connection open, however the block ends.

        Only SourceLost exempts the destinations that no longer need the source.
        """
        kept: Collection[State] = ()
        cause: DeadlinePassed | RunStopped | None = None
        try:
            with self._run.stop.calling(self._interrupt):
                yield
        except (DeadlinePassed, RunStopped) as error:
            cause = error
        except SourceLost:
            kept = LEAVING
            raise
        finally:
            with ExitStack() as stack:  # each, even if an observer raises meanwhile
                stack.callback(self._lifecycle.pass_ended)
                for destination in reversed(self._open()):
                    if destination.state not in kept:
                        stack.callback(self._lifecycle.end_now, destination, cause)

    # -- destinations by state --------------------------------------------------------------------

    def _open(self) -> list[Destination]:
        return [each for each in self._destinations if each.state is not State.ENDED]

    def _in(self, states: Collection[State]) -> list[Destination]:
        return [each for each in self._destinations if each.state in states]

    def _gather(self) -> tuple[Sequence[Destination], Sequence[Scan]] | None:
        """Wait until destinations are ready and no other is about to be.

        Returns the group to feed first and its scans; None if there is nothing left to feed.
        """
        patience = inf
        while self._open():
            ready = self._in({State.READY})
            if ready and patience == inf:
                patience = self._run.clock() + self._run.transfer.prepare_timeout
            if ready and (not self._in(COMING) or self._run.clock() >= patience):
                groups = self._by_scans(ready)
                scans = min(groups, key=is_long, default=())
                return (groups[scans], scans) if groups else None
            self._receive(patience)
        return None

    def _by_scans(self, ready: Sequence[Destination]) -> dict[tuple[Scan, ...], list[Destination]]:
        # Decision: Destinations share a pass when their scans are equal
        try:
            snapshot = self._source.snapshot
        except (psycopg.Error, CopydError) as error:
            raise SourceLost(facts(error)) from error
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._run.observe(events.SnapshotTaken(time.time(), snapshot.data_timestamp))
        groups: dict[tuple[Scan, ...], list[Destination]] = {}
        for destination in ready:
            try:
                scans = destination.trying.scans(snapshot)
            except CopydError as error:
                self._lifecycle.fault(destination, error)
            else:
                destination.data_timestamp = snapshot.data_timestamp
                groups.setdefault(scans, []).append(destination)
        self._report_writers(groups, snapshot.oldest_writer)
        return groups

    def _report_writers(self, groups: Iterable[Sequence[Scan]], oldest: float | None) -> None:
        waits = any(scan.bounds.until is not None for scans in groups for scan in scans)
        if waits and oldest is not None and oldest > self._run.transfer.deadline:
            self._run.observe(events.HorizonHeldBack(oldest))

    # -- one pass ---------------------------------------------------------------------------------

    def _feed(self, group: Sequence[Destination], scans: Sequence[Scan]) -> None:
        names = tuple(destination.name for destination in group)
        self._run.observe(events.PassStarted(next(self._run.numbers), names))
        for destination in group:
            self._lifecycle.empty(destination)
        self._await_empty(group)
        fed = [destination for destination in group if destination.state is State.FED]
        if fed:
            self._attend(self._passes(self._run, self._source, fed, scans, self._steps.post))

    def _await_empty(self, group: Sequence[Destination]) -> None:
        """Wait for all TRUNCATEs. Once one destination is ready, the rest are on ``max_wait``."""
        is_waited_for = False
        while emptying := [each for each in group if each.state is State.EMPTYING]:
            self._receive(inf)
            if not is_waited_for and any(each.state is State.FED for each in group):
                is_waited_for = True
                for destination in emptying:
                    self._steps.hurry(destination, self._run.transfer.max_wait)

    def _attend(self, pass_: Pass) -> None:
        self._pass = pass_
        try:
            pass_.start()
            while not isinstance(message := self._receive(inf), PassEnded):
                pass
        finally:
            # First the thread, then its connections: a closed descriptor may soon be another's.
            pass_.close()
            self._pass = None
            self._lifecycle.pass_ended()
        if message.error is not None:
            raise message.error

    # -- messages ---------------------------------------------------------------------------------

    def _receive(self, until: float) -> Message | None:
        """Act on the next message and on due destinations, and return the message; None at `until`.

        Raises DeadlinePassed and RunStopped.
        """
        message = self._steps.receive(min(until, self._run.deadline))
        match message:
            case None | PassEnded():
                pass
            case StepEnded():
                self._lifecycle.step_ended(message)
            case _ if self._pass is not None:
                self._hear(message)
                self._pass.channel.heard()
        self._run.require_going_on()
        for destination in self._steps.overdue():
            if destination.state is State.RESTING:
                self._lifecycle.prepare(destination, self._source)
            else:
                self._lifecycle.overdue(destination)
        return message

    def _hear(self, news: News) -> None:
        match news:
            case events.DataRelayed():
                self._run.observe(news)
            case Reconciled(destination, held_back):
                destination.reconciliations += 1
                self._run.observe(events.DestinationReconciled(destination.name, held_back))
            case ScanEnded(destination):
                destination.link, destination.format = news.link, news.format
                if news.error is not None:
                    self._lifecycle.fault(destination, news.error)
                else:
                    destination.trying.loaded(news.scan, rows=news.rows, size=news.size)
            case Completed():
                self._lifecycle.finish(news)

    def _interrupt(self) -> None:
        """Wake every thread of the run; called by any thread, and never blocks."""
        # Decision: A run is stopped by cutting what it waits for
        self._steps.post(None)
        for destination in self._in({State.FED}):
            destination.trying.session.cut()
