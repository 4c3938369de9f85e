"""How far one run is, worked out from its events; pure: what time it is comes in as an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd import events

if TYPE_CHECKING:
    from copyd.events import Event

WINDOW = 5.0
"""Seconds over which a speed is taken."""


@dataclass(frozen=True, slots=True)
class DestinationProgress:
    """A destination in its current pass: rows, bytes of payload, bytes a second.

    ``state``: "preparing", "copying", "dropped", or the verdict.
    """

    name: str
    state: str
    pass_number: int
    rows: int
    size: int
    speed: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A run under way. ``estimated_rows``: the source's own estimate, None where it has none."""

    transfer: str
    run: str
    estimated_rows: int | None
    destinations: tuple[DestinationProgress, ...]


@dataclass(slots=True)
class Delivery:
    """The rows and bytes that a destination was given in its current pass, which ``began`` then."""

    state: str = "preparing"
    pass_number: int = 0
    rows: int = 0
    size: int = 0
    began: float = 0.0
    marks: deque[tuple[float, int]] = field(default_factory=deque)
    """When it had how many bytes, at most one a second, none older than needed."""

    def advance(self, messages: int, size: int, now: float) -> None:
        self.rows += messages
        self.size += size
        if not self.marks or now - self.marks[-1][0] >= 1.0:
            self.marks.append((now, self.size))
            while len(self.marks) > 1 and self.marks[1][0] <= now - WINDOW:
                self.marks.popleft()

    def speed(self, now: float) -> float:
        """Return bytes a second over the last seconds; that of a stalled one comes down to 0."""
        if self.state != "copying":
            return 0.0
        since, had = next((mark for mark in self.marks if mark[0] >= now - WINDOW), self.marks[-1])
        return (self.size - had) / max(now - since, 0.1)

    def average(self, now: float) -> float:
        """Return bytes a second since the pass began."""
        return self.size / max(now - self.began, 1e-3)


class RunState:
    """A run from its RunStarted on, and a delivery for each of its destinations."""

    def __init__(self, started: events.RunStarted) -> None:
        self.run = started.run
        self.estimated_rows = started.estimated_rows
        self.deliveries = {name: Delivery() for name in started.destinations}

    def take(self, event: Event, now: float) -> None:
        """Go on to the state after `event`."""
        match event:
            case events.PassStarted():
                for name in event.destinations:
                    self.deliveries[name] = Delivery(
                        "copying", event.number, began=now, marks=deque([(now, 0)])
                    )
            case events.DataRelayed():
                for name in event.destinations:
                    self.deliveries[name].advance(event.messages, event.size, now)
            case events.DestinationDropped():
                self.deliveries[event.destination].state = "dropped"
            case events.DestinationReintroduced():
                self.deliveries[event.destination].state = "preparing"
            case events.DestinationEnded():
                self.deliveries[event.destination].state = event.verdict

    def progress(self, transfer: str, now: float) -> Progress:
        """Return how far the run is, as a value that does not change any more."""
        destinations = tuple(
            DestinationProgress(
                name, each.state, each.pass_number, each.rows, each.size, each.speed(now)
            )
            for name, each in self.deliveries.items()
        )
        return Progress(transfer, self.run, self.estimated_rows, destinations)
