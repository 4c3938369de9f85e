"""Counters and histograms by labels; the caller names the series of each scrape.

The first label is the transfer's name. Many threads may add; a lock guards each object's numbers.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

Labels = tuple[str, ...]


class Counter:
    """Counts by label values."""

    def __init__(self, name: str, meaning: str, labels: Labels) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._values: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, by: float = 1) -> None:
        """Add `by`; a negative number counts as 0."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + max(by, 0)

    def counted(self) -> set[Labels]:
        """Return the label values that were counted."""
        with self._lock:
            return set(self._values)

    def forget(self, transfer: str) -> None:
        """Drop the series of a transfer; they start at 0 if it returns."""
        with self._lock:
            for labels in [each for each in self._values if each[0] == transfer]:
                del self._values[labels]

    def family(self, named: Iterable[Labels]) -> CounterMetricFamily:
        """Return a series for each of `named` and no other; 0 if nothing was counted."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        with self._lock:
            for labels in named:
                family.add_metric(labels, self._values.get(labels, 0))
        return family


class Histogram:
    """Durations by transfer, in buckets with these upper bounds in seconds."""

    def __init__(self, name: str, meaning: str, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._meaning = meaning
        self._bounds = bounds
        self._labels = (*map(str, bounds), "+Inf")
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, transfer: str, seconds: float) -> None:
        with self._lock:
            counts = self._counts.setdefault(transfer, [0] * len(self._labels))
            counts[bisect_left(self._bounds, seconds)] += 1
            self._sums[transfer] = self._sums.get(transfer, 0) + seconds

    def forget(self, transfer: str) -> None:
        """Drop the series of a transfer; they start at 0 if it returns."""
        with self._lock:
            self._counts.pop(transfer, None)
            self._sums.pop(transfer, None)

    def family(self, named: Iterable[str]) -> HistogramMetricFamily:
        """Return a histogram for each of `named`; empty if nothing was counted."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=("transfer",))
        nothing = [0] * len(self._labels)
        with self._lock:
            for transfer in named:
                # Prometheus' buckets are cumulative.
                counts = accumulate(self._counts.get(transfer, nothing))
                buckets = list(zip(self._labels, counts, strict=True))
                family.add_metric((transfer,), buckets, self._sums.get(transfer, 0))
        return family
