"""Faults of the replicas of a fleet, one after another; each lasts until the metrics show it."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from copyd.cluster import ClusterError
from copyd.cluster.poll import wait_for
from tests.support.fleet import OWN, REPLICAS
from tests.support.resource_usage import Scrape
from tests.support.sql import ask
from tests.support.standby import start_again

if TYPE_CHECKING:
    import random

    from copyd.cluster import Cluster
    from tests.support.fleet import Fleet

SEEN_WITHIN = 30.0
"""Seconds in which a fault must show."""
BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
    " AND application_name LIKE 'copyd%' AND pid <> pg_backend_pid()"
)


@dataclass
class ServerFaults:
    """Breaks replicas of `fleet`, whose daemon answers at `port`, at random."""

    fleet: Fleet
    port: int
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    unseen: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Break one after another until `end`."""
        while not self._over.wait(self.chance.uniform(0.5, 2.0)):
            place = self.chance.choice(REPLICAS)
            strike = self.chance.choice(
                [self._crash, self._quit, self._stall, self._kill_backend, self._end_backends]
            )
            strike(place)

    def end(self) -> None:
        self._over.set()

    def _cluster(self, place: str) -> Cluster:
        return self.fleet.eu.cluster if place == "eu" else self.fleet.cluster(place)

    def _crash(self, place: str) -> None:
        self._fell("killed", place, signal.SIGKILL)

    def _quit(self, place: str) -> None:
        self._fell("shut down at once", place, signal.SIGQUIT)

    def _fell(self, how: str, place: str, number: signal.Signals) -> None:
        """End a server; the daemon's own it starts itself, the other one we do."""
        before, cluster = Scrape.of(self.port), self._cluster(place)
        pid = cluster.pid()
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        self._await_seen(f"{place} {how}", place, before)
        if place == "eu":
            wait_for(lambda: not cluster.running(), timeout=SEEN_WITHIN)
            start_again(self.fleet.eu)
        else:
            self._await_up(place)

    def _await_up(self, place: str) -> None:
        def is_up() -> bool:
            return Scrape.of(self.port).total("copyd_cluster_up", cluster=place) == 1

        if not wait_for(is_up, timeout=SEEN_WITHIN, delay=0.2):
            self.unseen.append(f"{place} did not come back")

    def _stall(self, place: str) -> None:
        """Stop every process of a server; it is let go once the metrics show that."""
        before, pid = Scrape.of(self.port), self._cluster(place).pid()
        if pid is None:
            return
        stopped = [pid, *_children(pid)]
        _signal(stopped, signal.SIGSTOP)
        try:
            self._await_seen(f"{place} stalled", place, before)
        finally:
            _signal(stopped, signal.SIGCONT)

    def _kill_backend(self, place: str) -> None:
        """Kill a session of a run: the whole server goes through a crash restart."""
        before = Scrape.of(self.port)
        with suppress(psycopg.Error, ClusterError):
            pids = ask(self.fleet.conninfo(place), BACKENDS)
            if pids:
                _signal([pids[0][0]], signal.SIGKILL)
                self._await_seen(f"{place} lost a backend", place, before, must=False)

    def _end_backends(self, place: str) -> None:
        before = Scrape.of(self.port)
        query = f"SELECT pg_terminate_backend(pid) FROM ({BACKENDS}) AS s"
        with suppress(psycopg.Error, ClusterError):
            if ask(self.fleet.conninfo(place), query):
                self._await_seen(f"{place} ended sessions", place, before, must=False)

    def _await_seen(self, what: str, place: str, before: Scrape, *, must: bool = True) -> None:
        """Wait until the metrics show it. A session may have been at its end when it was struck."""

        def is_seen() -> bool:
            return is_hurt(Scrape.of(self.port), place, before)

        self.counts[what] += 1
        if not wait_for(is_seen, timeout=SEEN_WITHIN if must else 3.0, delay=0.2):
            self.counts[f"{what}, unseen"] += 1
            if must:
                self.unseen.append(what)


def is_hurt(now: Scrape, place: str, before: Scrape) -> bool:
    """Whether the metrics show more trouble with a replica than before."""
    for name in ("copyd_drops_total", "copyd_reconciliations_total", "copyd_destination_failures"):
        if now.total(name, destination=place) > before.total(name, destination=place):
            return True
    if place not in OWN:
        return False
    restarts = "copyd_cluster_restarts_total"
    is_up = now.total("copyd_cluster_up", cluster=place) == 1
    return not is_up or now.total(restarts, cluster=place) > before.total(restarts, cluster=place)


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
