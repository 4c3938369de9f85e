"""The steps of a destination, and which follows which. running/verdicts.py decides how a try ends."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import psycopg

from copyd import events
from copyd.errors import CopydError
from copyd.transfers.running.destination import Verdict
from copyd.transfers.running.states import BUSY, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.context import Run
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Completed, StepEnded
    from copyd.transfers.running.steps import Steps
    from copyd.transfers.running.verdicts import Verdicts
    from copyd.transfers.source import Source
    from copyd.transfers.transfer import Replica


@dataclass(frozen=True)
class Lifecycle:
    """Moves destinations from step to step; ``attempts`` makes a new try of a replica."""

    run: Run
    steps: Steps
    verdicts: Verdicts
    attempts: Callable[[Replica], Attempt]

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
        """Commit a destination that has all its data."""
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
        """Cut the connection of a step that is overdue, and continue as if the step had failed."""
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
                self.verdicts.tidied(destination, error)
            case _ if error is not None:
                self.verdicts.fault(destination, error)
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
        """Continue after COMMIT, or after the ledger was asked about a COMMIT in doubt."""
        attempt = destination.trying
        if attempt.commit.is_done:
            self.verdicts.confirm(destination)
            self._take(destination, attempt.tidy)
        elif not attempt.commit.is_sent:
            lost = error or destination.cause or CopydError("the transaction was lost")
            self.verdicts.fault(destination, lost)
        elif destination.state is State.FINISHING and self.run.transfer.ledger is not None:
            self._resolve(destination, error)
        else:
            self.verdicts.end(destination, Verdict.UNKNOWN, error)

    def _resolve(self, destination: Destination, error: Exception | None) -> None:
        """Ask the ledger, in another try, whether the COMMIT of this try took place."""
        # Decision: The ledger decides, and is not trusted blindly
        lost = destination.trying
        resolving = destination.attempt = self.attempts(destination.replica)
        resolving.inherit(lost)
        lost.session.close()
        destination.cause = error
        destination.move(State.RESOLVING)
        self._take(destination, resolving.resolve)
