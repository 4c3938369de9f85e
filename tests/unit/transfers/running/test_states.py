from __future__ import annotations

import pytest

from copyd.transfers import Replica, Server
from copyd.transfers.running.destination import Destination
from copyd.transfers.running.states import MOVES, State
from tests.support.state_diagram import diagram, written


def test_the_states_are_drawn_as_their_table_has_them() -> None:
    assert written() == diagram(), "docs/architecture.md: run `make docs`"


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
