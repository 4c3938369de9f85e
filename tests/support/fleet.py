"""A daemon with a source, a replica and two clusters of its own, many transfers, and writers.

Each transfer has a table of its own. At every destination it also adds a line to ``audit`` in the
data's own transaction, so that runs that were committed can be counted with nothing of copyd.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from copyd.cluster import Cluster, ClusterError, Installation
from copyd.cluster.poll import wait_for
from tests.support.daemon import Daemon
from tests.support.servers import private_folder, running_server
from tests.support.sql import ask, content, execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Line, Options
    from tests.support.servers import Server

OWN = ("mine", "yours")
REPLICAS = ("eu", *OWN)
PATIENCE = 120.0
"""Seconds until all is well again after the last blow."""
BAD = "bad"
"""The note of a row that every destination refuses."""
PUT_ASIDE: Options = {"on_error": "resume_next", "max_rejects": 1_000_000, "max_reject_ratio": 1.0}
WAYS: tuple[Options, ...] = (
    {},
    {"mode": "merge", "delete_missing": True},
    {"mode": "append"},
    {"mode": "merge", "delete_missing": True, **PUT_ASIDE},
    {**PUT_ASIDE},
)
QUICK: Options = {
    "stall_timeout": "1s",
    "max_wait": "3s",
    "prepare_timeout": "3s",
    "deadline": "20s",
    "answer_timeout": "10s",
    "reintroduce": {"attempts": 2, "backoff": "200ms", "max_backoff": "1s"},
    "breaker": {"failures": 3, "backoff": "1s", "max_backoff": "4s"},
}
ROWS = 1000


@dataclass(frozen=True)
class Way:
    """A transfer: its table has its name."""

    name: str
    source: str
    destinations: tuple[str, ...]
    options: Options

    @property
    def puts_aside(self) -> bool:
        return "on_error" in self.options

    @property
    def is_append(self) -> bool:
        return self.options.get("mode") == "append"

    def section(self, every: str) -> Options:
        return {
            "source": self.source,
            "destinations": list(self.destinations),
            "tables": [f"public.{self.name}"],
            "every": every,
            "jitter": "500ms",
            "after": [f"INSERT INTO public.audit VALUES ('{self.name}')"],
            **QUICK,
            **self.options,
        }


def ways(count: int) -> tuple[Way, ...]:
    """Every mode in turn; the last two of twenty read from a managed cluster."""
    made: list[Way] = []
    for number in range(count):
        source = "mine" if number in {count - 1, count - 2} else "shop"
        places = tuple(name for name in REPLICAS if name != source)
        if number % 7 == 6:
            places = places[:1]
        made.append(Way(f"t{number:02}", source, places, WAYS[number % len(WAYS)]))
    return tuple(made)


@dataclass
class Fleet:
    """All of it. ``daemon`` is not started yet; `furnish` needs its clusters to be up."""

    daemon: Daemon
    shop: Server
    eu: Server
    ways: tuple[Way, ...]
    installation: Installation
    last_ids: Counter[str] = field(default_factory=Counter)

    def cluster(self, name: str) -> Cluster:
        """A managed cluster itself, seen without the daemon."""
        return Cluster(self.installation, self.daemon.folder / name, on_parent_exit="leave")

    def conninfo(self, server: str) -> str:
        if server in OWN:
            return self.cluster(server).conninfo("postgres")
        return {"shop": self.shop, "eu": self.eu}[server].conninfo()

    def furnish(self) -> None:
        """Make the tables, wherever they are needed, and the first rows."""
        for way in self.ways:
            table = f"CREATE TABLE public.{way.name} (id int PRIMARY KEY, note text, amount int)"
            execute(self.conninfo(way.source), table, f"ANALYZE public.{way.name}")
            self.write(way, ROWS)
            for place in way.destinations:
                check = f"ALTER TABLE public.{way.name} ADD CHECK (note <> '{BAD}')"
                execute(self.conninfo(place), table, *([check] if way.puts_aside else []))
        for place in REPLICAS:
            execute(self.conninfo(place), "CREATE TABLE IF NOT EXISTS public.audit (transfer text)")

    def write(self, way: Way, rows: int) -> None:
        """Insert so many rows, change some and remove some, as the mode can follow."""
        first = self.last_ids[way.name] + 1
        self.last_ids[way.name] += rows
        last = self.last_ids[way.name]
        note = f"CASE WHEN i % 97 = 0 THEN '{BAD}' ELSE 'note ' || i END"
        values = f"SELECT i, {note if way.puts_aside else 'i::text'}, i"
        series = f"generate_series({first}, {last}) i"
        statements = [f"INSERT INTO public.{way.name} {values} FROM {series}"]
        if not way.is_append:
            statements += [
                f"UPDATE public.{way.name} SET amount = amount + 1 WHERE id % 100 = {last % 100}",
                f"DELETE FROM public.{way.name} WHERE id = {last - 7}",
            ]
        execute(self.conninfo(way.source), *statements)

    @contextmanager
    def writing(self, seed: str) -> Iterator[None]:
        """Write to the sources all the while; a source that is down is left alone."""
        over, chance = threading.Event(), random.Random(seed)

        def write() -> None:
            while not over.wait(0.1):
                with suppress(psycopg.Error, ClusterError):
                    self.write(chance.choice(self.ways), chance.randint(1, 20))

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def await_fresh(self) -> None:
        """Wait until every transfer with a schedule has begun anew and has succeeded everywhere."""
        (now,) = ask(self.shop.conninfo(), "SELECT extract(epoch FROM clock_timestamp())::float")

        def is_fresh(transfer: Line) -> bool:
            return all(
                each["state"] == "ok" and (each["data_timestamp"] or 0) > now[0]
                for each in transfer["destinations"]
            )

        behind: list[Line] = []

        def is_well() -> bool:
            transfers = self.daemon.ask("status")["transfers"]
            names = {way.name for way in self.ways}
            scheduled = [each for each in transfers if each["name"] in names]
            behind[:] = [each for each in scheduled if not is_fresh(each)]
            return not behind

        assert wait_for(is_well, timeout=PATIENCE, delay=0.2), behind

    def assert_equal(self) -> None:
        """Every replica holds what its source holds, but for the rows that it refuses."""
        for way in self.ways:
            rows = f"(SELECT * FROM public.{way.name} WHERE note <> '{BAD}')"
            expected = content(self.conninfo(way.source), [rows])
            for place in way.destinations:
                assert content(self.conninfo(place), [rows]) == expected, (way.name, place)

    def committed(self) -> Counter[tuple[str, str]]:
        """How many runs were committed by transfer and destination, as the destinations know."""
        found: Counter[tuple[str, str]] = Counter()
        for place in REPLICAS:
            query = "SELECT transfer, count(*) FROM public.audit GROUP BY 1"
            for name, count in ask(self.conninfo(place), query):
                found[name, place] = count
        return found

    def ledger(self) -> dict[tuple[str, str], tuple[str, str | None]]:
        """The last run and the one before, by transfer and destination, as the ledgers know."""
        return {
            (transfer, place): (run, before)
            for place in REPLICAS
            for transfer, run, before in ask(
                self.conninfo(place),
                "SELECT transfer, run, previous_run FROM copyd.ledger WHERE run IS NOT NULL",
            )
        }

    def pending(self) -> list[Path]:
        """The folders of rejects of which nobody knows whether they were committed."""
        return list(self.daemon.state.glob("rejects/*/*/*.pending"))


def verdicts(runs: list[Line]) -> Counter[tuple[str, str, str]]:
    """Count a history's verdicts by transfer and destination; "cut" where a run has no end."""
    found: Counter[tuple[str, str, str]] = Counter()
    for run in runs:
        if run["verdict"] is None:
            found[run["transfer"], "", "cut"] += 1
        for each in run["destinations"]:
            found[run["transfer"], each["name"], each["verdict"]] += 1
    return found


