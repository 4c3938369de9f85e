"""docs/metrics.md says what a scrape says, and the alerts that there are."""

from __future__ import annotations

import re
from pathlib import Path

from copyd.observe.metrics import Metrics
from copyd.status import ClusterStatus
from tests.support.status_samples import NOW, a_run, destination, status, transfer

ROOT = Path(__file__).parents[3]
_, _, TABLE = (ROOT / "docs/metrics.md").read_text().partition("<!-- metrics -->\n")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.partition("\n\n")[0].splitlines()[2:]
]
ALERTS = (ROOT / "deploy/alerts.yml").read_text()


def scraped() -> dict[str, tuple[str, set[str]]]:
    """The type and labels of all that is ours, when everything is known."""
    eu = destination("eu", "out", last_success=NOW, data_timestamp=NOW, next_attempt=NOW)
    now = status(
        transfer("orders", eu, destination("us"), state="running", next_run=NOW),
        clusters=(ClusterStatus("analytics", "up", is_up=True, is_adopted=False),),
    )
    metrics = Metrics(lambda: now, version="1.2.3")
    observe = metrics.watch("orders")
    for event in a_run()[:-1]:
        observe(event)
    found = {}
    for family in metrics.registry.collect():
        if family.name.startswith("copyd_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels}
            assert family.samples, name
            found[name] = (family.type, labels - {"le"})
    return found


def test_the_table_says_what_a_scrape_says() -> None:
    told = {
        row[0].strip("`"): (row[1], {label for label in row[2].split(", ") if label})
        for row in ROWS
    }
    assert len(told) == len(ROWS)
    assert told == scraped()


def test_the_table_names_the_alerts_that_use_a_metric() -> None:
    used: dict[str, set[str]] = {}
    for block in ALERTS.split("- alert: ")[1:]:
        alert = block.partition("\n")[0]
        for name in re.findall(r"\bcopyd_[a-z_]+\b", block.partition("annotations:")[0]):
            used.setdefault(name, set()).add(alert)
    told = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[4])) for row in ROWS}
    assert {name: alerts for name, alerts in told.items() if alerts} == used
