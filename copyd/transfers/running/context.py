"""The circumstances of a run, shared by its snapshots, passes and tries."""

from __future__ import annotations

import random
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
    """A run of ``transfer``.

    ``deadline`` is on ``clock``; ``rng`` returns a number from 0 to 1; ``numbers`` count the passes.
    """

    transfer: Transfer
    identifier: str
    observe: Observer
    clock: Callable[[], float]
    deadline: float
    is_full: bool = False
    rng: Callable[[], float] = random.random
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    stop: Stop = field(default_factory=Stop)

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, not below 0."""
        return max(self.deadline - self.clock(), 0.0)

    def require_going_on(self) -> None:
        """Raise RunStopped once the run is stopped, DeadlinePassed after its deadline."""
        self.stop.require_none()
        if self.clock() >= self.deadline:
            raise DeadlinePassed(f"the deadline of {self.transfer.deadline:g} s has passed")
