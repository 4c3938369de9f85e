from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from copyd import events
from copyd.observe.metrics import FAULT_CLASSES, Metrics
from copyd.observe.states import VERDICTS
from copyd.status import ClusterStatus, ObserverStatus, ReloadStatus
from tests.support.status_samples import NOW, a_run, destination, ended, started, status, transfer

if TYPE_CHECKING:
    from copyd.events import Event
    from copyd.status import Status

EU, US = {"transfer": "orders", "destination": "eu"}, {"transfer": "orders", "destination": "us"}
ORDERS = {"transfer": "orders"}


class Daemon:
    """A status that can be changed, its clocks, and what a scrape says."""

    def __init__(self, now: Status | None = None) -> None:
        self.status = now or status(transfer("orders"))
        self.time = NOW
        self.monotonic = 0.0
        self.lost = 0
        self.metrics = Metrics(
            lambda: self.status,
            version="1.2.3",
            history_failures=lambda: self.lost,
            observers=lambda: [ObserverStatus("log", self.lost)],
            clock=lambda: self.time,
            monotonic=lambda: self.monotonic,
        )

    def value(self, name: str, labels: dict[str, str] | None = None) -> float | None:
        found: float | None = self.metrics.registry.get_sample_value(name, labels or {})
        return found

    def run(self, *told: Event) -> None:
        observe = self.metrics.watch("orders")
        for event in told:
            observe(event)


def test_counters_and_states_stand_at_zero_from_the_load() -> None:
    daemon = Daemon()
    for name in ("transferred_bytes", "transferred_rows", "committed_rows", "rejected_rows",
                 "missed_rows", "drops", "reconciliations", "reintroductions"):  # fmt: skip
        assert daemon.value(f"copyd_{name}_total", EU) == 0, name
    for verdict in VERDICTS:
        assert daemon.value("copyd_runs_total", {**ORDERS, "verdict": verdict}) == 0
    for word in FAULT_CLASSES:
        assert daemon.value("copyd_faults_total", {**EU, "class": word}) == 0
    assert daemon.value("copyd_run_duration_seconds_count", ORDERS) == 0
    assert daemon.value("copyd_runs_in_progress", ORDERS) == 0
    assert daemon.value("copyd_destination_state", {**EU, "state": "out"}) == 0
    assert daemon.value("copyd_destination_state", {**EU, "state": "unknown"}) == 1


def test_a_point_in_time_has_no_series_before_it_is_known() -> None:
    daemon = Daemon()
    names = ("copyd_last_success_timestamp_seconds", "copyd_data_timestamp_seconds",
             "copyd_next_attempt_timestamp_seconds")  # fmt: skip
    assert [daemon.value(name, EU) for name in names] == [None, None, None]
    assert daemon.value("copyd_next_run_timestamp_seconds", ORDERS) is None
    eu = destination("eu", last_success=NOW - 9, data_timestamp=NOW - 10, next_attempt=NOW + 60)
    daemon.status = status(transfer("orders", eu, next_run=NOW + 5))
    assert [daemon.value(name, EU) for name in names] == [NOW - 9, NOW - 10, NOW + 60]
    assert daemon.value("copyd_next_run_timestamp_seconds", ORDERS) == NOW + 5


def test_what_is_relayed_grows_during_the_run_and_what_is_committed_after_it() -> None:
    daemon = Daemon()
    both = frozenset({"eu", "us"})
    daemon.run(started(), events.PassStarted(1, ("eu", "us")), events.DataRelayed(both, 6, 60))
    assert daemon.value("copyd_transferred_rows_total", EU) == 6
    assert daemon.value("copyd_transferred_bytes_total", US) == 60
    assert daemon.value("copyd_committed_rows_total", EU) == 0
    daemon.run(ended("eu", rows=6, rejected=1))
    assert daemon.value("copyd_committed_rows_total", EU) == 6
    assert daemon.value("copyd_rejected_rows_total", EU) == 1
    assert daemon.value("copyd_committed_rows_total", US) == 0


