"""Keepers for tests: quick, with what they say written down, and waited for."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from copyd.cluster import Cluster, Installation
from copyd.config import Cluster as Section
from copyd.daemon.keeper import Folders, Intervals, Keepers
from copyd.daemon.keeper.configuration import conninfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.events import Event
    from copyd.status import ClusterStatus

Kind = TypeVar("Kind")

QUICK = Intervals(
    look=0.05, soon=0.02, probe=0.2, backoff=0.05, max_backoff=0.2, limit=4, pause=600, again=0.3
)
CHEAP = {"fsync": False, "shared_buffers": "16MB", "max_connections": 20}
TIMEOUT = 30.0


class Told:
    """The events of keepers, in the order in which they were told."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, kind: type[Kind], number: int = 1) -> Kind:
        """Wait until so many events of a kind were told, and return the last of them."""

        def found() -> list[Kind]:
            return [event for event in self.events if isinstance(event, kind)]

        with self._changed:
            is_told = self._changed.wait_for(lambda: len(found()) >= number, TIMEOUT)
            assert is_told, f"{number} {kind.__name__} awaited, told: {self.events}"
            return found()[number - 1]

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Home:
    """The daemon's two directories, its keepers, and data directories beside them."""

    path: Path
    installation: Installation
    told: Told = field(default_factory=Told)
    intervals: Intervals = QUICK
    sections: dict[str, Section] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folders = Folders(self.path / "state", self.path / "run")
        for folder in (self.folders.state, self.folders.runtime):
            folder.mkdir(mode=0o711, exist_ok=True)
        self.keepers = Keepers(self.folders, self.told, intervals=self.intervals)

    def section(self, name: str = "a", **options: Any) -> Section:
        """The configuration of a cluster that may be made."""
        given: dict[str, Any] = {"init": True, "settings": {}, **options}
        return Section.model_validate(
            {
                "data_directory": str(self.path / name),
                "pg_config": self.installation.paths["pg_config"],
                **given,
                "settings": {**CHEAP, **given["settings"]},
            }
        )

    def cluster(self, name: str = "a") -> Cluster:
        """The cluster itself, to do things to behind the keepers' back."""
        return Cluster(self.installation, self.path / name, on_parent_exit="leave")

    def apply(self, **sections: Section) -> None:
        self.sections = sections
        self.keepers.apply(sections)

    def bring_up(self, **sections: Section) -> None:
        self.apply(**sections)
        for name in sections:
            self.wait_up(name)

    def again(self) -> Home:
        """The same directories under new keepers, as after the daemon's restart."""
        return Home(self.path, self.installation, intervals=self.intervals)

    def started_by_hand(self) -> tuple[Cluster, Home]:
        """A cluster that was made here and then started by somebody else, and later keepers."""
        self.bring_up(a=self.section())
        self.keepers.stop_all(TIMEOUT)
        foreign = self.cluster()
        foreign.start()
        foreign.wait_until_started(TIMEOUT)
        return foreign, self.again()

    def status(self, name: str = "a") -> ClusterStatus:
        return next(each for each in self.keepers.status() if each.name == name)

    def wait_for_state(self, state: str, name: str = "a") -> ClusterStatus:
        deadline = time.monotonic() + TIMEOUT
        changed = threading.Event()
        while self.status(name).state != state:
            assert time.monotonic() < deadline, self.status(name)
            changed.wait(0.01)
        return self.status(name)

    def wait_up(self, name: str = "a") -> None:
        self.wait_for_state("up", name)

    def conninfo(self, name: str = "a") -> str:
        """How the keeper of a cluster connects to it."""
        folder = self.sections[name].data_directory
        return conninfo(self.cluster(folder.name), self.folders.files_of(folder))

    def ask(self, query: str, name: str = "a") -> Any:
        with psycopg.connect(self.conninfo(name)) as connection:
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            return row[0]


@contextmanager
def open_home(path: Path, installation: Installation) -> Iterator[Home]:
    """A home whose servers are all gone at the end, whatever became of its keepers."""
    home = Home(path, installation)
    try:
        yield home
    finally:
        home.keepers.stop_all(TIMEOUT)
        for folder in path.iterdir():
            if (folder / "PG_VERSION").exists():
                cluster = home.cluster(folder.name)
                cluster.kill()
                cluster.wait_until_stopped()  # removes its socket's folder too
