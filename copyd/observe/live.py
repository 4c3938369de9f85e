"""How far the runs under way are; fed by their own threads, read by any."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from copyd import events
from copyd.observe.progress import RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.events import Event, Observer
    from copyd.observe.progress import Progress


class Live:
    """An observer of runs; ``progress`` says how far each is.

    The lock guards the runs, between their threads and whoever asks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: dict[str, RunState] = {}
        self._lock = threading.Lock()

    def watch(self, transfer: str) -> Observer:
        """Return the observer of one run."""

        def observe(event: Event) -> None:
            with self._lock:
                self._take(transfer, event)

        return observe

    def progress(self) -> dict[str, Progress]:
        """Return, by its transfer's name, how far each run under way is."""
        now = self._clock()
        with self._lock:
            return {name: run.progress(name, now) for name, run in self._runs.items()}

    def _take(self, transfer: str, event: Event) -> None:
        match event:
            case events.RunStarted():
                self._runs[transfer] = RunState(event)
            case events.RunEnded() | events.RunRefused():
                self._runs.pop(transfer, None)
            case _ if transfer in self._runs:
                self._runs[transfer].take(event, self._clock())