def test_a_whole_run_is_counted() -> None:
    daemon = Daemon()
    daemon.run(*a_run(), events.RowsMissed("eu", "public.orders", 7))
    assert daemon.value("copyd_transferred_rows_total", US) == 16
    assert daemon.value("copyd_drops_total", US) == 1
    assert daemon.value("copyd_faults_total", {**US, "class": "connection"}) == 1
    assert daemon.value("copyd_reconciliations_total", US) == 1
    assert daemon.value("copyd_reintroductions_total", US) == 1
    assert daemon.value("copyd_missed_rows_total", EU) == 7
    assert daemon.value("copyd_runs_total", {**ORDERS, "verdict": "succeeded"}) == 1
    assert daemon.value("copyd_run_duration_seconds_sum", ORDERS) == 3
    assert daemon.value("copyd_run_duration_seconds_bucket", {**ORDERS, "le": "1.0"}) == 0
    assert daemon.value("copyd_run_duration_seconds_bucket", {**ORDERS, "le": "5.0"}) == 1
    assert daemon.value("copyd_run_duration_seconds_bucket", {**ORDERS, "le": "+Inf"}) == 1


@pytest.mark.parametrize("is_daemons", [True, False], ids=["told by the daemon", "by the run"])
def test_a_run_that_could_not_begin_counts_as_failed(is_daemons: bool) -> None:
    daemon = Daemon()
    observe = daemon.metrics if is_daemons else daemon.metrics.watch("orders")
    observe(events.RunRefused("orders", "the source does not answer", 2.0))
    observe(events.RunMissed("orders", "the one before it was under way"))
    assert daemon.value("copyd_runs_total", {**ORDERS, "verdict": "failed"}) == 1
    assert daemon.value("copyd_run_duration_seconds_count", ORDERS) == 1
    assert daemon.value("copyd_missed_runs_total", ORDERS) == 1


def test_a_fault_of_a_class_that_was_not_foreseen_is_counted() -> None:
    daemon = Daemon()
    daemon.run(events.DestinationDropped("eu", "full", will_return=False, kind="resources"))
    assert daemon.value("copyd_faults_total", {**EU, "class": "resources"}) == 1
    assert daemon.value("copyd_faults_total", {**US, "class": "resources"}) is None


def test_a_source_that_fails_in_a_pass_is_counted() -> None:
    daemon = Daemon()
    daemon.run(events.SourceDropped("lost", will_return=True))
    assert daemon.value("copyd_source_drops_total", ORDERS) == 1


def test_a_failed_run_leaves_the_age_of_the_data_as_it_was() -> None:
    before = destination(
        "eu", "failing", failures=3, last_success=NOW - 900, data_timestamp=NOW - 901
    )
    daemon = Daemon(status(transfer("orders", before)))
    daemon.run(started(), events.SnapshotTaken(NOW, NOW), ended("eu", "failed", cause="no"),
               events.RunEnded("failed", 1.0))  # fmt: skip
    assert daemon.value("copyd_data_timestamp_seconds", EU) == NOW - 901
    assert daemon.value("copyd_last_success_timestamp_seconds", EU) == NOW - 900
    assert daemon.value("copyd_destination_failures", EU) == 3


def test_how_the_last_run_ended_stays_until_another_ends() -> None:
    daemon = Daemon()
    name = "copyd_last_run_verdict"
    assert [daemon.value(name, {**ORDERS, "verdict": each}) for each in VERDICTS] == [0, 0, 0, 0]
    daemon.status = status(transfer("orders", last_verdict="failed"))
    assert [daemon.value(name, {**ORDERS, "verdict": each}) for each in VERDICTS] == [0, 0, 1, 0]


def test_a_snapshot_ages_while_its_run_is_in_flight() -> None:
    daemon = Daemon(status(transfer("orders", state="running")))
    daemon.run(started(), events.SnapshotTaken(NOW, NOW))
    daemon.time = NOW + 42
    assert daemon.value("copyd_snapshot_age_seconds", ORDERS) == 42
    assert daemon.value("copyd_runs_in_progress", ORDERS) == 1
    daemon.time = NOW - 5  # a clock that was set back
    assert daemon.value("copyd_snapshot_age_seconds", ORDERS) == 0
    daemon.run(events.RunEnded("succeeded", 1.0))
    assert daemon.value("copyd_snapshot_age_seconds", ORDERS) is None


