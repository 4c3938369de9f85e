"""An environment of the daemon without threads, sleeps or servers: everything is moved by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from copyd.config import load
from copyd.daemon import Environment, Instant, Notifier, Pauses
from copyd.daemon.task import NOTHING, Remembered
from copyd.errors import CopydError
from copyd.transfers import Outcome, Report, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from copyd import events
    from copyd.config import Cluster, Config
    from copyd.daemon.run_thread import RunThread
    from copyd.status import ClusterStatus
    from copyd.transfers import Transfer

START = Instant(ticks=1000.0, wall=1_800_000_000.0)

FILE = """
[daemon]
workers = 2
shutdown_grace = "30s"
[servers.a]
conninfo = "host=a"
[servers.b]
conninfo = "host=b"
[servers.c]
conninfo = "host=c"
[transfers.t]
source = "a"
destinations = ["b", "c"]
tables = ["s.x"]
every = "5m"
[transfers.t.breaker]
failures = 2
"""


def read(folder: Path, text: str = FILE) -> Config:
    file = folder / "config.toml"
    file.write_text(text)
    return load(file, environ={}, is_root=True)


@dataclass(frozen=True)
class RecordedNotifier(Notifier):
    told: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, **facts: str | int) -> None:
        self.told.append(facts)

    def states(self) -> list[str]:
        """The words READY, RELOADING and STOPPING, in the order in which systemd got them."""
        return [key for facts in self.told for key in facts if key in _STATES]


_STATES = {"READY", "RELOADING", "STOPPING"}


@dataclass
class FakeClusters:
    """Clusters of which those in ``up`` are up."""

    up: set[str] = field(default_factory=set)
    applied: list[tuple[str, ...]] = field(default_factory=list)
    borrowed: list[str] = field(default_factory=list)
    stopped_within: float | None = None
    unfinished: tuple[str, ...] = ()

    def apply(self, sections: Mapping[str, Cluster]) -> None:
        assert self.stopped_within is None, "clusters are changed beside their stopping"
        self.applied.append(tuple(sections))

    def stop_all(self, within: float) -> tuple[str, ...]:
        self.stopped_within = within
        return self.unfinished

    def status(self) -> tuple[ClusterStatus, ...]:
        return ()

    def is_up(self, name: str) -> bool:
        return name in self.up

    def borrow(self, name: str) -> Callable[[], None] | None:
        if name not in self.up:
            return None
        self.borrowed.append(name)
        return lambda: self.borrowed.remove(name)


class Bench:
    """The environment, what was told to it, and the threads that were to be started."""

    def __init__(self, folder: Path, text: str = FILE, remembered: Remembered = NOTHING) -> None:
        self.folder = folder
        self.now = START
        self.config = read(folder, text)
        self.seen: list[events.Event] = []
        self.posted: list[Any] = []
        self.spawned: list[tuple[str, Callable[[], None]]] = []
        self.configured: list[Config] = []
        self.clusters = FakeClusters()
        self.notifier = RecordedNotifier("nowhere")
        self.successes: dict[str, float] = {}
        self.to_load: Config | Exception = self.config
        self.environment = Environment(
            load=self._load,
            build=self._build,
            observe=self.seen.append,
            watch=lambda _: self.seen.append,
            clusters=lambda _: self.clusters,
            notifier=self.notifier,
            pauses=Pauses(folder / "paused.json"),
            clock=lambda: self.now,
            rng=lambda: 1.0,
            spawn=lambda name, work: self.spawned.append((name, work)),
            configure=self.configured.append,
            recall=lambda _config, _server, _transfers: self.successes,
            remembered=remembered,
        )

    def pass_time(self, seconds: float) -> Instant:
        self.now = Instant(self.now.ticks + seconds, self.now.wall + seconds)
        return self.now

    def threads(self) -> list[str]:
        return [name for name, _ in self.spawned]

    def work(self, name: str) -> None:
        """Do the work of the first thread of that name."""
        position = self.threads().index(name)
        self.spawned.pop(position)[1]()

    def _load(self) -> Config:
        if isinstance(self.to_load, Exception):
            raise self.to_load
        return self.to_load

    def _build(self, config: Config, name: str, destinations: tuple[str, ...]) -> Transfer:
        del config, destinations
        raise CopydError(f"{name} is not carried out here")


def outcome(name: str, verdict: str = "succeeded", kind: str = "connection") -> Outcome:
    cause = None if verdict == "succeeded" else "it went away"
    return Outcome(name, Verdict(verdict), cause=cause, kind=None if cause is None else kind)


def report(run: RunThread, *outcomes: Outcome) -> Report:
    good = [each.verdict.value == "succeeded" for each in outcomes]
    verdict = "succeeded" if all(good) else "partial" if any(good) else "failed"
    return Report(run.transfer, "run-1", Verdict(verdict), 1.0, outcomes)
