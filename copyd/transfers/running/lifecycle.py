"""What follows for a destination from the end of a step, from a fault, and from the end of the run.

The state says what the destination waits for (running/states.py); here each answer is turned into
the next step, another try, or a verdict.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import psycopg

from copyd import events
from copyd.errors import CopydError
from copyd.transfers.faults import facts, is_transient, kind
from copyd.transfers.running.destination import Verdict
from copyd.transfers.running.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.context import Run
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Completed, StepEnded
    from copyd.transfers.running.steps import Steps
    from copyd.transfers.source import Source
    from copyd.transfers.transfer import Replica


class Lifecycle:
    """Moves destinations from state to state; `attempts` makes a new try of a replica."""

    def __init__(self, run: Run, steps: Steps, attempts: Callable[[Replica], Attempt]) -> None:
        self._run = run
        self._transfer = run.transfer
        self._steps = steps
        self._attempts = attempts
        self._in_pass: list[Attempt] = []  # given up, but a pass still uses their connections

    # -- steps ------------------------------------------------------------------------------------

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
        attempt.marks = dict(findings.marks)
        for table in attempt.tables:
            table.bound = findings.bounds.get(destination, {}).get(table.reading.name)
        destination.move(State.FINISHING)
        self._steps.take(destination, attempt.finish, within=self._transfer.answer_timeout)

    def step_ended(self, ended: StepEnded) -> None:
        """Go on after a step, unless it is of a try that was given up."""
        destination = ended.destination
        if ended.attempt is destination.attempt and destination.state in self._next:
            self._go_on(destination, ended.error)

    def overdue(self, destination: Destination) -> None:
        """Cut a step off that takes too long; go on as if it had failed."""
        destination.trying.session.cut()
        self._go_on(destination, self._steps.late(destination))

    @property
    def _next(self) -> dict[State, Callable[[Destination, Exception | None], None]]:
        return {
            State.PREPARING: self._prepared,
            State.CLEARING: self._cleared,
            State.EMPTYING: self._emptied,
            State.FINISHING: self._finished,
            State.RESOLVING: self._resolved,
            State.TIDYING: self._tidied,
        }

    def _go_on(self, destination: Destination, error: Exception | None) -> None:
        """Go on after a step, by the state; a defect of ours ends the run."""
        if error is not None and not isinstance(error, (psycopg.Error, CopydError, OSError)):
            raise error
        self._next[destination.state](destination, error)

    def _prepared(self, destination: Destination, error: Exception | None) -> None:
        destination.backend = destination.trying.session.backend or destination.backend
        if error is not None:
            self.fault(destination, error)
            return
        destination.move(State.CLEARING)
        within = self._transfer.answer_timeout
        self._steps.take(destination, destination.trying.clear, within=within)

    def _cleared(self, destination: Destination, error: Exception | None) -> None:
        if error is not None:
            self.fault(destination, error)
            return
        destination.move(State.READY)
        if destination.faults:
            self._run.observe(events.DestinationReintroduced(destination.name))

    def _emptied(self, destination: Destination, error: Exception | None) -> None:
        if error is not None:
            self.fault(destination, error)
            return
        destination.move(State.FED)

    def _finished(self, destination: Destination, error: Exception | None) -> None:
        commit = destination.trying.commit
        if error is None or commit.is_done:
            self._succeed(destination)
        elif not commit.is_sent:
            self.fault(destination, error)
        elif self._transfer.ledger is None:
            self.end(destination, Verdict.UNKNOWN, error)
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
            self.end(destination, Verdict.UNKNOWN, error)
        elif destination.trying.commit.is_done:
            self._succeed(destination)
        else:
            lost = destination.cause or CopydError("the transaction was lost")
            self.fault(destination, lost)

    def _tidied(self, destination: Destination, error: Exception | None) -> None:
        attempt = destination.trying
        destination.analyze_seconds = attempt.analyze_seconds
        if error is not None:
            destination.notes.append(f"after its COMMIT: {facts(error)}")
        attempt.session.close()
        destination.move(State.ENDED)

    # -- faults and verdicts ----------------------------------------------------------------------

    def fault(self, destination: Destination, cause: BaseException) -> None:
        """Take a destination out, for good or until its next try."""
        if self._run.stop.cause is not None:
            self.end(destination, Verdict.FAILED, self._run.stop.cause)
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
            self.end(destination, Verdict.FAILED, cause)
            return
        destination.cause = cause
        wait = self._transfer.reintroduce.wait(destination.faults, self._run.rng())
        self._rest(destination, wait)

    def end(self, destination: Destination, verdict: Verdict, cause: BaseException | None) -> None:
        """Give a destination its verdict."""
        self._close(destination)
        self._judge(destination, verdict, cause)
        destination.move(State.ENDED)

    def end_now(self, destination: Destination, cause: Exception) -> None:
        """Give a destination its verdict because the run is over."""
        self._cut_off(destination)
        if destination.state is State.TIDYING:
            self._tidied(destination, cause)
        else:
            self.end(destination, _unfinished(destination), cause)

    def abandon(self, destination: Destination) -> None:
        """End the try: the run is interrupted, or goes on under another snapshot."""
        self._cut_off(destination)
        if _unfinished(destination) is Verdict.UNKNOWN:
            self.end(destination, Verdict.UNKNOWN, None)
        elif destination.state is State.TIDYING:
            self._tidied(destination, None)
        else:
            self._rest(destination, 0.0)

    def pass_ended(self) -> None:
        """Close the connections that the pass has used until now."""
        while self._in_pass:
            self._in_pass.pop().session.close()

    def _succeed(self, destination: Destination) -> None:
        self._confirm(destination)
        within = self._transfer.answer_timeout
        self._steps.take(destination, destination.trying.tidy, within=within)

    def _confirm(self, destination: Destination) -> None:
        """Its COMMIT took place: the counts hold from here on."""
        tables = destination.trying.tables
        destination.counts = sum((table.counts for table in tables), events.NO_ROWS)
        destination.notes += destination.trying.commit.notes
        for table in tables:
            if table.missed:
                missed = events.RowsMissed(destination.name, table.there.table, table.missed)
                self._run.observe(missed)
        self._judge(destination, Verdict.SUCCEEDED, None)
        destination.move(State.TIDYING)

    def _rest(self, destination: Destination, seconds: float) -> None:
        self._close(destination)
        destination.move(State.RESTING)
        self._steps.wait(destination, seconds)

    def _close(self, destination: Destination) -> None:
        """Close its connection, as soon as no pass uses it."""
        if destination.attempt is not None:
            if destination.state is State.FED:
                self._in_pass.append(destination.attempt)
            else:
                destination.attempt.session.close()

    def _judge(
        self, destination: Destination, verdict: Verdict, cause: BaseException | None
    ) -> None:
        destination.judge(verdict, cause, moment=self._run.clock())
        ended = destination.outcome()
        self._run.observe(
            events.DestinationEnded(
                ended.destination, verdict.value, ended.counts, ended.cause, ended.data_timestamp
            )
        )

    def _cut_off(self, destination: Destination) -> None:
        """Cut a COMMIT off; it counts if it took place, though the news is late."""
        if destination.state is State.FINISHING:
            destination.trying.session.cut_and_wait()
            if destination.trying.commit.is_done:
                self._confirm(destination)


def _unfinished(destination: Destination) -> Verdict:
    """The verdict on one that is not waited for any more."""
    is_in_doubt = destination.state is State.RESOLVING or (
        destination.state is State.FINISHING and destination.trying.commit.is_sent
    )
    return Verdict.UNKNOWN if is_in_doubt else Verdict.FAILED
