"""The progress of a run, computed from its events; pure: the time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd import events

if TYPE_CHECKING:
    from copyd.events import Event

WINDOW = 5.0  # seconds over which the speed is averaged


@dataclass(frozen=True, slots=True)
class DestinationProgress:
    """A destination in its current pass; ``size`` in bytes of payload, ``speed`` in bytes a second.

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
    """A run. ``estimated_rows``: the source's own estimate, None if unknown."""

    transfer: str
    run: str
    estimated_rows: int | None
    destinations: tuple[DestinationProgress, ...]


@dataclass(slots=True)
class Delivery:
    """The rows and bytes sent to a destination in its current pass; ``began``: the pass's start.

    ``marks``: times with the bytes sent by then; at most every second, only those within WINDOW.
    """

    state: str = "preparing"
    pass_number: int = 0
    rows: int = 0
    size: int = 0
    began: float = 0.0
    marks: deque[tuple[float, int]] = field(default_factory=deque)

    def advance(self, messages: int, size: int, now: float) -> None:
        self.rows += messages
        self.size += size
        if not self.marks or now - self.marks[-1][0] >= 1.0:
            self.marks.append((now, self.size))
            while len(self.marks) > 1 and self.marks[1][0] <= now - WINDOW:
                self.marks.popleft()

    def speed(self, now: float) -> float:
        """Return bytes a second over WINDOW; falls to 0 during a stall."""
        if self.state != "copying":
            return 0.0
        since, had = next((mark for mark in self.marks if mark[0] >= now - WINDOW), self.marks[-1])
        return (self.size - had) / max(
            now - since, 0.1
        )  # no division by zero, and no peak at the start

    def average(self, now: float) -> float:
        return self.size / max(now - self.began, 1e-3)


class RunState:
    """A run since its RunStarted, with a delivery for each destination."""

    def __init__(self, started: events.RunStarted) -> None:
        self.run = started.run
        self.estimated_rows = started.estimated_rows
        self.deliveries = {name: Delivery() for name in started.destinations}

    def take(self, event: Event, now: float) -> None:
        match event:
            case events.PassStarted():
                for name in event.destinations:
                    # A new pass repeats the scan: rows and bytes count from 0.
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
        """Return an immutable copy of the current state."""
        destinations = tuple(
            DestinationProgress(
                name, each.state, each.pass_number, each.rows, each.size, each.speed(now)
            )
            for name, each in self.deliveries.items()
        )
        return Progress(transfer, self.run, self.estimated_rows, destinations)
