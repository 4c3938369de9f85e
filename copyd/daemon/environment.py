"""Everything that the daemon works with and that comes from outside: files, clocks, chance, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from copyd.daemon.task import NOTHING, Remembered

if TYPE_CHECKING:
    from copyd.config import Cluster, Config
    from copyd.daemon.pauses import Pauses
    from copyd.daemon.schedule import Instant, Rng
    from copyd.daemon.systemd import Notifier
    from copyd.events import Observer
    from copyd.status import ClusterStatus
    from copyd.transfers import Transfer


class ManagedClusters(Protocol):
    """The managed clusters. Only `stop_all` waits."""

    def apply(self, sections: Mapping[str, Cluster]) -> None:
        """Keep these clusters and no others; does nothing once `stop_all` was called."""

    def stop_all(self, within: float) -> tuple[str, ...]:
        """Stop or leave all; return those that did not end within so many seconds."""

    def status(self) -> tuple[ClusterStatus, ...]:
        """Return the status of each."""

    def is_up(self, name: str) -> bool:
        """Whether it accepts connections."""

    def borrow(self, name: str) -> Callable[[], None] | None:
        """Keep it from being restarted until the returned function is called; None if it is down."""


Build = Callable[["Config", str, tuple[str, ...]], "Transfer"]
"""Makes a transfer that feeds these destinations; called in the run's own thread."""

Recall = Callable[["Config", str, tuple[str, ...]], Mapping[str, float]]
"""Asks a server when these transfers last succeeded there; called in a thread of its own."""

Spawn = Callable[[str, Callable[[], None]], None]
"""Calls a function in a thread of that name, and returns at once."""


def spawn(name: str, work: Callable[[], None]) -> None:
    """Start a thread that does not keep the process alive."""
    threading.Thread(target=work, name=f"copyd {name}", daemon=True).start()


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The daemon's surroundings.

    ``load`` reads the configuration; ``configure`` gets the one that holds, whenever it changes.
    ``watch`` makes the observer of one run, ``observe`` gets the daemon's own events.
    ``remembered`` is the history's knowledge, ``recall`` asks ledgers for the rest.
    """

    load: Callable[[], Config]
    build: Build
    observe: Observer
    watch: Callable[[str], Observer]
    clusters: Callable[[Observer], ManagedClusters]
    notifier: Notifier
    pauses: Pauses
    clock: Callable[[], Instant]
    rng: Rng
    spawn: Spawn = spawn
    configure: Callable[[Config], None] = lambda _: None
    recall: Recall = lambda _config, _server, _transfers: {}
    remembered: Remembered = NOTHING
