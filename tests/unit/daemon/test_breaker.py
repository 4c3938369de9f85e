"""A destination that fails is left alone for longer and longer, and comes back by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from copyd.config import Breaker
from copyd.daemon.breaker import CLOSED, Circuit

POLICY = Breaker.model_validate({"failures": 3, "backoff": "30s", "max_backoff": "2m"})


def fail(times: int, chance: float = 0.0, ticks: float = 100.0) -> Circuit:
    circuit = CLOSED
    for _ in range(times):
        circuit = circuit.failed(POLICY, ticks, lambda: chance)
    return circuit


def test_a_few_failures_change_nothing() -> None:
    assert fail(2) == Circuit(2)
    assert fail(2).admits(100.0)


def test_then_it_is_left_alone_and_comes_back_by_itself() -> None:
    circuit = fail(3)
    assert circuit.until == 115.0
    assert not circuit.admits(114.9)
    assert circuit.admits(115.0)


def test_each_further_failure_doubles_the_wait_up_to_the_longest() -> None:
    waits = [(fail(number, chance=1.0).until or 0) - 100.0 for number in (3, 4, 5, 6, 500, 5000)]
    assert waits == [30.0, 60.0, 120.0, 120.0, 120.0, 120.0]


@given(failures=st.integers(3, 3000), chance=st.floats(0, 1, exclude_max=True))
def test_the_wait_is_between_half_and_all_of_the_backoff(failures: int, chance: float) -> None:
    until = Circuit(failures - 1).failed(POLICY, 0.0, lambda: chance).until
    assert until is not None
    longest = min(30.0 * 2.0 ** min(failures - 3, 60), 120.0)
    assert longest / 2 <= until <= longest
