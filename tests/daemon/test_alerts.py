"""The shipped alerts fire for real: the program runs, Prometheus scrapes it, a replica dies."""

from __future__ import annotations

import re
import signal
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from copyd.cluster.poll import wait_for
from tests.support import program
from tests.support.prometheus import PROMETHEUS, Prometheus, scraping
from tests.support.servers import Server, free_port, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.cluster import Installation

ALERTS = Path(__file__).parents[2] / "deploy/alerts.yml"
TABLE = "CREATE TABLE public.orders (id int PRIMARY KEY)"

_CONFIG = """
[daemon]
state_directory = "{folder}/state"
runtime_directory = "{folder}/run"
[http]
listen = "127.0.0.1:{port}"
[servers.shop]
conninfo = "{shop}"
[servers.eu]
conninfo = "{eu}"
[servers.us]
conninfo = "{us}"
[transfers.orders]
source = "shop"
destinations = ["eu", "us"]
tables = ["public.orders"]
mode = "merge"
every = "1s"
reintroduce = {{ attempts = 0 }}
breaker = {{ failures = 3, backoff = "1s", max_backoff = "2s" }}
"""

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed")


@contextmanager
def running(config: Path, port: int) -> Iterator[None]:
    """The daemon, until it is told to end."""
    process = program.start("run", "--config", str(config))

    def is_ready() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return True
        except OSError:
            return False

    try:
        assert wait_for(is_ready, timeout=30, delay=0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def impatient(folder: Path) -> Path:
    """The alerts as they are shipped, but after seconds instead of minutes and hours."""
    text = ALERTS.read_text()
    quick = re.sub(r"for: \d+[mh]", "for: 1s", text).replace("> 3600", "> 6")
    assert quick != text
    path = folder / "alerts.yml"
    path.write_text(quick)
    return path


def firing(prometheus: Prometheus, destination: str) -> set[str]:
    found = prometheus.query(f'ALERTS{{alertstate="firing", destination="{destination}"}}')
    return {each["metric"]["alertname"] for each in found}


def test_a_replica_that_stays_away_is_told_of_until_it_is_back(
    server: Server, installation: Installation, database: str, tmp_path: Path
) -> None:
    with server.database() as eu, running_server(installation) as us:
        for there, name in ((server, database), (server, eu), (us, "postgres")):
            with there.connect(name) as connection:
                connection.execute(TABLE)
        port = free_port()
        config = tmp_path / "config.toml"
        config.write_text(
            _CONFIG.format(
                folder=tmp_path,
                port=port,
                shop=server.conninfo(database),
                eu=server.conninfo(eu),
                us=us.conninfo(),
            )
        )
        rules = impatient(tmp_path)
        with (
            running(config, port),
            scraping(f"127.0.0.1:{port}", rules=rules, folder=tmp_path) as prometheus,
        ):

            def is_fed(count: int) -> bool:
                return len(prometheus.query("time() - copyd_data_timestamp_seconds < 4")) == count

            assert wait_for(lambda: is_fed(2), timeout=30, delay=0.2)
            us.cluster.kill()
            us.cluster.wait_until_stopped()
            told = {"CopydDataStale", "CopydDestinationOut"}
            assert wait_for(lambda: told <= firing(prometheus, "us"), timeout=45, delay=0.2), (
                firing(prometheus, "us")
            )
            assert not firing(prometheus, "eu")
            assert is_fed(1)
            us.cluster.start()
            us.cluster.wait_until_started()
            assert wait_for(lambda: not firing(prometheus, "us"), timeout=45, delay=0.2), firing(
                prometheus, "us"
            )
            assert is_fed(2)
