"""A destination in a run, and its outcome. Only the runner's thread changes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from copyd.events import NO_ROWS, Counts
from copyd.transfers.faults import facts, in_full, kind
from copyd.transfers.running.states import MOVES, State

if TYPE_CHECKING:
    from copyd.copyman import Link
    from copyd.transfers.backend import Backend
    from copyd.transfers.destination import Attempt
    from copyd.transfers.source import ChosenFormat
    from copyd.transfers.transfer import Replica


class Verdict(Enum):
    """How a destination, or a run, ended. ``unknown``: nobody knows whether COMMIT took place."""

    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one destination ended.

    ``counts`` and ``data_timestamp`` (the snapshot's) are those of the committed transaction.
    ``seconds``: from the start of the last pass to the verdict; ``analyze_seconds``: afterwards.
    ``cause``: why it did not succeed, without any value of a row; ``kind``: the metrics' label for it
    (transfers/faults.py); ``words``: the server's message, for the terminal only. ``notes``:
    failures without harm to the data. ``link`` and ``format`` are None if no data was sent.
    """

    destination: str
    verdict: Verdict
    counts: Counts = NO_ROWS
    seconds: float = 0.0
    passes: int = 0
    faults: int = 0
    reconciliations: int = 0
    link: Link | None = None
    format: ChosenFormat | None = None
    analyze_seconds: float = 0.0
    cause: str | None = None
    words: str | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    data_timestamp: float | None = None
    kind: str | None = None


@dataclass(eq=False)
class Destination:
    """A destination across its tries. ``backend``: its last server process."""

    replica: Replica
    attempt: Attempt | None = None
    state: State = State.RESTING
    backend: Backend | None = None
    verdict: Verdict | None = None
    cause: BaseException | None = None
    passes: int = 0
    faults: int = 0
    reconciliations: int = 0
    link: Link | None = None
    format: ChosenFormat | None = None
    counts: Counts = NO_ROWS
    began: float | None = None
    judged: float | None = None
    analyze_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    data_timestamp: float | None = None

    @property
    def name(self) -> str:
        return self.replica.server.name

    @property
    def trying(self) -> Attempt:
        """The current try; raises RuntimeError if there is none."""
        if self.attempt is None:
            raise RuntimeError(f"destination {self.name} is not being tried")
        return self.attempt

    def move(self, state: State) -> None:
        """Change the state; raises RuntimeError for a move that is not in the table."""
        if state not in MOVES[self.state]:
            raise RuntimeError(f"{self.name} cannot go from {self.state.name} to {state.name}")
        self.state = state

    def outcome(self) -> Outcome:
        """Return how it ended, or has ended so far."""
        is_committed = self.verdict is Verdict.SUCCEEDED
        cause = facts(self.cause) if self.cause is not None else None
        if self.verdict is Verdict.UNKNOWN:
            why = f" ({cause})" if cause is not None else ""
            cause = (
                f"the answer to COMMIT was lost; check whether the rows are at the destination{why}"
            )
        return Outcome(
            destination=self.name,
            verdict=self.verdict or Verdict.FAILED,
            counts=self.counts if is_committed else NO_ROWS,
            seconds=self.judged - self.began if self.began and self.judged else 0.0,
            passes=self.passes,
            faults=self.faults,
            reconciliations=self.reconciliations,
            link=self.link,
            format=self.format,
            analyze_seconds=self.analyze_seconds,
            cause=cause,
            words=in_full(self.cause) if self.cause is not None else None,
            notes=tuple(self.notes),
            data_timestamp=self.data_timestamp if is_committed else None,
            kind=kind(self.cause) if self.cause is not None else None,
        )
