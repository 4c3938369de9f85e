"""Alerts and dashboard, asked of a real Prometheus that has scraped a real server of ours."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from copyd.cluster.poll import wait_for
from copyd.observe.http import Server
from copyd.observe.metrics import Metrics
from copyd.status import ClusterStatus, ReloadStatus, Status
from tests.support.prometheus import PROMETHEUS, PROMTOOL, Prometheus, scraping
from tests.support.status_samples import a_run, destination, status, transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = Path(__file__).parents[3] / "deploy"
ALERTS = DEPLOY / "alerts.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/copyd.json").read_text())

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed")


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def in_trouble() -> Status:
    """What makes every gauge speak: an old destination, one without data, one that is out."""
    now = time.time()
    eu = destination("eu", "ok", last_success=now - 9000, data_timestamp=now - 9001)
    us = destination("us", "out", failures=5, next_attempt=now + 60)
    return status(
        transfer("orders", eu, us, state="running", next_run=now + 5, last_verdict="failed"),
        clusters=(ClusterStatus("analytics", "down", is_up=False, is_adopted=False, restarts=2),),
        reload=ReloadStatus(is_successful=False, succeeded_at=now),
        beat=time.monotonic(),
    )


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    metrics = Metrics(in_trouble, version="1.2.3")
    observe = metrics.watch("orders")
    for event in a_run()[:-1]:
        observe(event)
    server = Server("127.0.0.1:0", registry=metrics.registry, status=in_trouble, document=dict)
    server.start()
    try:
        host, port = server.address
        folder = tmp_path_factory.mktemp("prometheus")
        with scraping(f"{host}:{port}", rules=ALERTS, folder=folder) as running:
            yield running
    finally:
        server.close()


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint-fatal", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_takes_it(arguments: tuple[str, ...]) -> None:
    said = subprocess.run(
        [str(PROMTOOL), *arguments], check=False, cwd=DEPLOY, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout + said.stderr


@needs_prometheus
@pytest.mark.parametrize("expression", sorted(set(dashboard_expressions())))
def test_every_expression_of_the_dashboard_is_answered(
    prometheus: Prometheus, expression: str
) -> None:
    asked = expression.replace("$__rate_interval", "1m").replace("$transfer", ".*")
    assert "$" not in asked
    prometheus.query(asked)


@needs_prometheus
def test_every_name_in_the_dashboard_and_the_alerts_is_a_metric(prometheus: Prometheus) -> None:
    there = set(prometheus.ask("label/__name__/values"))
    named = {
        name
        for text in (ALERTS.read_text(), *dashboard_expressions())
        for name in re.findall(r"\b(?:copyd|process)_[a-z_]+\b", text)
    }
    assert len(named) > 25
    assert named <= there | {"copyd_run_duration_seconds_bucket"}, named - there


@needs_prometheus
def test_every_alert_is_evaluated_and_trouble_is_seen(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    assert wait_for(
        lambda: all(rule["health"] == "ok" for rule in rules()), timeout=30, delay=0.1
    ), [(rule["name"], rule["health"], rule.get("lastError")) for rule in rules()]
    wanted = {"CopydDataStale", "CopydDataAbsent", "CopydDestinationOut", "CopydRunFailing",
              "CopydClusterDown", "CopydReloadFailed"}  # fmt: skip

    def seen() -> set[str]:
        return {rule["name"] for rule in rules() if rule["state"] in {"pending", "firing"}}

    assert wait_for(lambda: wanted <= seen(), timeout=30, delay=0.1), seen()
    assert "CopydDown" not in seen()
    assert "CopydDestinationFailing" not in seen()


@needs_prometheus
def test_the_age_of_data_is_that_of_the_destination_that_has_some(prometheus: Prometheus) -> None:
    (eu,) = prometheus.query("time() - copyd_data_timestamp_seconds")
    assert eu["metric"]["destination"] == "eu"
    assert 9000 < float(eu["value"][1]) < 9100


def test_the_dashboard_takes_whatever_data_source_it_is_given() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    sources = re.findall(r'"uid": "([^"]+)"', json.dumps(DASHBOARD["panels"]))
    assert sources
    assert set(sources) == {"${datasource}"}


def test_the_panels_have_names_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
