"""How long a party is waited for, and who is pumped, decided without a clock."""

from __future__ import annotations

from math import inf

import pytest

from copyd.copyman.pump import Limits, drive

NEVER = -inf  # a lag that nobody waits for


@pytest.mark.parametrize(
    ("limits", "idle", "lag", "remaining"),
    [
        (Limits(None), 1e9, 1e9, inf),
        (Limits(5.0), 1.0, 1e9, 4.0),
        (Limits(5.0), 5.0, NEVER, 0.0),
        (Limits(None, 60.0), 1e9, 50.0, 10.0),
        (Limits(None, 60.0), 1e9, 61.0, -1.0),
        (Limits(None, 60.0), 1e9, -3.0, 63.0),
        (Limits(None, 60.0), 1e9, NEVER, inf),
        (Limits(5.0, 60.0), 1.0, 58.0, 2.0),
        (Limits(5.0, 60.0), 4.0, 58.0, 1.0),
    ],
)
def test_a_party_is_waited_for_until_the_first_of_its_limits(
    limits: Limits, idle: float, lag: float, remaining: float
) -> None:
    assert limits.remaining(idle=idle, lag=lag) == remaining


@pytest.mark.parametrize(
    ("idle", "said"),
    [(5.0, "no progress for 5 s"), (4.9, "held the others back for 60 s")],
)
def test_a_fault_says_which_limit_was_reached(idle: float, said: str) -> None:
    assert str(Limits(5.0, 60.0).fault(idle=idle)) == said


class _Party:
    """Is done when it was pumped so many times; it waits for nothing."""

    progress = 0
    events = 0
    can_resume = True

    def __init__(self, pumps: int) -> None:
        self.left = pumps

    def pump(self) -> bool:
        self.left -= 1
        return self.left <= 0

    def fileno(self) -> None:
        return None

    def abort(self, reason: str) -> None: ...

    def close(self) -> None: ...


def test_who_is_done_is_not_pumped_again_while_others_are_waited_for() -> None:
    prompt, late = _Party(1), _Party(5)
    moved: dict[_Party, tuple[int, float]] = {}
    cycles = 0
    while not cycles or moved:
        assert drive([prompt, late], Limits(None), moved=moved, until=-inf) == {}
        cycles += 1
    assert (prompt.left, late.left) == (0, 0)
    assert cycles == 5
