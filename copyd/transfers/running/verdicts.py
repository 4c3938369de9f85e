"""How tries end: with a fault, which may bring the destination back later, or with a verdict."""

from __future__ import annotations

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


class Verdicts:
    """Takes destinations out of a try, and gives them their verdicts."""

    def __init__(self, run: Run, steps: Steps) -> None:
        self._run = run
        self._transfer = run.transfer
        self._steps = steps
        self._in_pass: list[Attempt] = []  # given up, but a pass still uses their connections

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
            self.tidied(destination, cause)
        else:
            self.end(destination, _unfinished(destination), cause)

    def abandon(self, destination: Destination) -> None:
        """End the try: the run is interrupted, or goes on under another snapshot."""
        self._cut_off(destination)
        if _unfinished(destination) is Verdict.UNKNOWN:
            self.end(destination, Verdict.UNKNOWN, None)
        elif destination.state is State.TIDYING:
            self.tidied(destination, None)
        else:
            self._rest(destination, 0.0)

    def tidied(self, destination: Destination, error: Exception | None) -> None:
        """Note the end of the work after COMMIT; a failure of it is a note."""
        attempt = destination.trying
        destination.analyze_seconds = attempt.analyze_seconds
        if error is not None:
            destination.notes.append(f"after its COMMIT: {facts(error)}")
        attempt.session.close()
        destination.move(State.ENDED)

    def pass_ended(self) -> None:
        """Close the connections that the pass has used until now."""
        while self._in_pass:
            self._in_pass.pop().session.close()

    def confirm(self, destination: Destination) -> None:
        """Its COMMIT took place: the counts hold from here on."""
        tables = destination.trying.tables
        destination.counts = sum((table.counts for table in tables), events.NO_ROWS)
        destination.notes += destination.trying.commit.notes
        for table in tables:
            if table.missed:
                missed = events.RowsMissed(destination.name, table.state.table, table.missed)
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
                self.confirm(destination)


def _unfinished(destination: Destination) -> Verdict:
    """The verdict on one that is not waited for any more."""
    is_in_doubt = destination.state is State.RESOLVING or (
        destination.state is State.FINISHING and destination.trying.commit.is_sent
    )
    return Verdict.UNKNOWN if is_in_doubt else Verdict.FAILED
