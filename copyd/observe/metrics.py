"""What Prometheus scrapes: counters fed by events, and the daemon's state as it is just then.

Counters belong to what the status names: a series stands at zero from the load of the
configuration, and is gone when a reload has removed its transfer. States and points in time are
never kept here, they are read from the status at each scrape; a point in time that nobody knows
has no series, so that a failure never reads as fresh data.
"""

from __future__ import annotations

import platform
import threading
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from copyd import events
from copyd.observe.series import Counter, Histogram
from copyd.observe.states import VERDICTS, state_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

    from copyd.events import Event, Observer
    from copyd.observe.series import Labels
    from copyd.status import ObserverStatus, Status

DURATIONS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Bounds of the histogram of runs, in seconds: from a look that finds nothing to a night's load."""

FAULT_CLASSES = ("connection", "stall", "other")
"""Classes of faults with a series from the beginning; the others begin when one is met."""

OBSERVERS = ("live", "metrics", "log", "history")
"""The names of the daemon's observers."""

_TRANSFER = ("transfer",)
_DESTINATION = ("transfer", "destination")


class _Counters:
    """All that is counted."""

    def __init__(self) -> None:
        self.payload = Counter(
            "copyd_transferred_bytes_total",
            "COPY payload given to a destination, growing during a run, committed or not.",
            _DESTINATION,
        )
        self.rows = Counter(
            "copyd_transferred_rows_total",
            "Rows given to a destination, growing during a run, committed or not.",
            _DESTINATION,
        )
        self.committed = Counter(
            "copyd_committed_rows_total",
            "Rows that a destination has written or removed, counted after COMMIT.",
            _DESTINATION,
        )
        self.rejected = Counter(
            "copyd_rejected_rows_total", "Rows that a destination refused.", _DESTINATION
        )
        self.missed_rows = Counter(
            "copyd_missed_rows_total",
            "Rows that a bounded lookback had missed and a full scan has found.",
            _DESTINATION,
        )
        self.drops = Counter(
            "copyd_drops_total", "Times that a destination was taken out of a pass.", _DESTINATION
        )
        self.reconciliations = Counter(
            "copyd_reconciliations_total",
            "Times that a destination stalled and was waited for.",
            _DESTINATION,
        )
        self.reintroductions = Counter(
            "copyd_reintroductions_total",
            "Times that a dropped destination came back in a later pass of its run.",
            _DESTINATION,
        )
        self.source_drops = Counter(
            "copyd_source_drops_total", "Times that the source failed in a pass.", _TRANSFER
        )
        self.missed = Counter(
            "copyd_missed_runs_total", "Runs that were due and did not take place.", _TRANSFER
        )
        self.faults = Counter(
            "copyd_faults_total",
            "Faults of destinations, by their class.",
            (*_DESTINATION, "class"),
        )
        self.runs = Counter("copyd_runs_total", "Runs by verdict.", (*_TRANSFER, "verdict"))
        self.durations = Histogram(
            "copyd_run_duration_seconds", "How long runs took, whatever their verdict.", DURATIONS
        )

    def forget(self, transfer: str) -> None:
        for each in vars(self).values():
            each.forget(transfer)

    def families(self, status: Status) -> Iterator[Metric]:
        """Everything for the transfers and destinations that `status` names."""
        transfers: list[Labels] = [(each.name,) for each in status.transfers]
        destinations: list[Labels] = [
            (transfer.name, destination.name)
            for transfer in status.transfers
            for destination in transfer.destinations
        ]
        for each in (self.payload, self.rows, self.committed, self.rejected, self.missed_rows):
            yield each.family(destinations)
        for each in (self.drops, self.reconciliations, self.reintroductions):
            yield each.family(destinations)
        for each in (self.source_drops, self.missed):
            yield each.family(transfers)
        yield self.faults.family(self._faults_of(destinations))
        yield self.runs.family((*each, verdict) for each in transfers for verdict in VERDICTS)
        yield self.durations.family(each.name for each in status.transfers)

    def _faults_of(self, destinations: list[Labels]) -> list[Labels]:
        """Every destination's usual classes, and those that were met at it."""
        known = set(destinations)
        met = {each for each in self.faults.counted() if each[:2] in known}
        usual = {(*each, word) for each in known for word in FAULT_CLASSES}
        return sorted(met | usual)


