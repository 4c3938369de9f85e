"""The daemon under fire for a while: replicas fall and stall, files change, and nothing is lost.

COPYD_TEST_SOAK is how many seconds it lasts; 600 is the long form. The figures are printed (-s).
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from copyd.cluster.poll import wait_for
from tests.support.fleet import REPLICAS, open_fleet, verdicts
from tests.support.resource_usage import Scrape, Vitals, Watch, watching
from tests.support.server_faults import ServerFaults
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from copyd.cluster import Installation
    from tests.support.daemon import Line
    from tests.support.fleet import Fleet

SECONDS = float(os.environ.get("COPYD_TEST_SOAK", "40"))
SEED = os.environ.get("COPYD_TEST_SEED") or f"{random.SystemRandom().getrandbits(32):08x}"
RELOAD_EVERY = 5.0
TRANSFERS = 20
MEBI = 1024 * 1024

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 400)]


@dataclass
class Reloads:
    """Every few seconds another file, which may be wrong; each must be heard of."""

    fleet: Fleet
    port: int
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    unseen: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._over.wait(RELOAD_EVERY):
            if self.chance.random() < 0.4:
                self._reload_wrong()
            else:
                self._reload_right()

    def end(self) -> None:
        """Stop, and leave a right file."""
        self._over.set()

    def _reload_right(self) -> None:
        daemon, way = self.fleet.daemon, self.chance.choice(self.fleet.ways)
        change = self.chance.choice(["workers", "every", "extra", "cluster", "server", "nothing"])
        if change == "workers":
            daemon.options["daemon"] = {"workers": self.chance.randint(3, 8)}
        elif change == "every":
            daemon.transfers[way.name]["every"] = f"{self.chance.randint(3, 6)}s"
        elif change == "extra":
            self._toggle_extra()
        elif change == "cluster":
            settings = daemon.clusters[self.chance.choice(["mine", "yours"])]["settings"]
            settings["work_mem"] = f"{self.chance.randint(1, 9)}MB"
        elif change == "server":
            daemon.options["log"] = {"level": self.chance.choice(["info", "debug"])}
        daemon.write()
        self._read_again(f"a file with another {change}", "config.reloaded", good=1)

    def _toggle_extra(self) -> None:
        """A transfer that nothing but a trigger starts comes and goes."""
        transfers = self.fleet.daemon.transfers
        if transfers.pop("extra", None) is None:
            extra = {**transfers["t00"], "tables": ["public.extra"]}
            del extra["every"], extra["jitter"]
            transfers["extra"] = extra

    def _reload_wrong(self) -> None:
        daemon = self.fleet.daemon
        daemon.write()
        good = daemon.config.read_text()
        wrong: dict[str, Callable[[str], str]] = {
            "no TOML": lambda text: text + "\n[[[",
            "an unknown key": lambda text: text + '\n[transfers.t00.nonsense]\nx = "1"\n',
            "an unknown server": lambda text: text.replace('"source" = "shop"', '"source" = "?"'),
            "a wrong duration": lambda text: text.replace('"jitter" = "500ms"', '"jitter" = "x"'),
            "nothing in it": lambda _: "daemon = 7\n",
        }
        what = self.chance.choice([*wrong, "no file"])
        if what == "no file":
            daemon.config.unlink()
        else:
            daemon.config.write_text(wrong[what](good))
        self._read_again(f"a file with {what}", "config.refused", good=0)

    def _read_again(self, what: str, event: str, *, good: int) -> None:
        daemon = self.fleet.daemon
        seen = len(daemon.events(event))
        daemon.send(signal.SIGHUP)
        self.counts[what] += 1

        def is_told() -> bool:
            shown = Scrape.of(self.port).total("copyd_config_last_reload_successful")
            return len(daemon.events(event)) > seen and shown == good

        if not wait_for(is_told, timeout=20, delay=0.1):
            self.unseen.append(what)


@pytest.fixture
def fleet(installation: Installation) -> Iterator[Fleet]:
    print(f"COPYD_TEST_SEED={SEED}")
    with open_fleet(installation, transfers=TRANSFERS, every="4s") as made:
        yield made


@contextmanager
def raging(*disturbances: ServerFaults | Reloads) -> Iterator[None]:
    failures: list[BaseException] = []

    def run(disturbance: ServerFaults | Reloads) -> None:
        try:
            disturbance.run()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=run, args=(each,)) for each in disturbances]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for each in disturbances:
            each.end()
        for thread in threads:
            thread.join()
    assert not failures, failures


def test_nothing_is_lost_and_all_is_told_while_replicas_fall_and_files_change(fleet: Fleet) -> None:
    daemon, port = fleet.daemon, free_port()
    daemon.options["http"] = {"listen": f"127.0.0.1:{port}"}
    daemon.options["daemon"] = {"workers": 4}
    daemon.start()
    assert daemon.process is not None
    for name in ("mine", "yours"):
        daemon.await_event("cluster.up", cluster=name)
    fleet.furnish()
    fleet.await_fresh()
    blows = ServerFaults(fleet, port, random.Random(f"{SEED} blows"))
    reloads = Reloads(fleet, port, random.Random(f"{SEED} reloads"))
    with watching(daemon.process.pid, port) as watch:
        with fleet.writing(SEED), raging(blows, reloads):
            threading.Event().wait(SECONDS)
        daemon.reload()
        fleet.await_fresh()
        for name in list(daemon.transfers):
            daemon.ask("pause", transfer=name)
        daemon.await_status(lambda status: status["running"] == 0)
    rest = Vitals.of(daemon.process.pid)
    print(f"\n{watch.said()}\nat rest: {rest}")
    print(f"blows: {dict(blows.counts)}\nreloads: {dict(reloads.counts)}")
    fleet.assert_equal()
    assert_counted(fleet)
    assert_told(fleet, port)
    assert blows.unseen == []
    assert reloads.unseen == []
    assert watch.silences == []
    assert_flat(watch, rest)
    assert not fleet.pending()
    assert daemon.end() == 0
    assert [fleet.cluster(name).running() for name in ("mine", "yours")] == [False, False]


def assert_counted(fleet: Fleet) -> None:
    """What the destinations have committed is what the history says, run for run."""
    runs: list[Line] = fleet.daemon.ask("history", limit=10_000)["runs"]
    told, committed = verdicts(runs), fleet.committed()
    names = {run["run"]: run for run in runs}
    for way in fleet.ways:
        for place in way.destinations:
            succeeded = told[way.name, place, "succeeded"]
            most = succeeded + told[way.name, place, "unknown"]
            assert succeeded <= committed[way.name, place] <= most, (way.name, place)
            assert fleet.ledger()[way.name, place][0] in names, (way.name, place)
    verdict_counts = Counter(run["verdict"] for run in runs)
    print(f"runs: {dict(verdict_counts)}; committed at destinations: {committed.total()}")
    assert verdict_counts[None] == 0, "a run has no end"


def assert_told(fleet: Fleet, port: int) -> None:
    """Metrics and log count the same; both are made from events, on ways of their own."""
    scrape, events = Scrape.of(port), fleet.daemon.events
    for verdict in ("succeeded", "partial", "failed", "unknown"):
        ended = [
            each for each in events("run.ended", verdict=verdict) if each["transfer"] != "extra"
        ]
        refused = len(events("run.refused")) if verdict == "failed" else 0
        assert scrape.total("copyd_runs_total", verdict=verdict) == len(ended) + refused, verdict
    for place in REPLICAS:
        dropped = len(events("destination.dropped", destination=place))
        assert scrape.total("copyd_drops_total", destination=place) == dropped
    for name in ("mine", "yours"):
        restarted = len(events("cluster.restarted", cluster=name))
        assert scrape.total("copyd_cluster_restarts_total", cluster=name) == restarted
    rejected = scrape.total("copyd_rejected_rows_total")
    print(f"drops {scrape.total('copyd_drops_total'):.0f}, rows rejected {rejected:.0f}")
    assert rejected > 0


def assert_flat(watch: Watch, rest: Vitals) -> None:
    """Memory is what it was; of threads and descriptors, which come and go, none is left over."""
    before, after = watch.quarters()
    assert after.memory < before.memory * 1.1 + 4 * MEBI
    assert rest.threads <= min(each.threads for each in watch.vitals) + 2
    assert rest.descriptors <= min(each.descriptors for each in watch.vitals) + 4
