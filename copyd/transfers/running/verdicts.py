"""How tries end: with a fault, which may bring the destination back later, or with a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd import events
from copyd.transfers.faults import facts, is_transient, kind
from copyd.transfers.running.destination import Verdict
from copyd.transfers.running.states import State

if TYPE_CHECKING:
    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.context import Run
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.steps import Steps


@dataclass(frozen=True)
class Verdicts:
    """Ends the tries of destinations, and gives destinations their verdicts."""

    run: Run
    steps: Steps
    _in_pass: list[Attempt] = field(default_factory=list)  # ended; the pass has their connections

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

        A COMMIT that is under way is cut off; if it took place, it counts.
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
        """Close the connections that the pass kept in use."""
        while self._in_pass:
            self._in_pass.pop().session.close()

    def confirm(self, destination: Destination) -> None:
        """Record a COMMIT that took place."""
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
