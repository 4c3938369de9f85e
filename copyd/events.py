"""Facts about a run, in the past tense; whoever observes gets them in order, from one thread.

Standard library only. ``destination`` is the name of a destination, bytes are COPY payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run began; ``estimated_rows`` is the source's own estimate, None where it has none."""

    transfer: str
    run: str
    destinations: tuple[str, ...]
    estimated_rows: int | None


@dataclass(frozen=True, slots=True)
class PassStarted:
    """One scan of the source began, for these destinations; ``number`` counts from 1."""

    number: int
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataRelayed:
    """Every one of these destinations was given `messages` more messages, `size` more bytes."""

    destinations: frozenset[str]
    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class DestinationDropped:
    """A destination faulted and is out of the pass; ``will_return`` says if it gets another."""

    destination: str
    cause: str
    will_return: bool


@dataclass(frozen=True, slots=True)
class DestinationReconciled:
    """A destination that stalled was waited for; it has held the others back so many seconds."""

    destination: str
    held_back: float


@dataclass(frozen=True, slots=True)
class DestinationReintroduced:
    """A dropped destination is back, for a new pass under the same snapshot."""

    destination: str


@dataclass(frozen=True, slots=True)
class RowsMissed:
    """A full look found rows of `table` that a bounded overlap had left out."""

    destination: str
    table: str
    rows: int


@dataclass(frozen=True, slots=True)
class SourceDropped:
    """The source failed in a pass; ``will_return``: the run goes on under a new snapshot."""

    cause: str
    will_return: bool


@dataclass(frozen=True, slots=True)
class HorizonHeldBack:
    """A transaction that has been open for so many seconds keeps rows from being appended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DestinationEnded:
    """A destination's part of the run is over; rows and bytes are those that it committed."""

    destination: str
    verdict: str
    rows: int
    size: int
    cause: str | None


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run is over."""

    verdict: str
    seconds: float


Event = (
    RunStarted
    | PassStarted
    | DataRelayed
    | DestinationDropped
    | DestinationReconciled
    | DestinationReintroduced
    | RowsMissed
    | SourceDropped
    | HorizonHeldBack
    | DestinationEnded
    | RunEnded
)
Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Observe nothing."""
    del event
