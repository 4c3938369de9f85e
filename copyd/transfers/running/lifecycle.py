"""The steps of a destination, and which follows from which.

Its state says what it waits for (running/states.py). How a try ends is decided in
running/verdicts.py.
"""

from __future__ import annotations

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

_AFTER = {
    State.PREPARING: State.CLEARING,
    State.CLEARING: State.READY,
    State.EMPTYING: State.FED,
}


class Lifecycle:
    """Moves destinations forward from step to step; `attempts` makes a new try of a replica."""

    def __init__(
        self,
        run: Run,
        steps: Steps,
        verdicts: Verdicts,
        attempts: Callable[[Replica], Attempt],
    ) -> None:
        self._run = run
        self._transfer = run.transfer
        self._steps = steps
        self._verdicts = verdicts
        self._attempts = attempts

    def prepare(self, destination: Destination, source: Source) -> None:
        """Begin a new try."""
        predecessor = destination.backend
        attempt = destination.attempt = self._attempts(destination.replica)
        destination.move(State.PREPARING)
        self._steps.take(
            destination,
            lambda: attempt.prepare(source, predecessor),
            within=self._transfer.prepare_timeout,
        )

    def empty(self, destination: Destination) -> None:
        """Begin a pass for `destination`."""
        destination.passes += 1
        destination.began = self._run.clock()
        destination.move(State.EMPTYING)
        within = self._transfer.prepare_timeout
        self._steps.take(destination, destination.trying.empty, within=within)

    def finish(self, completed: Completed) -> None:
        """Have a destination commit that has all its data."""
        destination, findings = completed.destination, completed.findings
        attempt = destination.trying
        attempt.watermarks = dict(findings.marks)
        for table in attempt.tables:
            table.bound = findings.bounds.get(destination, {}).get(table.reading.name)
        destination.move(State.FINISHING)
        self._steps.take(destination, attempt.finish, within=self._transfer.answer_timeout)

    def step_ended(self, ended: StepEnded) -> None:
        """Go on after a step, unless it is of a try that was given up."""
        destination = ended.destination
        if ended.attempt is destination.attempt and destination.state in BUSY:
            self._go_on(destination, ended.error)

    def overdue(self, destination: Destination) -> None:
        """Cut a step off that takes too long; go on as if it had failed."""
        destination.trying.session.cut()
        self._go_on(destination, self._steps.late(destination))

    def _go_on(self, destination: Destination, error: Exception | None) -> None:
        """Go on after a step, by the state; a defect of ours ends the run."""
        if error is not None and not isinstance(error, (psycopg.Error, CopydError, OSError)):
            raise error
        match destination.state:
            case State.FINISHING:
                self._finished(destination, error)
            case State.RESOLVING:
                self._resolved(destination, error)
            case State.TIDYING:
                self._verdicts.tidied(destination, error)
            case _:
                self._come_closer(destination, error)

    def _come_closer(self, destination: Destination, error: Exception | None) -> None:
        """Go on after a step that precedes the data."""
        if destination.state is State.PREPARING:
            destination.backend = destination.trying.session.backend or destination.backend
        if error is not None:
            self._verdicts.fault(destination, error)
            return
        destination.move(_AFTER[destination.state])
        if destination.state is State.CLEARING:
            within = self._transfer.answer_timeout
            self._steps.take(destination, destination.trying.clear, within=within)
        elif destination.state is State.READY and destination.faults:
            self._run.observe(events.DestinationReintroduced(destination.name))

    def _finished(self, destination: Destination, error: Exception | None) -> None:
        commit = destination.trying.commit
        if error is None or commit.is_done:
            self._succeed(destination)
        elif not commit.is_sent:
            self._verdicts.fault(destination, error)
        elif self._transfer.ledger is None:
            self._verdicts.end(destination, Verdict.UNKNOWN, error)
        else:
            self._resolve(destination, error)

    def _resolve(self, destination: Destination, error: Exception) -> None:
        """Have another try ask the ledger whether the COMMIT of this one took place."""
        lost = destination.trying
        resolving = destination.attempt = self._attempts(destination.replica)
        resolving.inherit(lost)
        lost.session.close()
        destination.cause = error
        destination.move(State.RESOLVING)
        self._steps.take(destination, resolving.resolve, within=inf)

    def _resolved(self, destination: Destination, error: Exception | None) -> None:
        if error is not None:
            self._verdicts.end(destination, Verdict.UNKNOWN, error)
        elif destination.trying.commit.is_done:
            self._succeed(destination)
        else:
            lost = destination.cause or CopydError("the transaction was lost")
            self._verdicts.fault(destination, lost)

    def _succeed(self, destination: Destination) -> None:
        self._verdicts.confirm(destination)
        within = self._transfer.answer_timeout
        self._steps.take(destination, destination.trying.tidy, within=within)
