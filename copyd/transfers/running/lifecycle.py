"""The life of a destination in a run: which step follows which, and how a try ends.

A try ends with a fault, which may bring the destination back later, or with a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import psycopg

from copyd import events
from copyd.errors import CopydError
from copyd.transfers.faults import facts, is_transient, kind
from copyd.transfers.running.destination import Verdict
from copyd.transfers.running.states import BUSY, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.context import Run
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Completed, StepEnded
    from copyd.transfers.running.steps import Steps
    from copyd.transfers.source import Source
    from copyd.transfers.transfer import Replica


@dataclass(frozen=True)
class Lifecycle:
    """Moves destinations from step to step; ``attempts`` makes a new try of a replica."""

    run: Run
    steps: Steps
    attempts: Callable[[Replica], Attempt]
    _in_pass: list[Attempt] = field(default_factory=list)  # ended; the pass has their connections

    # -- steps ------------------------------------------------------------------------------------

    def prepare(self, destination: Destination, source: Source) -> None:
        """Begin a new try."""
        predecessor = destination.backend
        attempt = destination.attempt = self.attempts(destination.replica)
        destination.move(State.PREPARING)
        self._take(destination, lambda: attempt.prepare(source, predecessor))

    def empty(self, destination: Destination) -> None:
        """Begin a pass for `destination`."""
        destination.passes += 1
        destination.began = self.run.clock()
        destination.move(State.EMPTYING)
        self._take(destination, destination.trying.empty)

    def finish(self, completed: Completed) -> None:
        """Commit a destination with all its data."""
        destination, attempt = completed.destination, completed.destination.trying
        attempt.watermarks = dict(completed.watermarks)
        for table in attempt.tables:
            table.bound = completed.bounds.get(table.reading.name)
        destination.move(State.FINISHING)
        self._take(destination, attempt.finish)

    def step_ended(self, ended: StepEnded) -> None:
        """Continue after a step, unless its try was given up."""
        destination = ended.destination
        if ended.attempt is destination.attempt and destination.state in BUSY:
            self._continue(destination, ended.error)

    def overdue(self, destination: Destination) -> None:
        """Cut the connection of an overdue step, and continue as if the step had failed."""
        destination.trying.session.cut()
        self._continue(destination, self.steps.late(destination))

    def _take(self, destination: Destination, step: Callable[[], None]) -> None:
        transfer = self.run.transfer
        match destination.state:
            case State.PREPARING | State.EMPTYING:
                within = transfer.prepare_timeout
            case State.RESOLVING:
                within = inf  # the run's deadline is the only limit to finding out
            case _:
                within = transfer.answer_timeout
        self.steps.take(destination, step, within=within)

    def _continue(self, destination: Destination, error: Exception | None) -> None:
        if error is not None and not isinstance(error, (psycopg.Error, CopydError, OSError)):
            raise error  # a defect of ours ends the run
        attempt = destination.trying
        if destination.state is State.PREPARING:
            destination.backend = attempt.session.backend or destination.backend
        match destination.state:
            case State.FINISHING | State.RESOLVING:
                self._committed(destination, error)
            case State.TIDYING:
                self.tidied(destination, error)
            case _ if error is not None:
                self.fault(destination, error)
            case State.PREPARING:
                destination.move(State.CLEARING)
                self._take(destination, attempt.clear)
            case State.CLEARING:
                destination.move(State.READY)
                if destination.faults:
                    self.run.observe(events.DestinationReintroduced(destination.name))
            case _:
                destination.move(State.FED)

    def _committed(self, destination: Destination, error: Exception | None) -> None:
        attempt = destination.trying
        if attempt.commit.is_done:
            self.confirm(destination)
            self._take(destination, attempt.tidy)
        elif not attempt.commit.is_sent:
            lost = error or destination.cause or CopydError("the transaction was lost")
            self.fault(destination, lost)
        elif destination.state is State.FINISHING and self.run.transfer.ledger is not None:
            self._resolve(destination, error)
        else:
            self.end(destination, Verdict.UNKNOWN, error)

    def _resolve(self, destination: Destination, error: Exception | None) -> None:
        # Decision: The ledger decides, and is not trusted blindly
        lost = destination.trying
        resolving = destination.attempt = self.attempts(destination.replica)
        resolving.inherit(lost)
        lost.session.close()
        destination.cause = error
        destination.move(State.RESOLVING)
        self._take(destination, resolving.resolve)

    # -- ends of tries ----------------------------------------------------------------------------

    def fault(self, destination: Destination, cause: BaseException) -> None:
        """End the try; the destination returns later if the cause is transient."""
        if self.run.stop.cause is not None:
            # Cut connections are faults too, and not the destination's.
            self.end(destination, Verdict.FAILED, self.run.stop.cause)
            return
        was_fed = destination.state is State.FED
        destination.faults += 1
        reintroduce = self.run.transfer.reintroduce
        will_return = destination.faults <= reintroduce.attempts and is_transient(cause)
        if was_fed or will_return:
            self.run.observe(
                events.DestinationDropped(
                    destination.name, facts(cause), will_return, kind=kind(cause)
                )
            )
        if will_return:
            # Decision: A dropped destination gets a pass of its own, under the same snapshot
            destination.cause = cause
            self._rest(destination, reintroduce.wait(destination.faults, self.run.rng()))
        else:
            self.end(destination, Verdict.FAILED, cause)

    def end(self, destination: Destination, verdict: Verdict, cause: BaseException | None) -> None:
        """Give a destination its verdict."""
        self._close(destination)
        destination.move(State.ENDED)
        self._judge(destination, verdict, cause)

    def end_now(self, destination: Destination, cause: Exception | None) -> None:
        """End the try because the run is over or, without a `cause`, needs another snapshot.

        A COMMIT under way is cut off; if the COMMIT took place, it counts.
        """
        if destination.state is State.FINISHING:
            destination.trying.session.cut_and_wait()
            if destination.trying.commit.is_done:
                self.confirm(destination)
        is_sent = destination.state is State.FINISHING and destination.trying.commit.is_sent
        if destination.state is State.TIDYING:
            self.tidied(destination, cause)
        elif is_sent or destination.state is State.RESOLVING:
            self.end(destination, Verdict.UNKNOWN, cause)
        elif cause is not None:
            self.end(destination, Verdict.FAILED, cause)
        else:
            self._rest(destination, 0.0)

    def tidied(self, destination: Destination, error: Exception | None) -> None:
        """End the work after COMMIT; its failure is only a note."""
        attempt = destination.trying
        destination.analyze_seconds = attempt.analyze_seconds
        if error is not None:
            destination.notes.append(f"after its COMMIT: {facts(error)}")
        attempt.session.close()
        destination.move(State.ENDED)

    def pass_ended(self) -> None:
        """Close the connections of tries that ended during the pass."""
        while self._in_pass:
            self._in_pass.pop().session.close()

    def confirm(self, destination: Destination) -> None:
        """Record a successful COMMIT."""
        tables = destination.trying.tables
        destination.counts = sum((table.counts for table in tables), events.NO_ROWS)
        destination.notes += destination.trying.commit.notes
        destination.move(State.TIDYING)
        for table in tables:
            if table.missed:
                self.run.observe(
                    events.RowsMissed(destination.name, table.state.table, table.missed)
                )
        self._judge(destination, Verdict.SUCCEEDED, None)

    def _rest(self, destination: Destination, seconds: float) -> None:
        self._close(destination)
        destination.move(State.RESTING)
        self.steps.wait(destination, seconds)

    def _close(self, destination: Destination) -> None:
        """Close the connection, or leave that to `pass_ended` if a pass uses it."""
        if destination.attempt is not None:
            if destination.state is State.FED:
                self._in_pass.append(destination.attempt)
            else:
                destination.attempt.session.close()

    def _judge(
        self, destination: Destination, verdict: Verdict, cause: BaseException | None
    ) -> None:
        destination.verdict, destination.cause = verdict, cause
        destination.judged = self.run.clock()
        ended = destination.outcome()
        self.run.observe(
            events.DestinationEnded(
                ended.destination, verdict.value, ended.counts, ended.cause, ended.data_timestamp
            )
        )
