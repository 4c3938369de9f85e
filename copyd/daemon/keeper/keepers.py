"""All managed clusters: a keeper for each, none of which waits for another."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from copyd.cluster import ClusterError
from copyd.daemon.keeper.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from copyd.config import Cluster as Section
    from copyd.daemon.keeper.decision import Intervals
    from copyd.daemon.keeper.records import Folders
    from copyd.events import Event
    from copyd.status import ClusterStatus


class Keepers:
    """The keepers of the clusters that were last given to `apply`.

    ``tell`` gets the events of all, each in its keeper's thread, and must not block. Every method
    may be called from any thread.
    """

    def __init__(
        self, folders: Folders, tell: Callable[[Event], None], *, intervals: Intervals | None = None
    ) -> None:
        self._folders = folders
        self._tell = tell
        self._intervals = intervals
        self._keepers: dict[str, Keeper] = {}
        self._sections: dict[str, Section] = {}
        self._released: list[Keeper] = []
        # Guards the clusters that are kept, and that none is begun once `stop_all` has begun.
        self._lock = threading.Lock()
        self._is_stopping = False

    def apply(self, sections: Mapping[str, Section]) -> None:
        """Keep these clusters and no others; returns at once. After `stop_all` it does nothing.

        A new one is made, started or adopted; one that is gone, or has another data directory or
        account, is released, which leaves its server as it is.
        """
        with self._lock:
            if not self._is_stopping:
                self._apply(sections)

    def _apply(self, sections: Mapping[str, Section]) -> None:
        kept: dict[str, Keeper] = {}
        for name, section in sections.items():
            keeper = self._keepers.get(name)
            if keeper is not None and _is_same(self._sections[name], section):
                if self._sections[name] != section:
                    keeper.apply(section)
                kept[name] = keeper
        for name, keeper in self._keepers.items():
            if name not in kept:
                keeper.release()
                self._released.append(keeper)
        self._released = [each for each in self._released if not each.join(0)]
        new = {
            name: self._begin(name, section)
            for name, section in sections.items()
            if name not in kept
        }
        # Replaced as a whole: questions, which take no lock, see the old ones or the new.
        self._keepers = {name: (kept | new)[name] for name in sections}
        self._sections = dict(sections)

    def stop_all(self, within: float) -> tuple[str, ...]:
        """End all, the last of the configuration first, each by its ``on_exit``.

        Takes so many seconds at most, of which each has its share, so that one that does not
        stop takes nothing from the others. Returns the names of those that were not seen to end.
        """
        with self._lock:
            self._is_stopping = True
            keepers = list(reversed(self._keepers.values()))
        deadline = time.monotonic() + within
        for position, keeper in enumerate(keepers):
            left = max(0.0, deadline - time.monotonic())
            keeper.stop(left / (len(keepers) - position))
        return tuple(keeper.name for keeper in keepers if not keeper.join(0))

    def status(self) -> tuple[ClusterStatus, ...]:
        """Return the status of each cluster, in the order of the configuration."""
        return tuple(keeper.status() for keeper in self._keepers.values())

    def is_up(self, name: str) -> bool:
        """Whether a run may begin: it accepts connections and is not about to restart.

        False where there is no cluster of that name.
        """
        keeper = self._keepers.get(name)
        return keeper is not None and keeper.is_up()

    def wait_up(self, name: str, timeout: float | None = None) -> bool:
        """Wait until the cluster accepts connections; False where it did not in time."""
        return self._named(name).wait_up(timeout)

    def conninfo(self, name: str, dbname: str = "postgres") -> str:
        """Return how to connect to the cluster as its superuser; it holds no password.

        Raises `ClusterError` while it is not up.
        """
        return self._named(name).conninfo(dbname)

    def borrow(self, name: str) -> Callable[[], None] | None:
        """Ask that the server is not restarted for its settings for the time of a run.

        A running copy is never cut by a reload. Returns what to call, once, when the run is over;
        None, and nothing is borrowed, where the cluster is not up or about to restart.
        """
        keeper = self._keepers.get(name)
        return None if keeper is None else keeper.borrow()

    def _begin(self, name: str, section: Section) -> Keeper:
        """Begin to keep a cluster, after whoever still has its data directory has let it go."""
        former = next(
            (
                each
                for each in reversed(self._released)
                if _place(each.section.data_directory) == _place(section.data_directory)
            ),
            None,
        )
        keeper = Keeper(
            name,
            section,
            folders=self._folders,
            tell=self._tell,
            after=former,
            intervals=self._intervals,
        )
        keeper.start()
        return keeper

    def _named(self, name: str) -> Keeper:
        keeper = self._keepers.get(name)
        if keeper is None:
            raise ClusterError(f"there is no cluster {name} in the configuration")
        return keeper


def _is_same(one: Section, other: Section) -> bool:
    """Whether one keeper can go from one configuration to the other."""
    return (_place(one.data_directory), one.run_as) == (_place(other.data_directory), other.run_as)


def _place(path: Path) -> str:
    return os.path.normpath(path)
