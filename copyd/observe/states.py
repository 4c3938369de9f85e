"""The status as gauges; pure. A point in time that nobody knows has no series.

A state is one series for each word that it may be, 1 for the one that it is and 0 for the others:
an alert on one of them is `== 1`, and its series is there before anything has happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from copyd.status import ClusterStatus, DestinationStatus, Status, TransferStatus

DAEMON_STATES = ("starting", "ready", "stopping")
TRANSFER_STATES = ("idle", "queued", "waiting", "running", "paused")
DESTINATION_STATES = ("unknown", "ok", "failing", "out")
VERDICTS = ("succeeded", "partial", "failed", "unknown")
"""The verdicts of a run; before the first one none of them is 1."""

_Label = tuple[str, ...]


def state_families(status: Status) -> Iterator[Metric]:
    """Yield everything that `status` says."""
    yield from _daemon(status)
    yield from _transfers(status.transfers)
    yield from _destinations(
        [
            ((transfer.name, destination.name), destination)
            for transfer in status.transfers
            for destination in transfer.destinations
        ]
    )
    yield from _clusters(status.clusters)


def _daemon(status: Status) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "copyd_state", "What the daemon does: 1 for its state, 0 for the others.", labels=("state",)
    )
    _add_state(states, (), status.state, DAEMON_STATES)
    yield states
    yield GaugeMetricFamily("copyd_workers", "Runs that may be in flight.", value=status.workers)
    yield GaugeMetricFamily(
        "copyd_config_last_reload_successful",
        "1 if the configuration was taken when it was last read, 0 if the one before it holds.",
        value=int(status.reload.is_successful),
    )
    yield GaugeMetricFamily(
        "copyd_config_last_reload_success_timestamp_seconds",
        "When a configuration was last taken.",
        value=status.reload.succeeded_at,
    )


def _transfers(transfers: tuple[TransferStatus, ...]) -> Iterator[Metric]:
    running = _gauge("copyd_runs_in_progress", "Runs in flight.", "transfer")
    states = _gauge(
        "copyd_transfer_state",
        "What a transfer does: 1 for its state, 0 for the others.",
        "transfer",
        "state",
    )
    verdicts = _gauge(
        "copyd_last_run_verdict",
        "How the last run ended: 1 for its verdict, 0 for the others.",
        "transfer",
        "verdict",
    )
    next_run = _gauge(
        "copyd_next_run_timestamp_seconds", "When the next run is due, if one is.", "transfer"
    )
    for each in transfers:
        running.add_metric((each.name,), int(each.state == "running"))
        _add_state(states, (each.name,), each.state, TRANSFER_STATES)
        for verdict in VERDICTS:
            verdicts.add_metric((each.name, verdict), int(verdict == each.last_verdict))
        _add_known(next_run, (each.name,), each.next_run)
    yield from (running, states, verdicts, next_run)


def _destinations(all_: list[tuple[_Label, DestinationStatus]]) -> Iterator[Metric]:
    labels = ("transfer", "destination")
    states = _gauge(
        "copyd_destination_state",
        "How a destination is: 1 for its state, 0 for the others.",
        *labels,
        "state",
    )
    failures = _gauge(
        "copyd_destination_failures",
        "Runs in a row in which a destination did not succeed.",
        *labels,
    )
    success = _gauge(
        "copyd_last_success_timestamp_seconds", "When a destination last succeeded.", *labels
    )
    data = _gauge(
        "copyd_data_timestamp_seconds",
        "The source's clock at the snapshot that a destination holds.",
        *labels,
    )
    attempt = _gauge(
        "copyd_next_attempt_timestamp_seconds",
        "Until when a destination that is out is left alone.",
        *labels,
    )
    for names, each in all_:
        _add_state(states, names, each.state, DESTINATION_STATES)
        failures.add_metric(names, each.failures)
        _add_known(success, names, each.last_success)
        _add_known(data, names, each.data_timestamp)
        _add_known(attempt, names, each.next_attempt)
    yield from (states, failures, success, data, attempt)


def _clusters(clusters: tuple[ClusterStatus, ...]) -> Iterator[Metric]:
    up = _gauge("copyd_cluster_up", "Whether a managed cluster accepts connections.", "cluster")
    pending = _gauge(
        "copyd_cluster_pending_restart",
        "Whether a managed cluster has settings that only hold after a restart.",
        "cluster",
    )
    restarts = CounterMetricFamily(
        "copyd_cluster_restarts_total",
        "Times that the daemon started a managed cluster again.",
        labels=("cluster",),
    )
    for each in clusters:
        up.add_metric((each.name,), int(each.is_up))
        pending.add_metric((each.name,), int(bool(each.pending_restart)))
        restarts.add_metric((each.name,), each.restarts)
    yield from (up, pending, restarts)


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=labels)


def _add_known(family: GaugeMetricFamily, labels: _Label, moment: float | None) -> None:
    if moment is not None:
        family.add_metric(labels, moment)


def _add_state(
    family: GaugeMetricFamily, labels: _Label, state: str, words: tuple[str, ...]
) -> None:
    for word in dict.fromkeys((*words, state)):
        family.add_metric((*labels, word), int(word == state))
