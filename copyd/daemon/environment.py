"""The daemon's surroundings, passed in from outside: files, clocks, randomness, threads."""

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
    """The daemon's view of `Keepers`. Only `stop_all` waits."""

    def apply(self, sections: Mapping[str, Cluster]) -> None: ...
    def stop_all(self, within: float) -> tuple[str, ...]: ...
    def status(self) -> tuple[ClusterStatus, ...]: ...
    def is_up(self, name: str) -> bool: ...
    def borrow(self, name: str) -> Callable[[], None] | None: ...


Spawn = Callable[[str, Callable[[], None]], None]
"""Calls a function in a thread of that name; returns at once."""


def spawn(name: str, work: Callable[[], None]) -> None:
    """Start a daemon thread."""
    threading.Thread(target=work, name=f"copyd {name}", daemon=True).start()


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The daemon's surroundings.

    ``load`` reads the configuration; ``configure`` is called with each new configuration. ``watch`` makes
    a run's observer; ``observe`` receives the daemon's own events. ``build`` makes a
    transfer to some destinations, in the run's thread. ``remembered`` comes from the history;
    ``recall`` asks a server's ledgers for some transfers' last successes, in its own thread.
    """

    load: Callable[[], Config]
    build: Callable[[Config, str, tuple[str, ...]], Transfer]
    observe: Observer
    watch: Callable[[str], Observer]
    clusters: Callable[[Observer], ManagedClusters]
    notifier: Notifier
    pauses: Pauses
    clock: Callable[[], Instant]
    rng: Rng
    spawn: Spawn = spawn
    configure: Callable[[Config], None] = lambda _: None
    recall: Callable[[Config, str, tuple[str, ...]], Mapping[str, float]] = (
        lambda _config, _server, _transfers: {}
    )
    remembered: Remembered = NOTHING
