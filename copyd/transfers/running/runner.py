"""Brings every destination of a run to its verdict under one snapshot of the source.

Theory of operation. One thread, the caller's, is the runner: it alone changes what is known of
destinations, and it alone calls the observers. Whatever may wait for a server has a thread of its
own and posts messages to the runner's inbox:

- a step of a try (prepare, clear, empty, finish, resolve, tidy) is a daemon thread that uses one
  session and posts StepEnded (running/steps.py). It has a deadline; once that has passed, its
  connection is cut and nobody waits for the thread;
- a pass (running/passes.py) scans the source for several destinations and posts Progressed,
  Reconciled, Loaded, Dropped, Completed and at last PassEnded. There is one at a time. While it
  lasts, other destinations are prepared, and those that have completed commit.

So the runner is a loop: take a message, act on it, see whether the run is stopped or late, see
which steps are overdue. The states of a destination are a table (running/states.py); which
step follows is decided in running/lifecycle.py, how a try ends in running/verdicts.py, and here who
is fed together, and when.
A pass is always joined before any of its connections is closed.
"""

from __future__ import annotations

import time
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
    Dropped,
    Loaded,
    PassEnded,
    Progressed,
    Reconciled,
    StepEnded,
)
from copyd.transfers.running.passes import Pass
from copyd.transfers.running.relay import SourceLost
from copyd.transfers.running.states import COMING, LEAVING, State
from copyd.transfers.running.steps import Steps
from copyd.transfers.running.verdicts import Verdicts
from copyd.transfers.source import is_long
from copyd.transfers.stop import RunStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.context import Run
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Message, News
    from copyd.transfers.source import Scan, Snapshot, Source
    from copyd.transfers.transfer import Replica

Groups = dict["tuple[Scan, ...]", "list[Destination]"]