def section_of(folder: Path, name: str, installation: Installation) -> Options:
    """The section of a managed cluster."""
    settings: dict[str, Any] = {"fsync": False, "shared_buffers": "16MB", "max_connections": 60}
    return {
        "data_directory": str(folder / name),
        "pg_config": installation.paths["pg_config"],
        "init": True,
        "settings": settings,
        "hba": "local all all trust\n",
    }


@contextmanager
def open_fleet(installation: Installation, *, transfers: int, every: str) -> Iterator[Fleet]:
    """Start the servers that the daemon does not own; in the end everything is gone."""
    # What was committed must outlive a kill, so that it can be counted.
    settings = {"synchronous_commit": "on", "shared_buffers": "16MB"}
    with (
        running_server(installation, **settings) as shop,
        running_server(installation, **settings) as eu,
        private_folder() as folder,
        Daemon(folder, servers={"shop": shop.conninfo(), "eu": eu.conninfo()}) as daemon,
    ):
        fleet = Fleet(daemon, shop, eu, ways(transfers), installation)
        for name in OWN:
            daemon.clusters[name] = section_of(folder, name, installation)
            daemon.clustered[name] = name
        for way in fleet.ways:
            daemon.transfers[way.name] = way.section(every)
        try:
            yield fleet
        finally:
            daemon.__exit__(None, None, None)
            for name in OWN:
                with suppress(Exception):
                    end(fleet.cluster(name))


def end(cluster: Cluster) -> None:
    """End a server that is left."""
    if cluster.running():
        cluster.quit()
        cluster.wait_until_stopped()
