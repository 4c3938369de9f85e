"""A circuit breaker for one destination of one transfer: pure, and it needs no human.

Runs leave a destination alone that failed too often, for a while that doubles. When that is over
the next run tries it again; one success, and everything is forgotten.
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
    """``failures``: in a row, of its own; ``until``: left alone until then (ticks), if it is."""

    failures: int = 0
    until: float | None = None

    def admits(self, ticks: float) -> bool:
        """Whether a run at `ticks` may try the destination."""
        return self.until is None or ticks >= self.until

    def failed(self, policy: Breaker, ticks: float, rng: Rng) -> Circuit:
        """Return what holds after a failure at `ticks`."""
        failures = self.failures + 1
        beyond = failures - policy.failures
        if beyond < 0:
            return Circuit(failures)
        wait = backoff(beyond + 1, first=policy.backoff, longest=policy.max_backoff, jitter=rng())
        return Circuit(failures, ticks + wait)


CLOSED = Circuit()
"""After a success, or before anything."""