def test_a_transfer_that_a_reload_removes_loses_its_series_and_begins_at_zero_again() -> None:
    daemon = Daemon(status(transfer("orders"), transfer("items")))
    daemon.run(*a_run())
    assert daemon.value("copyd_committed_rows_total", EU) == 10
    daemon.status = status(transfer("items"))
    assert b'"orders"' not in generate_latest(daemon.metrics.registry)
    daemon.status = status(transfer("orders"))
    assert daemon.value("copyd_committed_rows_total", EU) == 0
    assert daemon.value("copyd_run_duration_seconds_count", ORDERS) == 0


def test_a_run_in_flight_of_a_removed_transfer_brings_no_series_back() -> None:
    daemon = Daemon(status(transfer("orders"), transfer("items")))
    observe = daemon.metrics.watch("orders")
    daemon.value("copyd_workers")
    daemon.status = status(transfer("items"))
    daemon.value("copyd_workers")
    for event in a_run():
        observe(event)
    assert b'"orders"' not in generate_latest(daemon.metrics.registry)


def test_what_is_counted_before_a_transfer_is_first_named_is_not_lost() -> None:
    daemon = Daemon(status())
    daemon.run(*a_run())
    daemon.value("copyd_workers")
    daemon.status = status(transfer("orders"))
    assert daemon.value("copyd_committed_rows_total", EU) == 10


def test_a_destination_that_is_removed_loses_its_series() -> None:
    daemon = Daemon()
    daemon.run(*a_run())
    daemon.status = status(transfer("orders", destination("eu")))
    text = generate_latest(daemon.metrics.registry)
    assert b'destination="eu"' in text
    assert b'destination="us"' not in text


def test_clusters_the_reload_and_the_daemon_itself_are_told() -> None:
    analytics = ClusterStatus("analytics", "down", is_up=False, is_adopted=False, restarts=3,
                              pending_restart=("shared_buffers",))  # fmt: skip
    refused = ReloadStatus(is_successful=False, succeeded_at=NOW - 60, problems=("no",))
    daemon = Daemon(status(clusters=(analytics,), reload=refused, beat=10.0, state="starting"))
    daemon.monotonic, daemon.lost = 12.5, 4
    assert daemon.value("copyd_cluster_up", {"cluster": "analytics"}) == 0
    assert daemon.value("copyd_cluster_restarts_total", {"cluster": "analytics"}) == 3
    assert daemon.value("copyd_cluster_pending_restart", {"cluster": "analytics"}) == 1
    assert daemon.value("copyd_config_last_reload_successful") == 0
    assert daemon.value("copyd_config_last_reload_success_timestamp_seconds") == NOW - 60
    assert daemon.value("copyd_loop_age_seconds") == 2.5
    assert daemon.value("copyd_history_failures_total") == 4
    assert daemon.value("copyd_observer_failures_total", {"observer": "log"}) == 4
    assert daemon.value("copyd_observer_failures_total", {"observer": "history"}) == 0
    assert daemon.value("copyd_state", {"state": "starting"}) == 1
    assert daemon.value("copyd_state", {"state": "ready"}) == 0
    assert b'version="1.2.3"' in generate_latest(daemon.metrics.registry)


def full() -> Daemon:
    """A daemon that says everything it can."""
    eu = destination("eu", "ok", last_success=NOW, data_timestamp=NOW, next_attempt=NOW)
    analytics = ClusterStatus("analytics", "up", is_up=True, is_adopted=False)
    daemon = Daemon(
        status(
            transfer("orders", eu, destination("us"), state="running", next_run=NOW),
            clusters=(analytics,),
        )
    )
    daemon.run(*a_run()[:-1])
    return daemon


def test_no_series_has_a_label_that_is_prometheus_own() -> None:
    for family in full().metrics.registry.collect():
        for sample in family.samples:
            assert not {"job", "instance"} & set(sample.labels), sample
            assert not sample.name.endswith("_created"), sample
            assert family.documentation


def test_it_is_valid_openmetrics() -> None:
    text = generate_open(full().metrics.registry).decode()  # type: ignore[no-untyped-call]
    parsed = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    families = {each.name for each in parsed}
    assert "copyd_transferred_bytes" in families


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say() -> None:
    said = subprocess.run(
        [str(PROMTOOL), "check", "metrics"],
        check=False,
        input=generate_latest(full().metrics.registry),
        capture_output=True,
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
