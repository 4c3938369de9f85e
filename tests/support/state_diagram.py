"""The states of a destination as a Mermaid diagram, from their table; `make docs` writes it down."""

from __future__ import annotations

import re
from pathlib import Path

from copyd.transfers.running.states import MOVES, State

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
_BLOCK = re.compile(r"```mermaid\nstateDiagram-v2\n.*?```", re.DOTALL)
_OUT = frozenset({State.RESTING, State.ENDED})


def diagram() -> str:
    """Return the block of docs/architecture.md.

    A try is the states from which a destination may go both to RESTING and to ENDED; these two
    moves are drawn once.
    """
    a_try = [state for state in State if MOVES[state] >= _OUT and state not in _OUT]
    inside = [_move(state, to) for state in a_try for to in State if to in MOVES[state] & {*a_try}]
    outside = [
        _move(state, to)
        for state in State
        for to in State
        if to in MOVES[state] - {state} and not (state in a_try and (to in a_try or to in _OUT))
    ]
    lines = [
        "stateDiagram-v2",
        *(f"    {state.name} : {state.name}, {state.value}" for state in State),
        f"    [*] --> {State.RESTING.name}",
        '    state "a try" as TRY {',
        *(f"    {line}" for line in inside),
        "    }",
        *(f"    TRY --> {state.name}" for state in State if state in _OUT),
        *outside,
        f"    {State.ENDED.name} --> [*]",
    ]
    return "\n".join(["```mermaid", *lines, "```"])


def written() -> str:
    """Return the block as it stands in the document."""
    return "\n".join(_BLOCK.findall(PAGE.read_text()))


def _move(state: State, to: State) -> str:
    return f"    {state.name} --> {to.name}"


if __name__ == "__main__":
    PAGE.write_text(_BLOCK.sub(diagram(), PAGE.read_text()))