class Runner:
    """The passes of a run, and all that goes on beside them.

    `attempts` makes a new try of a replica; `steps` and `passes` start threads.
    """

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
        self._transfer = run.transfer
        self._destinations = destinations
        self._steps = steps or Steps(run.clock)
        self._verdicts = Verdicts(run, self._steps)
        self._lifecycle = Lifecycle(run, self._steps, self._verdicts, attempts)
        self._passes = passes
        self._source: Source
        self._snapshot: Snapshot | None = None  # the last that was told of
        self._pass: Pass | None = None

    def feed(self, source: Source) -> None:
        """Bring every destination to a verdict.

        Raises SourceLost where those that have not all their data need a new snapshot: feed them
        again then, from it.
        """
        self._source = source
        for destination in self._in({State.RESTING}):
            self._steps.wait(destination, -inf)
        is_resumed = False
        try:
            with self._run.stop.calling(self._interrupt):
                while self._open():
                    # One group at a time: the next pass may be under another snapshot.
                    for scans, group in self._gather():
                        self._feed(group, scans)
        except (DeadlinePassed, RunStopped) as error:
            self._end_all(error)
        except SourceLost:
            is_resumed = True
            raise
        finally:
            for destination in self._open():
                if not (is_resumed and destination.state in LEAVING):
                    self._verdicts.abandon(destination)
            self._verdicts.pass_ended()

    def give_up(self, cause: CopydError) -> None:
        """Bring all to a verdict without a source; those that have their data may finish."""
        for destination in self._open():
            if destination.state not in LEAVING:
                self._verdicts.end(destination, Verdict.FAILED, cause)
        try:
            with self._run.stop.calling(self._interrupt):
                while self._in(LEAVING):
                    self._receive(inf)
            for destination in self._open():
                self._verdicts.end(destination, Verdict.FAILED, cause)
        except (DeadlinePassed, RunStopped) as error:
            self._end_all(error)

    # -- who is where -----------------------------------------------------------------------------

    def _open(self) -> list[Destination]:
        return [each for each in self._destinations if each.state is not State.ENDED]

    def _in(self, states: Iterable[State]) -> list[Destination]:
        wanted = frozenset(states)
        return [each for each in self._destinations if each.state in wanted]

    def _gather(self) -> list[tuple[tuple[Scan, ...], list[Destination]]]:
        """Wait until some are ready and nobody else is about to be.

        Returns those that come first and need the same; nobody, where none is left to wait for.
        """
        patience = inf
        while self._open():
            ready = self._in({State.READY})
            if ready and patience == inf:
                patience = self._run.clock() + self._transfer.prepare_timeout
            if ready and (not self._in(COMING) or self._run.clock() >= patience):
                groups = self._by_needs(ready)
                return sorted(groups.items(), key=lambda group: is_long(group[0]))[:1]
            self._receive(patience)
        return []

    def _by_needs(self, ready: Sequence[Destination]) -> Groups:
        try:
            snapshot = self._source.snapshot
        except (psycopg.Error, CopydError) as error:
            raise SourceLost(facts(error)) from error
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._run.observe(events.SnapshotTaken(time.time(), snapshot.data_timestamp))
        groups: Groups = {}
        for destination in ready:
            try:
                scans = destination.trying.scans(snapshot)
            except CopydError as error:
                self._verdicts.fault(destination, error)
            else:
                destination.data_timestamp = snapshot.data_timestamp
                groups.setdefault(scans, []).append(destination)
        self._tell_of_writers(groups, snapshot.oldest_writer)
        return groups

    def _tell_of_writers(self, scans: Iterable[Sequence[Scan]], oldest: float | None) -> None:
        """Say that rows wait for a transaction of the source that does not end."""
        waits = any(scan.bounds.until is not None for each in scans for scan in each)
        if waits and oldest is not None and oldest > self._transfer.deadline:
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
            self._carry_out(self._passes(self._run, self._source, fed, scans, self._steps.post))

    def _await_empty(self, group: Sequence[Destination]) -> None:
        """Wait for all TRUNCATEs. Once one destination is ready, the rest are on ``max_wait``."""
        is_waited_for = False
        while emptying := [each for each in group if each.state is State.EMPTYING]:
            self._receive(inf)
            if not is_waited_for and any(each.state is State.FED for each in group):
                is_waited_for = True
                for destination in emptying:
                    self._steps.hurry(destination, self._transfer.max_wait)

    def _carry_out(self, pass_: Pass) -> None:
        """Attend to a pass until it has ended; raises what it raised."""
        self._pass = pass_
        pass_.start()
        try:
            while not isinstance(message := self._receive(inf), PassEnded):
                pass
        finally:
            pass_.close()
            self._pass = None
            self._verdicts.pass_ended()
        if message.error is not None:
            raise message.error

    # -- messages ---------------------------------------------------------------------------------

    def _receive(self, until: float) -> Message | None:
        """Wait until there is a message, something is due, or `until`; act on it and return it.

        Raises DeadlinePassed and RunStopped.
        """
        message = self._steps.receive(min(until, self._run.deadline))
        self._act(message)
        self._run.require_going_on()
        for destination in self._steps.overdue():
            if destination.state is State.RESTING:
                self._lifecycle.prepare(destination, self._source)
            else:
                self._lifecycle.overdue(destination)
        return message

    def _act(self, message: Message | None) -> None:
        match message:
            case None | PassEnded():
                pass  # None: something is due, or the run is stopped
            case StepEnded():
                self._lifecycle.step_ended(message)
            case _ if self._pass is not None:
                self._hear(message)
                self._pass.channel.heard()

    def _hear(self, news: News) -> None:
        match news:
            case Progressed():
                relayed = events.DataRelayed(news.destinations, news.messages, news.size)
                self._run.observe(relayed)
            case Reconciled(destination):
                destination.reconciliations += 1
                held_back = news.held_back
                self._run.observe(events.DestinationReconciled(destination.name, held_back))
            case Loaded(destination):
                destination.link, destination.format = news.link, news.format
                destination.trying.loaded(news.scan, rows=news.rows, size=news.size)
            case Dropped(destination):
                destination.link, destination.format = news.link, news.format
                self._verdicts.fault(destination, news.cause)
            case Completed():
                self._lifecycle.finish(news)

    def _interrupt(self) -> None:
        """Wake the run's threads, whatever they wait for; called by any thread."""
        self._steps.post(None)
        for destination in self._in({State.FED}):
            destination.trying.session.cut()

    def _end_all(self, cause: DeadlinePassed | RunStopped) -> None:
        for destination in self._open():
            self._verdicts.end_now(destination, cause)
