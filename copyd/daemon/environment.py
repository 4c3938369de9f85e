"""What the supervisor works with; all of it comes in from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from copyd.daemon.task import NOTHING, Remembered

if TYPE_CHECKING:
    from copyd.config import Cluster, Config
    from copyd.daemon.pauses import Pauses
    from copyd.daemon.schedule import Dice, Moment
    from copyd.daemon.systemd import Notifier
    from copyd.events import Observer
    from copyd.status import ClusterStatus
    from copyd.transfers import Transfer


class Keepers(Protocol):
    """What keeps the managed clusters; nothing here waits but `stop_all`."""

    def apply(self, sections: Mapping[str, Cluster]) -> None:
        """Keep these clusters and no others."""

    def stop_all(self, within: float) -> tuple[str, ...]:
        """Stop or leave all; return those that did not end within so many seconds."""

    def status(self) -> tuple[ClusterStatus, ...]:
        """Say how each is."""

    def is_up(self, name: str) -> bool:
        """Whether it accepts connections."""

    def borrow(self, name: str) -> Callable[[], None] | None:
        """Keep it from being restarted until what is returned is called; None where it is not up."""


Build = Callable[["Config", str, tuple[str, ...]], "Transfer"]
"""Makes a transfer, feeding these destinations; called in the run's own thread."""


Recall = Callable[["Config", str, tuple[str, ...]], Mapping[str, float]]
"""Asks a server when these transfers last succeeded there; called in a thread of its own."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the supervisor works with; all of it comes in from outside.

    ``load`` reads the configuration again; ``take`` is told which one holds, whenever it changes;
    ``watch`` makes the observer of one run, ``observe`` gets the daemon's own events. ``remembered``
    is what the history knows, ``recall`` asks ledgers for the rest.
    """

    load: Callable[[], Config]
    build: Build
    observe: Observer
    watch: Callable[[str], Observer]
    keepers: Callable[[Observer], Keepers]
    notifier: Notifier
    pauses: Pauses
    clock: Callable[[], Moment]
    dice: Dice
    take: Callable[[Config], None] = lambda _: None
    recall: Recall = lambda _config, _server, _transfers: {}
    remembered: Remembered = NOTHING
