"""All managed clusters: each has a keeper, and no keeper waits for another."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from copyd.daemon.keeper.decision import Intervals
from copyd.daemon.keeper.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from copyd.config import Cluster as Section
    from copyd.daemon.keeper.records import Folders
    from copyd.events import Event
    from copyd.status import ClusterStatus


class Keepers:
    """The keepers of the managed clusters; every method is safe to call from any thread.

    ``tell`` receives the events of all clusters, in the keepers' threads, and must not block.
    """

    def __init__(
        self, folders: Folders, tell: Callable[[Event], None], *, intervals: Intervals | None = None
    ) -> None:
        self._folders = folders
        self._tell = tell
        self._intervals = intervals or Intervals()
        self._keepers: dict[str, Keeper] = {}
        self._sections: dict[str, Section] = {}
        self._released: list[Keeper] = []
        # Guards all of the above, and excludes `apply` once `stop_all` has begun.
        # Decision: Keepers after stop_all begin nothing
        self._lock = threading.Lock()
        self._is_stopping = False

    def apply(self, sections: Mapping[str, Section]) -> None:
        """Manage these clusters and no others; returns at once. Does nothing after `stop_all`.

        A new cluster is created, started or adopted. A missing cluster, or one with another data
        directory or account, is released: its server stays as it is.
        """
        with self._lock:
            if not self._is_stopping:
                self._apply(sections)

    def _apply(self, sections: Mapping[str, Section]) -> None:
        kept: dict[str, Keeper] = {}
        for name, section in sections.items():
            keeper = self._keepers.get(name)
            if keeper is not None and _identity(self._sections[name]) == _identity(section):
                if self._sections[name] != section:
                    keeper.apply(section)
                kept[name] = keeper
        for name, keeper in self._keepers.items():
            if name not in kept:
                keeper.release()
                self._released.append(keeper)
        self._released = [each for each in self._released if not each.join(0)]
        # Replaced whole: the methods below read it without the lock.
        self._keepers = {
            name: kept.get(name) or self._begin(name, section) for name, section in sections.items()
        }
        self._sections = dict(sections)

    def _begin(self, name: str, section: Section) -> Keeper:
        place = _place(section.data_directory)
        former = [each for each in self._released if _place(each.data_directory) == place]
        keeper = Keeper(
            name,
            section,
            folders=self._folders,
            tell=self._tell,
            after=former[-1] if former else None,
            intervals=self._intervals,
        )
        keeper.start()
        return keeper

    def stop_all(self, within: float) -> tuple[str, ...]:
        """Stop or leave each server as ``on_exit`` says, in reverse order of the configuration.

        Returns the clusters that did not end within so many seconds.
        """
        with self._lock:
            self._is_stopping = True
            keepers = list(reversed(self._keepers.values()))
        deadline = time.monotonic() + within
        for position, keeper in enumerate(keepers):
            # An equal share of the rest, so that a server that hangs leaves time for the others.
            left = max(0.0, deadline - time.monotonic())
            keeper.stop(left / (len(keepers) - position))
        return tuple(keeper.name for keeper in keepers if not keeper.join(0))

    def status(self) -> tuple[ClusterStatus, ...]:
        return tuple(keeper.status() for keeper in self._keepers.values())

    def is_up(self, name: str) -> bool:
        """Whether the cluster exists, accepts connections and is not about to restart."""
        keeper = self._keepers.get(name)
        return keeper is not None and keeper.is_up()

    def borrow(self, name: str) -> Callable[[], None] | None:
        """Postpone restarts for settings until the returned function is called, once.

        Returns None, and borrows nothing, unless the cluster `is_up`.
        """
        keeper = self._keepers.get(name)
        return None if keeper is None else keeper.borrow()


def _identity(section: Section) -> tuple[str, str | None]:
    return _place(section.data_directory), section.run_as


def _place(path: Path) -> str:
    return os.path.normpath(path)
