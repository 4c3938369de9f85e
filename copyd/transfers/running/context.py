"""What stays the same for all snapshots, passes and tries of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from copyd.transfers.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from copyd.events import Observer
    from copyd.transfers.transfer import Transfer


class DeadlinePassed(TimeoutError):
    """The run's deadline has passed."""


@dataclass(frozen=True, slots=True)
class Run:
    """What stays the same for all snapshots and tries of a run.

    ``deadline`` is on ``clock``; ``numbers`` are those of its passes.
    """

    transfer: Transfer
    identifier: str
    observe: Observer
    clock: Callable[[], float]
    deadline: float
    is_full: bool = False
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    stop: Stop = field(default_factory=Stop)
