"""Fairness: how far each party lags behind, and the time budget that excuses it; reads no clock."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

Party = TypeVar("Party")


class Lags(Generic[Party]):
    """The seconds that each party has needed in all steps, less its credit.

    Only differences of the sums count: delays in turn cancel out, and where all are equally slow
    nobody lags.
    """

    def __init__(self) -> None:
        self._needed: dict[Party, float] = {}

    def charge(self, party: Party, seconds: float) -> None:
        """Add `seconds` to the time that `party` needed."""
        self._needed[party] = self._needed.get(party, 0.0) + seconds

    def credit(self, parties: Iterable[Party], seconds: float) -> None:
        """Take up to `seconds` off the time of each of `parties`."""
        for party in parties:
            self._needed[party] = max(self._needed.get(party, 0.0) - seconds, 0.0)

    def lag(self, party: Party, others: Iterable[Party]) -> float:
        """Return the seconds that `party` needed more than the fastest of `others`.

        Negative where it is faster than all of them, minus infinity where there are none.
        """
        fastest = min((self._needed.get(other, 0.0) for other in others), default=inf)
        return self._needed.get(party, 0.0) - fastest


class Budget:
    """The time that a copy may take for its data without anybody being called slow.

    It allows a quarter of the best speed over a second, and at least `SLOWEST`. Data in a socket's
    buffer looks taken, so of equally fast receivers one is waited for most of the time: at full
    speed the waiting says nothing about who holds whom back.
    """

    SLOWEST = 1e6
    """Bytes a second."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._size = 0
        self._best = 0.0

    def seconds_for(self, size: int, *, moment: float) -> float:
        """Return the seconds that `size` more bytes, arriving at `moment`, may take."""
        if self._began is None:
            self._began = moment
        elapsed = moment - self._began
        if elapsed >= 1.0:
            self._best = max(self._best, self._size / elapsed)
            self._began, self._size = moment, 0
        self._size += size
        return size / max(self._best / 4, self.SLOWEST)
