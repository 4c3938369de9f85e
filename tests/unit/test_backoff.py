from __future__ import annotations

import pytest

from copyd.backoff import backoff


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 1.0), (2, 2.0), (4, 8.0), (5, 10.0), (60, 10.0), (5000, 10.0)]
)
def test_waits_double_up_to_the_longest_and_are_jittered(failures: int, longest: float) -> None:
    waits = [backoff(failures, first=1.0, longest=10.0, jitter=each / 10) for each in range(11)]
    assert (waits[0], waits[-1]) == (longest / 2, longest)
    assert waits == sorted(waits)
