"""How far the runs in flight are; fed by their own threads, read by any."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.events import Event, Observer

WINDOW = 5.0
"""Seconds over which a speed is taken."""


@dataclass(frozen=True, slots=True)
class DestinationProgress:
    """What a destination was given in its current pass: rows, bytes of payload, bytes a second.

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
    """A run in flight. ``estimated_rows``: the source's own estimate, None where it has none."""

    transfer: str
    run: str
    estimated_rows: int | None
    destinations: tuple[DestinationProgress, ...]


@dataclass(slots=True)
class _Delivery:
    state: str = "preparing"
    pass_number: int = 0
    rows: int = 0
    size: int = 0
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
        """Return bytes a second, over the window that ends now; a stalled one comes down to 0."""
        if self.state != "copying":
            return 0.0
        since, had = next((mark for mark in self.marks if mark[0] >= now - WINDOW), self.marks[-1])
        return (self.size - had) / max(now - since, 0.1)


@dataclass(slots=True)
class _Run:
    run: str
    estimated_rows: int | None
    deliveries: dict[str, _Delivery]


class Live:
    """An observer of runs; ``progress`` says how far each is.

    The lock guards the runs, between their threads and whoever asks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()

    def watch(self, transfer: str) -> Observer:
        """Return the observer of one run."""

        def observe(event: Event) -> None:
            with self._lock:
                self._take(transfer, event)

        return observe

    def progress(self) -> dict[str, Progress]:
        """Return, by its transfer's name, how far each run in flight is."""
        now = self._clock()
        with self._lock:
            return {
                transfer: Progress(
                    transfer,
                    running.run,
                    running.estimated_rows,
                    tuple(
                        DestinationProgress(
                            name,
                            each.state,
                            each.pass_number,
                            each.rows,
                            each.size,
                            each.speed(now),
                        )
                        for name, each in running.deliveries.items()
                    ),
                )
                for transfer, running in self._runs.items()
            }

    def _take(self, transfer: str, event: Event) -> None:
        match event:
            case events.RunStarted():
                deliveries = {name: _Delivery() for name in event.destinations}
                self._runs[transfer] = _Run(event.run, event.estimated_rows, deliveries)
            case events.RunEnded() | events.RunRefused():
                self._runs.pop(transfer, None)
            case _ if transfer in self._runs:
                self._advance(self._runs[transfer].deliveries, event)

    def _advance(self, deliveries: dict[str, _Delivery], event: Event) -> None:
        now = self._clock()
        match event:
            case events.PassStarted():
                for name in event.destinations:
                    began = deque([(now, 0)])
                    deliveries[name] = _Delivery("copying", event.number, marks=began)
            case events.DataRelayed():
                for name in event.destinations:
                    deliveries[name].advance(event.messages, event.size, now)
            case events.DestinationDropped():
                deliveries[event.destination].state = "dropped"
            case events.DestinationReintroduced():
                deliveries[event.destination].state = "preparing"
            case events.DestinationEnded():
                deliveries[event.destination].state = event.verdict
