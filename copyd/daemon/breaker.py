"""A circuit breaker for one destination of one transfer: pure, and it needs no human.

Runs leave a destination alone that failed too often, for a while that doubles. When that is over
the next run tries it again; one success, and everything is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from copyd.config import Breaker
    from copyd.daemon.schedule import Dice

MOST_DOUBLINGS = 64


@dataclass(frozen=True, slots=True)
class Circuit:
    """``failures``: in a row, of its own; ``until``: left alone until then (ticks), if it is."""

    failures: int = 0
    until: float | None = None

    def admits(self, ticks: float) -> bool:
        """Whether a run at `ticks` may try the destination."""
        return self.until is None or ticks >= self.until

    def failed(self, policy: Breaker, ticks: float, dice: Dice) -> Circuit:
        """Return what holds after a failure at `ticks`.

        Between half the backoff and all of it, so that destinations that fell together do not come
        together.
        """
        failures = self.failures + 1
        beyond = failures - policy.failures
        if beyond < 0:
            return Circuit(failures)
        longest = min(policy.backoff * 2.0 ** min(beyond, MOST_DOUBLINGS), policy.max_backoff)
        return Circuit(failures, ticks + longest * (0.5 + 0.5 * dice()))


CLOSED = Circuit()
"""After a success, or before anything."""
