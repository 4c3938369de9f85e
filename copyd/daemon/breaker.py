"""A circuit breaker for one destination of one transfer: pure.

After too many failures in a row, runs skip the destination for a while, twice as long after each
further failure. The next run tries again. A success closes the breaker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from copyd.backoff import backoff

if TYPE_CHECKING:
    from copyd.config import Breaker
    from copyd.daemon.schedule import Rng


@dataclass(frozen=True, slots=True)
class Circuit:
    """``failures`` of the destination's own, in a row; runs skip the destination ``until`` (ticks)."""

    failures: int = 0
    until: float | None = None

    def admits(self, ticks: float) -> bool:
        return self.until is None or ticks >= self.until

    def failed(self, policy: Breaker, ticks: float, rng: Rng) -> Circuit:
        """Return the circuit after a failure at `ticks`."""
        failures = self.failures + 1
        beyond = failures - policy.failures
        if beyond < 0:
            return Circuit(failures)
        wait = backoff(beyond + 1, first=policy.backoff, longest=policy.max_backoff, jitter=rng())
        return Circuit(failures, ticks + wait)


CLOSED = Circuit()
