"""The progress of the current runs: written by the runs' threads, read by any thread."""

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
    """Observes runs; the lock guards their states."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: dict[str, RunState] = {}
        self._lock = threading.Lock()

    def watch(self, transfer: str) -> Observer:
        """Return the observer of a run."""

        def observe(event: Event) -> None:
            with self._lock:
                match event:
                    case events.RunStarted():
                        self._runs[transfer] = RunState(event)
                    case events.RunEnded() | events.RunRefused():
                        self._runs.pop(transfer, None)
                    case _ if transfer in self._runs:
                        self._runs[transfer].take(event, self._clock())

        return observe

    def progress(self) -> dict[str, Progress]:
        """Return the progress of each current run, by transfer."""
        now = self._clock()
        with self._lock:
            return {name: run.progress(name, now) for name, run in self._runs.items()}
