from __future__ import annotations

import pytest

from copyd.transfers import Verdict
from copyd.transfers.running.destination import Destination
from copyd.transfers.running.run import judge
from copyd.transfers.running.states import MOVES, State
from copyd.transfers.server import Server
from copyd.transfers.transfer import Replica

GOOD, BAD, LOST = Verdict.SUCCEEDED, Verdict.FAILED, Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([GOOD, GOOD], Verdict.SUCCEEDED),
        ([BAD, BAD], Verdict.FAILED),
        ([GOOD, BAD], Verdict.PARTIAL),
        ([GOOD, LOST], Verdict.PARTIAL),
        ([LOST], Verdict.UNKNOWN),
        ([BAD, LOST], Verdict.UNKNOWN),
    ],
)
def test_a_runs_verdict_follows_from_its_destinations(
    verdicts: list[Verdict], expected: Verdict
) -> None:
    assert judge(verdicts) is expected


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([GOOD, GOOD, BAD], Verdict.PARTIAL),
        ([GOOD, BAD, BAD], Verdict.FAILED),
        ([GOOD, LOST, BAD], Verdict.UNKNOWN),
        ([GOOD, GOOD, GOOD], Verdict.SUCCEEDED),
    ],
)
def test_too_few_successes_are_a_failure(verdicts: list[Verdict], expected: Verdict) -> None:
    assert judge(verdicts, minimum=2) is expected


def test_a_destination_moves_only_as_the_table_says() -> None:
    for state in State:
        for other in State:
            destination = Destination(Replica(Server("eu", "")), state=state)
            if other in MOVES[state]:
                destination.move(other)
                assert destination.state is other
            else:
                with pytest.raises(RuntimeError, match=f"eu.*{state.name}.*{other.name}"):
                    destination.move(other)


def test_every_state_can_be_left_and_reached() -> None:
    assert set(MOVES) == set(State)
    reached = frozenset[State]().union(*MOVES.values())
    assert reached == set(State)
