"""Metrics for Prometheus: counters of events, and gauges read from the status at each scrape."""

from __future__ import annotations

import platform
import threading
import time
from functools import partial
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
"""Bounds of the histogram, in seconds: from a run without changes to a load of a whole night."""

FAULT_CLASSES = ("connection", "stall", "other")
"""Classes of faults with a series from the start; the others get one at their first fault."""

OBSERVERS = ("live", "metrics", "log", "history")

_TRANSFER = ("transfer",)
_DESTINATION = ("transfer", "destination")
_FAULT = ("transfer", "destination", "class")
_RUN = ("transfer", "verdict")

_COUNTERS: tuple[tuple[str, Labels, str], ...] = (
    ("copyd_transferred_bytes_total", _DESTINATION, "COPY payload sent, committed or not."),
    ("copyd_transferred_rows_total", _DESTINATION, "Rows sent, committed or not."),
    ("copyd_committed_rows_total", _DESTINATION, "Rows written or removed, after COMMIT."),
    ("copyd_rejected_rows_total", _DESTINATION, "Rows that the destination rejected."),
    ("copyd_missed_rows_total", _DESTINATION, "Rows missed by the lookback, found by a full scan."),
    ("copyd_drops_total", _DESTINATION, "Faults that dropped the destination from a pass."),
    ("copyd_reconciliations_total", _DESTINATION, "Stalls that held up the other destinations."),
    ("copyd_reintroductions_total", _DESTINATION, "Returns to a later pass of the same run."),
    ("copyd_source_drops_total", _TRANSFER, "Failures of the source in a pass."),
    ("copyd_missed_runs_total", _TRANSFER, "Runs that were due and did not start."),
    ("copyd_faults_total", _FAULT, "Faults of destinations by class."),
    ("copyd_runs_total", _RUN, "Runs by verdict; a run that could not begin is failed."),
)


