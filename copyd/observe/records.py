"""Records of runs: frozen, made from events by an observer per run; no I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from copyd import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.events import Counts, Event


@dataclass(frozen=True, slots=True)
class DestinationRecord:
    """The result of a run at a destination."""

    name: str
    verdict: str
    counts: Counts
    cause: str | None
    data_timestamp: float | None
    ended: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run. ``ended`` and ``verdict``: None while the run goes on, or if the daemon was killed.

    ``run``: the identifier, None if the run could not begin; ``cause`` is the reason. Times are
    Unix time.
    """

    transfer: str
    run: str | None
    started: float
    ended: float | None = None
    verdict: str | None = None
    cause: str | None = None
    destinations: tuple[DestinationRecord, ...] = ()


class RunRecorder:
    """An observer of a run: calls `put` with its record at the start and again at the end."""

    def __init__(
        self, transfer: str, clock: Callable[[], float], put: Callable[[RunRecord], None]
    ) -> None:
        self._clock = clock
        self._put = put
        self._record = RunRecord(transfer, None, clock())
        self._destinations: list[DestinationRecord] = []

    def __call__(self, event: Event) -> None:
        match event:
            case events.RunStarted():
                self._record = replace(self._record, run=event.run)
                self._put(self._record)
            case events.DestinationEnded():
                self._destinations.append(
                    DestinationRecord(
                        name=event.destination,
                        verdict=event.verdict,
                        counts=event.counts,
                        cause=event.cause,
                        data_timestamp=event.data_timestamp,
                        ended=self._clock(),
                    )
                )
            case events.RunEnded():
                self._end(event.verdict, None)
            case events.RunRefused():
                self._record = replace(self._record, started=self._clock() - event.seconds)
                self._end("failed", event.cause)

    def _end(self, verdict: str, cause: str | None) -> None:
        destinations = tuple(self._destinations)
        self._put(
            replace(
                self._record,
                ended=self._clock(),
                verdict=verdict,
                cause=cause,
                destinations=destinations,
            )
        )
