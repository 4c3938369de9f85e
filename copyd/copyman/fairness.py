"""Fairness: how far each party lags behind, and the time budget that excuses it; reads no clock."""

# Decision: Slowness is a difference of sums

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

Party = TypeVar("Party")


class Lags(Generic[Party]):
    """Seconds needed by each party in all steps, less its credit.

    Only differences count: alternating delays cancel out, and equally slow parties do not lag.
    """

    def __init__(self) -> None:
        self._needed: dict[Party, float] = {}

    def charge(self, party: Party, seconds: float) -> None:
        """Add `seconds` to the time of `party`."""
        self._needed[party] = self._needed.get(party, 0.0) + seconds

    def credit(self, parties: Iterable[Party], seconds: float) -> None:
        """Subtract up to `seconds` from the time of each of `parties`."""
        for party in parties:
            self._needed[party] = max(self._needed.get(party, 0.0) - seconds, 0.0)

    def lag(self, party: Party, others: Iterable[Party]) -> float:
        """Return the seconds of `party` beyond the fastest of `others`.

        Negative if `party` is faster than all others, minus infinity if there are none.
        """
        fastest = min((self._needed.get(other, 0.0) for other in others), default=inf)
        return self._needed.get(party, 0.0) - fastest


class Budget:
    """The time that data may take before a receiver counts as slow.

    A quarter of the copy's best speed over a second is allowed, and at least `SLOWEST`.
    """

    # Data in a socket's buffer looks taken, so even of equally fast receivers the copy waits for
    # the same one most of the time: at full speed, waiting is no sign of a slow receiver.

    SLOWEST = 1e6  # bytes a second

    def __init__(self) -> None:
        self._began: float | None = None
        self._size = 0
        self._best = 0.0

    def seconds_for(self, size: int, *, moment: float) -> float:
        """Return the seconds allowed for `size` more bytes, which arrived at `moment`."""
        if self._began is None:
            self._began = moment
        elapsed = moment - self._began
        if elapsed >= 1.0:
            self._best = max(self._best, self._size / elapsed)
            self._began, self._size = moment, 0
        self._size += size
        return size / max(self._best / 4, self.SLOWEST)