class Metrics:
    """An observer, and a registry for scrapes.

    ``status`` returns the daemon's last status, ``history_failures`` the number of lost records,
    ``observers`` the failures of each observer. The lock guards ``_snapshots`` and ``_named``.
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
        self._counters = {
            name: Counter(name, meaning, labels) for name, labels, meaning in _COUNTERS
        }
        self._durations = Histogram("copyd_run_duration_seconds", "Duration of runs.", DURATIONS)
        self._snapshots: dict[str, float] = {}
        self._named: set[str] = set()
        self._lock = threading.Lock()
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)  # not the global registry: tests have many

    def __call__(self, event: Event) -> None:
        """Count an event of the daemon."""
        match event:
            case events.RunRefused():
                self._end(event.transfer, "failed", event.seconds)
            case events.RunMissed():
                self._count("copyd_missed_runs_total", event.transfer)

    def watch(self, transfer: str) -> Observer:
        """Return the observer of a run."""
        return partial(self._observe, transfer)

    def collect(self) -> Iterator[Metric]:
        """Yield all families; the registry calls this at each scrape."""
        status = self._status()
        self._forget_removed({each.name for each in status.transfers})
        # Decision: Counters of our own behind one collector
        series = self._series(status)
        for name, labels, _ in _COUNTERS:
            yield self._counters[name].family(series[labels])
        yield self._durations.family(each.name for each in status.transfers)
        yield from state_families(status)
        yield self._snapshot_ages(status)
        yield from self._about_the_daemon(status)

    def _series(self, status: Status) -> dict[Labels, list[Labels]]:
        transfers: list[Labels] = [(each.name,) for each in status.transfers]
        destinations: list[Labels] = [
            (transfer.name, each.name)
            for transfer in status.transfers
            for each in transfer.destinations
        ]
        counted = self._counters["copyd_faults_total"].counted()
        faults = {(*each, kind) for each in destinations for kind in FAULT_CLASSES}
        faults |= {each for each in counted if each[:2] in destinations}
        return {
            _TRANSFER: transfers,
            _DESTINATION: destinations,
            _FAULT: sorted(faults),
            _RUN: [(*each, verdict) for each in transfers for verdict in VERDICTS],
        }

    def _observe(self, transfer: str, event: Event) -> None:
        match event:
            case events.SnapshotTaken():
                with self._lock:
                    self._snapshots[transfer] = event.moment
            case events.RunEnded():
                self._end(transfer, event.verdict, event.seconds)
            case events.SourceDropped():
                self._count("copyd_source_drops_total", transfer)
            case events.DataRelayed():
                for name in event.destinations:
                    self._count("copyd_transferred_bytes_total", transfer, name, by=event.size)
                    self._count("copyd_transferred_rows_total", transfer, name, by=event.messages)
            case events.RunRefused() | events.RunMissed():
                self(event)
            case _:
                self._count_destination(transfer, event)

    def _count(self, metric: str, *labels: str, by: float = 1) -> None:
        self._counters[metric].add(*labels, by=by)

    def _end(self, transfer: str, verdict: str, seconds: float) -> None:
        with self._lock:
            self._snapshots.pop(transfer, None)
        self._count("copyd_runs_total", transfer, verdict)
        self._durations.add(transfer, seconds)

    def _count_destination(self, transfer: str, event: Event) -> None:
        match event:
            case events.DestinationEnded(destination=name, counts=counts):
                self._count("copyd_committed_rows_total", transfer, name, by=counts.rows)
                self._count("copyd_rejected_rows_total", transfer, name, by=counts.rejected)
            case events.DestinationDropped():
                self._count("copyd_drops_total", transfer, event.destination)
                self._count("copyd_faults_total", transfer, event.destination, event.kind)
            case events.DestinationReconciled():
                self._count("copyd_reconciliations_total", transfer, event.destination)
            case events.DestinationReintroduced():
                self._count("copyd_reintroductions_total", transfer, event.destination)
            case events.RowsMissed():
                self._count("copyd_missed_rows_total", transfer, event.destination, by=event.rows)

    def _forget_removed(self, named: set[str]) -> None:
        # At the scrape, not at the reload's event: events of a run that still runs would bring
        # the removed series back.
        with self._lock:
            removed, self._named = self._named - named, named
            for transfer in removed:
                self._snapshots.pop(transfer, None)
        for transfer in removed:
            for counter in self._counters.values():
                counter.forget(transfer)
            self._durations.forget(transfer)

    def _snapshot_ages(self, status: Status) -> Metric:
        family = GaugeMetricFamily(
            "copyd_snapshot_age_seconds",
            "Age of the current run's snapshot; VACUUM at the source keeps rows that died later.",
            labels=_TRANSFER,
        )
        running = {each.name for each in status.transfers if each.state == "running"}
        now = self._clock()
        with self._lock:
            for transfer, moment in self._snapshots.items():
                if transfer in running:  # a run that crashed sends no RunEnded
                    family.add_metric((transfer,), max(now - moment, 0.0))
        return family

    def _about_the_daemon(self, status: Status) -> Iterator[Metric]:
        age = max(self._monotonic() - status.beat, 0.0)
        name, meaning = "copyd_loop_age_seconds", "Time since the daemon's loop last iterated."
        yield GaugeMetricFamily(name, meaning, value=age)
        name, meaning = "copyd_history_failures_total", "Records lost by the history of runs."
        yield CounterMetricFamily(name, meaning, value=self._history_failures())
        failures = CounterMetricFamily(
            "copyd_observer_failures_total",
            "Exceptions in an observer (log, metrics, history, live), which then misses events.",
            labels=("observer",),
        )
        failed = {each.name: each.failures for each in self._observers()}
        for observer in OBSERVERS:
            failures.add_metric((observer,), failed.get(observer, 0))
        yield failures
        info = GaugeMetricFamily(
            "copyd_build_info", "Versions in labels; always 1.", labels=("version", "python")
        )
        info.add_metric((self._version, platform.python_version()), 1)
        yield info
