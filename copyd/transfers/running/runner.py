"""Brings every destination of a run to its verdict under one snapshot of the source.

One thread runs the passes and alone changes what is known of the destinations. Whatever may wait
for one destination (connecting, clearing, committing) happens in a daemon thread of that try, which
reports to one inbox and can be cut off.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import psycopg

from copyd import events
from copyd.errors import CopydError
from copyd.transfers.destination import Attempt
from copyd.transfers.faults import facts, is_transient, kind
from copyd.transfers.running.context import DeadlinePassed, Run
from copyd.transfers.running.passes import Passes, SourceLost
from copyd.transfers.running.states import Destination, State, Verdict
from copyd.transfers.source import is_long
from copyd.transfers.stop import RunStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from copyd.transfers.source import Scan, Snapshot, Source

COMING = frozenset({State.PREPARING, State.CLEARING})
"""A pass waits a little for destinations in these."""
LEAVING = frozenset({State.FINISHING, State.SETTLING, State.TIDYING})
"""Destinations in these have all their data and need no source any more."""
BUSY = COMING | LEAVING | {State.EMPTYING}
"""A thread works for a destination in one of these."""


@dataclass(frozen=True, slots=True)
class _Done:
    """A step of a try is over; ``error`` is what it raised."""

    destination: Destination
    attempt: Attempt
    error: Exception | None


class Runner:
    """The passes of a run, and all that goes on beside them."""

    def __init__(self, run: Run, destinations: Sequence[Destination]) -> None:
        self._run = run
        self._transfer = run.transfer
        self._destinations = destinations
        self._inbox: SimpleQueue[_Done | None] = SimpleQueue()  # None: the run is to end
        self._source: Source
        self._passes: Passes
        self._snapshot: Snapshot | None = None  # the last that was told of
        self._due: dict[Destination, float] = {}
        self._within: dict[Destination, float] = {}
        self._left: list[Attempt] = []  # dropped from the pass, which still holds their connections

    def feed(self, source: Source) -> None:
        """Bring every destination to a verdict.

        Raises SourceLost where those that have not all their data need a new snapshot: feed them
        again then, from it.
        """
        self._source = source
        self._passes = Passes(
            source=source,
            observe=self._run.observe,
            drop=self._fault,
            finish=self._finish,
            tick=self._tick,
            time_left=self._time_left,
        )
        for destination in self._in({State.RESTING}):
            self._due[destination] = -inf
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
                    self._abandon(destination)
            self._close_left()

    def give_up(self, cause: CopydError) -> None:
        """Bring all to a verdict without a source; those that have their data may finish."""
        for destination in self._open():
            if destination.state not in LEAVING:
                self._end(destination, Verdict.FAILED, cause)
        try:
            with self._run.stop.calling(self._interrupt):
                while self._in(LEAVING):
                    self._receive(inf)
            for destination in self._open():
                self._end(destination, Verdict.FAILED, cause)
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

    def _by_needs(self, ready: Sequence[Destination]) -> dict[tuple[Scan, ...], list[Destination]]:
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
                self._fault(destination, error)
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
            destination.passes += 1
            destination.began = self._run.clock()
            destination.move(State.EMPTYING)
            self._start(destination, destination.trying.empty, self._transfer.prepare_timeout)
        self._await_empty(group)
        fed = [destination for destination in group if destination.state is State.FED]
        try:
            self._passes.feed(fed, scans)
        finally:
            self._close_left()
        for destination in fed:
            if destination.state is State.FED:
                self._finish(destination)

    def _finish(self, destination: Destination) -> None:
        destination.move(State.FINISHING)
        self._start(destination, destination.trying.finish, self._transfer.answer_timeout)

    def _await_empty(self, group: Sequence[Destination]) -> None:
        """Wait for TRUNCATE; who takes it while others have emptied theirs holds these back."""
        is_waited_for = False
        while emptying := [each for each in group if each.state is State.EMPTYING]:
            self._receive(inf)
            if not is_waited_for and any(each.state is State.FED for each in group):
                is_waited_for = True
                for destination in emptying:
                    self._hurry(destination)

    def _hurry(self, destination: Destination) -> None:
        """Others wait for it now: it has no more than ``max_wait`` left."""
        max_wait = self._transfer.max_wait
        if max_wait is not None and self._run.clock() + max_wait < self._due[destination]:
            self._due[destination] = self._run.clock() + max_wait
            self._within[destination] = max_wait

    def _time_left(self) -> float:
        return max(self._run.deadline - self._run.clock(), 0.0)

    def _tick(self) -> None:
        """Attend to the threads while data flows."""
        self._receive(-inf)

    # -- threads and their news -------------------------------------------------------------------

    def _start(self, destination: Destination, step: Callable[[], None], within: float) -> None:
        """Take `step` in a thread; it is cut off after `within` seconds."""
        attempt = destination.trying
        self._due[destination] = self._run.clock() + within
        self._within[destination] = within

        def take() -> None:
            try:
                attempt.session.work(step)
            except Exception as error:  # noqa: BLE001 - handed to the runner, whose boundary this is
                self._inbox.put(_Done(destination, attempt, error))
            else:
                self._inbox.put(_Done(destination, attempt, None))

        threading.Thread(target=take, name=f"copyd {destination.name}", daemon=True).start()

    def _receive(self, until: float) -> None:
        """Wait until there is news, something is due, or `until`; act on what there is.

        Raises DeadlinePassed and RunStopped.
        """
        due = [self._due[each] for each in self._in(BUSY | {State.RESTING})]
        moment = min([until, self._run.deadline, *due])
        timeout = min(max(moment - self._run.clock(), 0.0), threading.TIMEOUT_MAX)
        with suppress(Empty):
            done = self._inbox.get(timeout=timeout)
            self._take(done)
        self._run.stop.require_none()
        now = self._run.clock()
        if now >= self._run.deadline:
            raise DeadlinePassed(f"the deadline of {self._transfer.deadline:g} s has passed")
        for destination in self._in(BUSY | {State.RESTING}):
            if self._due[destination] <= now:
                self._is_due(destination)

    def _take(self, done: _Done | None) -> None:
        """Act on news of a step, unless it is of a try that was given up."""
        if done is None or done.attempt is not done.destination.attempt:
            return
        if done.destination.state in BUSY:
            self._go_on(done.destination, done.error)

    def _interrupt(self) -> None:
        """Have the run's thread look around, whatever it waits for; called by any thread."""
        self._inbox.put(None)
        for destination in self._in({State.FED}):
            destination.trying.session.cut()

    def _is_due(self, destination: Destination) -> None:
        """Try again one that has rested, cut off one that takes too long."""
        if destination.state is State.RESTING:
            self._prepare(destination)
        else:
            destination.trying.session.cut()
            late = TimeoutError(f"no answer within {self._within[destination]:g} s")
            self._go_on(destination, late)

    def _prepare(self, destination: Destination) -> None:
        predecessor = destination.backend
        attempt = self._new_attempt(destination)
        destination.move(State.PREPARING)
        self._start(
            destination,
            lambda: attempt.prepare(self._source, predecessor),
            self._transfer.prepare_timeout,
        )

    def _new_attempt(self, destination: Destination) -> Attempt:
        run = self._run
        attempt = Attempt(destination.replica, run.transfer, run.identifier, is_full=run.is_full)
        destination.attempt = attempt
        return attempt

    def _go_on(self, destination: Destination, error: Exception | None) -> None:
        """Go on after a step of a destination, by its state; a defect of ours ends the run."""
        if error is not None and not isinstance(error, (psycopg.Error, CopydError, OSError)):
            raise error
        step = {
            State.PREPARING: self._prepared,
            State.CLEARING: self._cleared,
            State.EMPTYING: self._emptied,
            State.FINISHING: self._finished,
            State.SETTLING: self._settled,
            State.TIDYING: self._tidied,
        }[destination.state]
        step(destination, error)

    def _prepared(self, destination: Destination, error: Exception | None) -> None:
        destination.backend = destination.trying.session.backend or destination.backend
        if error is not None:
            self._fault(destination, error)
            return
        destination.move(State.CLEARING)
        self._start(destination, destination.trying.clear, self._transfer.answer_timeout)

    def _cleared(self, destination: Destination, error: Exception | None) -> None:
        if error is not None:
            self._fault(destination, error)
            return
        destination.move(State.READY)
        if destination.faults:
            self._run.observe(events.DestinationReintroduced(destination.name))

    def _emptied(self, destination: Destination, error: Exception | None) -> None:
        if error is not None:
            self._fault(destination, error)
            return
        destination.move(State.FED)

    def _finished(self, destination: Destination, error: Exception | None) -> None:
        attempt = destination.trying
        if error is None or attempt.commit.is_done:
            self._succeed(destination)
        elif not attempt.commit.is_sent:
            self._fault(destination, error)
        elif self._transfer.ledger is None:
            self._end(destination, Verdict.UNKNOWN, error)
        else:
            self._settle(destination, error)

    def _settle(self, destination: Destination, error: Exception) -> None:
        """Have another try find out what became of the COMMIT of this one."""
        lost = destination.trying
        settling = self._new_attempt(destination)
        settling.inherit(lost)
        lost.session.close()
        destination.cause = error
        destination.move(State.SETTLING)
        self._start(destination, settling.resolve, inf)

    def _settled(self, destination: Destination, error: Exception | None) -> None:
        """The ledger has said whether the COMMIT took place, or nobody could read it."""
        if error is not None:
            self._end(destination, Verdict.UNKNOWN, error)
        elif destination.trying.commit.is_done:
            self._succeed(destination)
        else:
            lost = destination.cause or CopydError("the transaction was lost")
            self._fault(destination, lost)

    def _tidied(self, destination: Destination, error: Exception | None) -> None:
        attempt = destination.trying
        destination.analyze_seconds = attempt.analyze_seconds
        if error is not None:
            destination.notes.append(f"after its COMMIT: {facts(error)}")
        attempt.session.close()
        destination.move(State.ENDED)

    # -- verdicts ---------------------------------------------------------------------------------

    def _succeed(self, destination: Destination) -> None:
        self._confirm(destination)
        self._start(destination, destination.trying.tidy, self._transfer.answer_timeout)

    def _confirm(self, destination: Destination) -> None:
        """Its COMMIT took place: what it has written counts from here on."""
        tables = destination.trying.tables
        destination.counts = sum((table.counts for table in tables), events.NO_ROWS)
        destination.notes += destination.trying.commit.notes
        for table in tables:
            if table.missed:
                missed = events.RowsMissed(destination.name, table.there.table, table.missed)
                self._run.observe(missed)
        self._judge(destination, Verdict.SUCCEEDED, None)
        destination.move(State.TIDYING)

    def _fault(self, destination: Destination, cause: BaseException) -> None:
        """Take a destination out, for good or until it is tried again."""
        if self._run.stop.cause is not None:
            self._end(destination, Verdict.FAILED, self._run.stop.cause)
            return
        was_fed = destination.state is State.FED
        destination.faults += 1
        is_left = destination.faults <= self._transfer.reintroduce.attempts
        will_return = is_left and is_transient(cause)
        if was_fed or will_return:
            self._run.observe(
                events.DestinationDropped(
                    destination.name, facts(cause), will_return, kind=kind(cause)
                )
            )
        if not will_return:
            self._end(destination, Verdict.FAILED, cause)
            return
        destination.cause = cause
        jitter = random.random()  # noqa: S311 - no secret
        self._rest(destination, self._transfer.reintroduce.wait(destination.faults, jitter))

    def _rest(self, destination: Destination, seconds: float) -> None:
        self._let_go(destination)
        destination.move(State.RESTING)
        self._due[destination] = self._run.clock() + seconds

    def _close_left(self) -> None:
        """Close the connections that a copy has held until now."""
        while self._left:
            self._left.pop().session.close()

    def _let_go(self, destination: Destination) -> None:
        """Close its connection, as soon as no copy holds it."""
        if destination.attempt is not None:
            if destination.state is State.FED:
                self._left.append(destination.attempt)
            else:
                destination.attempt.session.close()

    def _end(self, destination: Destination, verdict: Verdict, cause: BaseException | None) -> None:
        self._let_go(destination)
        self._judge(destination, verdict, cause)
        destination.move(State.ENDED)

    def _judge(
        self, destination: Destination, verdict: Verdict, cause: BaseException | None
    ) -> None:
        destination.judge(verdict, cause, moment=self._run.clock())
        ended = destination.outcome()
        self._run.observe(
            events.DestinationEnded(
                ended.destination,
                verdict.value,
                ended.counts,
                ended.cause,
                ended.data_timestamp,
            )
        )

    def _end_all(self, cause: DeadlinePassed | RunStopped) -> None:
        for destination in self._open():
            self._cut_off(destination)
            if destination.state is State.TIDYING:
                self._tidied(destination, cause)
            else:
                self._end(destination, _unfinished(destination), cause)

    def _cut_off(self, destination: Destination) -> None:
        """Cut one that is finishing; its COMMIT counts if it took place, though the news is late."""
        if destination.state is State.FINISHING:
            destination.trying.session.cut_and_wait()
            if destination.trying.commit.is_done:
                self._confirm(destination)

    def _abandon(self, destination: Destination) -> None:
        """The run is interrupted, or goes on under another snapshot."""
        self._cut_off(destination)
        if _unfinished(destination) is Verdict.UNKNOWN:
            self._end(destination, Verdict.UNKNOWN, None)
        elif destination.state is State.TIDYING:
            self._tidied(destination, None)
        else:
            self._rest(destination, 0.0)


def _unfinished(destination: Destination) -> Verdict:
    """The verdict on one that is not waited for any more."""
    is_in_doubt = destination.state is State.SETTLING or (
        destination.state is State.FINISHING and destination.trying.commit.is_sent
    )
    return Verdict.UNKNOWN if is_in_doubt else Verdict.FAILED
