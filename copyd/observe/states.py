"""The daemon's status as gauges; pure. An unknown time has no series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from copyd.observe.series import Labels
    from copyd.status import Status

DAEMON_STATES = ("starting", "ready", "stopping")
TRANSFER_STATES = ("idle", "queued", "waiting", "running", "paused")
DESTINATION_STATES = ("unknown", "ok", "failing", "out")
VERDICTS = ("succeeded", "partial", "failed", "unknown")

Item = TypeVar("Item")


class _Gauges(Generic[Item]):
    """Makes gauges with a sample for each item; ``items`` are pairs of label values and an item."""

    def __init__(self, labels: Labels, items: Sequence[tuple[Labels, Item]]) -> None:
        self._labels = labels
        self._items = items

    def gauge(self, name: str, meaning: str, read: Callable[[Item], float | None]) -> Metric:
        family = GaugeMetricFamily(name, meaning, labels=self._labels)
        for labels, item in self._items:
            value = read(item)
            if value is not None:  # 0 would be a time in 1970
                family.add_metric(labels, value)
        return family

    def states(
        self, name: str, meaning: str, words: Labels, read: Callable[[Item], str | None]
    ) -> Metric:
        # Decision: A state is one series for each value
        word_label = name.rpartition("_")[2]  # "state" or "verdict"
        family = GaugeMetricFamily(name, meaning, labels=(*self._labels, word_label))
        for labels, item in self._items:
            state = read(item)
            for word in words:
                family.add_metric((*labels, word), word == state)
        return family


def state_families(status: Status) -> Iterator[Metric]:
    """Yield a gauge or counter for each fact of `status`."""
    daemon = _Gauges((), [((), status)])
    yield daemon.states("copyd_state", "State of the daemon.", DAEMON_STATES, lambda it: it.state)
    yield daemon.gauge("copyd_workers", "Limit of concurrent runs.", lambda it: it.workers)
    yield daemon.gauge(
        "copyd_config_last_reload_successful",
        "1 if the last reload of the configuration succeeded, 0 if the old one is still in effect.",
        lambda it: it.reload.is_successful,
    )
    yield daemon.gauge(
        "copyd_config_last_reload_success_timestamp_seconds",
        "Time of the last successful load of the configuration.",
        lambda it: it.reload.succeeded_at,
    )
    yield from _transfers(status)
    yield from _destinations(status)
    yield from _clusters(status)


def _transfers(status: Status) -> Iterator[Metric]:
    each = _Gauges(("transfer",), [((it.name,), it) for it in status.transfers])
    name, meaning = "copyd_runs_in_progress", "1 while the transfer is running, else 0."
    yield each.gauge(name, meaning, lambda it: it.state == "running")
    name, meaning = "copyd_transfer_state", "State of a transfer."
    yield each.states(name, meaning, TRANSFER_STATES, lambda it: it.state)
    name, meaning = "copyd_last_run_verdict", "Verdict of the last run; all 0 before the first run."
    yield each.states(name, meaning, VERDICTS, lambda it: it.last_verdict)
    name, meaning = "copyd_next_run_timestamp_seconds", "Time of the next scheduled run."
    yield each.gauge(name, meaning, lambda it: it.next_run)


def _destinations(status: Status) -> Iterator[Metric]:
    items = [((run.name, it.name), it) for run in status.transfers for it in run.destinations]
    each = _Gauges(("transfer", "destination"), items)
    name, meaning = "copyd_destination_state", "State of a destination."
    yield each.states(name, meaning, DESTINATION_STATES, lambda it: it.state)
    name, meaning = "copyd_destination_failures", "Failed runs since the last success."
    yield each.gauge(name, meaning, lambda it: it.failures)
    name, meaning = "copyd_last_success_timestamp_seconds", "Time of the last success."
    yield each.gauge(name, meaning, lambda it: it.last_success)
    name, meaning = "copyd_data_timestamp_seconds", "Source's clock at the snapshot of the data."
    yield each.gauge(name, meaning, lambda it: it.data_timestamp)
    name, meaning = "copyd_next_attempt_timestamp_seconds", "Runs skip the destination until then."
    yield each.gauge(name, meaning, lambda it: it.next_attempt)


def _clusters(status: Status) -> Iterator[Metric]:
    each = _Gauges(("cluster",), [((it.name,), it) for it in status.clusters])
    name, meaning = "copyd_cluster_up", "1 if the managed cluster accepts connections, else 0."
    yield each.gauge(name, meaning, lambda it: it.is_up)
    name, meaning = "copyd_cluster_pending_restart", "1 if settings wait for a restart, else 0."
    yield each.gauge(name, meaning, lambda it: bool(it.pending_restart))
    restarts = CounterMetricFamily(
        "copyd_cluster_restarts_total", "Restarts by the daemon.", labels=("cluster",)
    )
    for it in status.clusters:
        restarts.add_metric((it.name,), it.restarts)
    yield restarts
