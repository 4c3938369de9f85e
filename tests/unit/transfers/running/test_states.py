from __future__ import annotations

from tests.support.state_diagram import diagram, written


def test_the_states_are_drawn_as_their_table_has_them() -> None:
    assert written() == diagram(), "docs/architecture.md: run `make docs`"
