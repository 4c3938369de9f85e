"""A real Prometheus that scrapes one address, and what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copyd.cluster.poll import wait_for
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")

_CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: copyd
    static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass(frozen=True)
class Prometheus:
    address: str

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer; an error of Prometheus is ours."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://{self.address}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        assert not told.get("warnings"), told
        return told["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def is_ready(self) -> bool:
        try:
            return bool(self.query('up{job="copyd"} == 1'))
        except OSError:
            return False


@contextmanager
def scraping(target: str, *, rules: Path, folder: Path) -> Iterator[Prometheus]:
    """Give a Prometheus that has scraped `target` once."""
    address = f"127.0.0.1:{free_port()}"
    config = folder / "prometheus.yml"
    config.write_text(_CONFIG.format(rules=rules, target=target))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [str(PROMETHEUS), f"--config.file={config}", f"--web.listen-address={address}",
             f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        prometheus = Prometheus(address)
        is_ready = wait_for(prometheus.is_ready, timeout=60, delay=0.1)
        assert is_ready, (folder / "prometheus.log").read_text()
        yield prometheus
    finally:
        process.kill()
        process.wait()
