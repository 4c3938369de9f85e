"""The table of what may follow what in one COPY."""

from __future__ import annotations

from copyd.copyman.links.conversation import MOVES, RESTING, State


def test_every_state_is_in_the_table_and_can_be_lost() -> None:
    assert set(MOVES) == set(State)
    assert all(State.LOST in moves for moves in MOVES.values())


def test_a_conversation_that_rests_never_goes_back_to_work() -> None:
    assert MOVES[State.ENDED] == MOVES[State.LOST] == {State.LOST}
    assert RESTING == (State.NEW, State.ENDED, State.LOST)


def test_every_state_is_reached_from_the_first() -> None:
    reached, pending = set(), [State.NEW]
    while pending:
        state = pending.pop()
        if state not in reached:
            reached.add(state)
            pending += MOVES[state]
    assert reached == set(State)
