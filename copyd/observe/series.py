"""Numbers that only grow, by labels: what a scrape gets of them is asked for by name.

The first label is always the transfer's name. Nothing here knows events or reads a clock.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

Labels = tuple[str, ...]


class Counter:
    """Counts by labels; many threads may add.

    The lock guards the numbers, between whoever adds and whoever scrapes.
    """

    def __init__(self, name: str, meaning: str, labels: Labels) -> None:
        self.name = name
        self._meaning = meaning
        self._labels = labels
        self._values: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, by: float = 1) -> None:
        """Count one more, or `by` more; less than nothing is nothing."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + max(by, 0)

    def counted(self) -> set[Labels]:
        """Return the labels for which anything was counted."""
        with self._lock:
            return set(self._values)

    def forget(self, transfer: str) -> None:
        """Begin at zero again, if the transfer ever comes back."""
        with self._lock:
            for labels in [each for each in self._values if each[0] == transfer]:
                del self._values[labels]

    def family(self, named: Iterable[Labels]) -> CounterMetricFamily:
        """Return a series for each of `named`, zero before anything was counted, and no other."""
        family = CounterMetricFamily(self.name, self._meaning, labels=self._labels)
        with self._lock:
            for labels in named:
                family.add_metric(labels, self._values.get(labels, 0))
        return family


class Histogram:
    """How often a number of seconds was at most so large, by transfer; many threads may add.

    The lock guards the numbers, between whoever adds and whoever scrapes.
    """

    def __init__(self, name: str, meaning: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self._meaning = meaning
        self._bounds = bounds
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, transfer: str, seconds: float) -> None:
        """Count a run of so many seconds."""
        with self._lock:
            counts = self._counts.setdefault(transfer, self._nothing())
            counts[bisect_left(self._bounds, seconds)] += 1
            self._sums[transfer] = self._sums.get(transfer, 0) + seconds

    def forget(self, transfer: str) -> None:
        """Begin at zero again, if the transfer ever comes back."""
        with self._lock:
            self._counts.pop(transfer, None)
            self._sums.pop(transfer, None)

    def family(self, named: Iterable[str]) -> HistogramMetricFamily:
        """Return a histogram for each of `named`, empty before anything was counted."""
        family = HistogramMetricFamily(self.name, self._meaning, labels=("transfer",))
        with self._lock:
            for transfer in named:
                counts = self._counts.get(transfer, self._nothing())
                buckets = self._buckets(counts)
                family.add_metric((transfer,), buckets, self._sums.get(transfer, 0))
        return family

    def _nothing(self) -> list[int]:
        return [0] * (len(self._bounds) + 1)

    def _buckets(self, counts: list[int]) -> list[tuple[str, float]]:
        """The counts as Prometheus wants them: each includes those before it."""
        so_far = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
            so_far += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), so_far))
        return buckets
