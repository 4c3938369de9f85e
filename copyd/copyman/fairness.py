"""How long each party of a copy has taken, and at which speed. No clock is read here."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

Party = TypeVar("Party")


class Lags(Generic[Party]):
    """The seconds that each party has needed so far, all steps together, less what was forgiven.

    Only differences of sums mean anything: what one is late in one step and another in the next
    cancels out, and where all are equally slow nobody is late.
    """

    def __init__(self) -> None:
        self._needed: dict[Party, float] = {}

    def charge(self, party: Party, seconds: float) -> None:
        """Note that `party` needed `seconds` more."""
        self._needed[party] = self._needed.get(party, 0.0) + seconds

    def credit(self, parties: Iterable[Party], seconds: float) -> None:
        """Take back up to `seconds` of what each of `parties` was charged."""
        for party in parties:
            self._needed[party] = max(self._needed.get(party, 0.0) - seconds, 0.0)

    def lag(self, party: Party, others: Iterable[Party]) -> float:
        """Seconds that `party` needed more than the fastest of `others`.

        Negative where it is faster than all of them, minus infinity where there are none.
        """
        fastest = min((self._needed.get(other, 0.0) for other in others), default=inf)
        return self._needed.get(party, 0.0) - fastest


class Budget:
    """The speed at which a copy goes on without anybody being called slow.

    That is a quarter of the best speed that it has had over a second, and at least `SLOWEST`. What
    a socket's buffers took looks done, so of receivers that are equally fast one is waited for most
    of the time: at its full speed a copy tells nothing about who holds whom back.
    """

    SLOWEST = 1e6
    """Bytes a second."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._size = 0
        self._best = 0.0

    def seconds_for(self, size: int, *, moment: float) -> float:
        """Return how long `size` more bytes, which come at `moment`, may take."""
        if self._began is None:
            self._began = moment
        elapsed = moment - self._began
        if elapsed >= 1.0:
            self._best = max(self._best, self._size / elapsed)
            self._began, self._size = moment, 0
        self._size += size
        return size / max(self._best / 4, self.SLOWEST)
