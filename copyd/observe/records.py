"""Records of runs: frozen, made from events by one observer per run. No file is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from copyd import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.events import Counts, Event


@dataclass(frozen=True, slots=True)
class Known:
    """The last known state of a destination. ``failures``: runs in a row without its success."""

    last_success: float | None
    data_timestamp: float | None
    last_verdict: str
    failures: int


@dataclass(frozen=True, slots=True)
class DestinationRecord:
    """How a run ended at one destination."""

    name: str
    verdict: str
    counts: Counts
    cause: str | None
    data_timestamp: float | None
    ended: float


@dataclass(frozen=True, slots=True)
class Begun:
    """A run began; where nothing follows, it was killed."""

    transfer: str
    run: str
    started: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is over. ``run`` is None where it could not begin; ``cause`` says why then."""

    transfer: str
    run: str | None
    started: float
    ended: float
    verdict: str
    cause: str | None
    destinations: tuple[DestinationRecord, ...]


Record = Begun | Ended


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run as it stands in the history; `ended` and `verdict` are None while it goes on.

    So they are where the daemon was killed in the middle of it. Points in time are Unix time.
    """

    transfer: str
    run: str | None
    started: float
    ended: float | None
    verdict: str | None
    cause: str | None
    destinations: tuple[DestinationRecord, ...]


class RunRecorder:
    """An observer of one run; gives its records to `put`."""

    def __init__(
        self, transfer: str, clock: Callable[[], float], put: Callable[[Record], None]
    ) -> None:
        self._transfer = transfer
        self._clock = clock
        self._put = put
        self._run: str | None = None
        self._started = clock()
        self._destinations: list[DestinationRecord] = []

    def __call__(self, event: Event) -> None:
        match event:
            case events.RunStarted():
                self._run = event.run
                self._put(Begun(self._transfer, event.run, self._started))
            case events.DestinationEnded():
                self._destinations.append(self._destination(event))
            case events.RunEnded():
                self._end(event.verdict, None)
            case events.RunRefused():
                self._started = self._clock() - event.seconds
                self._end("failed", event.cause)

    def _destination(self, event: events.DestinationEnded) -> DestinationRecord:
        return DestinationRecord(
            name=event.destination,
            verdict=event.verdict,
            counts=event.counts,
            cause=event.cause,
            data_timestamp=event.data_timestamp,
            ended=self._clock(),
        )

    def _end(self, verdict: str, cause: str | None) -> None:
        self._put(
            Ended(
                self._transfer,
                self._run,
                self._started,
                self._clock(),
                verdict,
                cause,
                tuple(self._destinations),
            )
        )