class Metrics:
    """An observer, and a registry that is read at each scrape.

    ``status`` gives what the daemon last published; ``history_failures`` how many runs could not
    be recorded, ``observers`` how often each raised. The lock guards the snapshots in use and the transfers that were named last.
    """

    def __init__(
        self,
        status: Callable[[], Status],
        *,
        version: str,
        history_failures: Callable[[], int] = lambda: 0,
        observers: Callable[[], Iterable[ObserverStatus]] = lambda: (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status = status
        self._version = version
        self._history_failures = history_failures
        self._observers = observers
        self._clock = clock
        self._monotonic = monotonic
        self._counters = _Counters()
        self._snapshots: dict[str, float] = {}
        self._named: set[str] = set()
        self._lock = threading.Lock()
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def __call__(self, event: Event) -> None:
        """Count what the daemon says of itself."""
        match event:
            case events.RunRefused():
                self._end(event.transfer, "failed", event.seconds)
            case events.RunMissed():
                self._counters.missed.add(event.transfer)
            case _:
                pass  # what is a state stands in the status

    def watch(self, transfer: str) -> Observer:
        """Return the observer of one run."""

        def observe(event: Event) -> None:
            match event:
                case events.SnapshotTaken():
                    with self._lock:
                        self._snapshots[transfer] = event.moment
                case events.RunEnded():
                    self._end(transfer, event.verdict, event.seconds)
                case events.SourceDropped():
                    self._counters.source_drops.add(transfer)
                case events.DataRelayed():
                    for name in event.destinations:
                        self._counters.payload.add(transfer, name, by=event.size)
                        self._counters.rows.add(transfer, name, by=event.messages)
                case events.RunRefused() | events.RunMissed():
                    self(event)
                case _:
                    self._count_destination(transfer, event)

        return observe

    def collect(self) -> Iterator[Metric]:
        """Yield everything, as it is now; called by the registry."""
        status = self._status()
        self._forget_the_removed({each.name for each in status.transfers})
        yield from self._counters.families(status)
        yield from state_families(status)
        yield self._snapshot_ages(status)
        yield from self._about_the_daemon(status)

    def _end(self, transfer: str, verdict: str, seconds: float) -> None:
        with self._lock:
            self._snapshots.pop(transfer, None)
        self._counters.runs.add(transfer, verdict)
        self._counters.durations.add(transfer, seconds)

    def _count_destination(self, transfer: str, event: Event) -> None:
        match event:
            case events.DestinationEnded():
                self._counters.committed.add(transfer, event.destination, by=event.counts.rows)
                self._counters.rejected.add(transfer, event.destination, by=event.counts.rejected)
            case events.DestinationDropped():
                self._counters.drops.add(transfer, event.destination)
                self._counters.faults.add(transfer, event.destination, event.kind)
            case events.DestinationReconciled():
                self._counters.reconciliations.add(transfer, event.destination)
            case events.DestinationReintroduced():
                self._counters.reintroductions.add(transfer, event.destination)
            case events.RowsMissed():
                self._counters.missed_rows.add(transfer, event.destination, by=event.rows)

    def _forget_the_removed(self, named: set[str]) -> None:
        with self._lock:
            removed, self._named = self._named - named, named
            for transfer in removed:
                self._snapshots.pop(transfer, None)
        for transfer in removed:
            self._counters.forget(transfer)

    def _snapshot_ages(self, status: Status) -> Metric:
        family = GaugeMetricFamily(
            "copyd_snapshot_age_seconds",
            "How long ago the snapshot of the run in flight was taken; the source keeps dead rows since then.",
            labels=_TRANSFER,
        )
        running = {each.name for each in status.transfers if each.state == "running"}
        now = self._clock()
        with self._lock:
            for transfer, moment in self._snapshots.items():
                if transfer in running:
                    family.add_metric((transfer,), max(now - moment, 0.0))
        return family

    def _about_the_daemon(self, status: Status) -> Iterator[Metric]:
        age = max(self._monotonic() - status.beat, 0.0)
        yield GaugeMetricFamily(
            "copyd_loop_age_seconds", "How long ago the daemon's loop last went round.", value=age
        )
        failures = Counter(
            "copyd_history_failures_total", "Records of runs that the history could not keep.", ()
        )
        failures.add(by=self._history_failures())
        yield failures.family([()])
        dropped = CounterMetricFamily(
            "copyd_observer_failures_total",
            "Times that an observer (log, metrics, history, live) raised and missed events.",
            labels=("observer",),
        )
        failed = {each.name: each.failures for each in self._observers()}
        for name in OBSERVERS:
            dropped.add_metric((name,), failed.get(name, 0))
        yield dropped
        info = GaugeMetricFamily(
            "copyd_build_info", "What runs here; always 1.", labels=("version", "python")
        )
        info.add_metric((self._version, platform.python_version()), 1)
        yield info
