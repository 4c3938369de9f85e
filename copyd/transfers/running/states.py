"""The states of a destination in a run, as a table. docs/architecture.md draws it from here."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a destination stands in a run."""

    RESTING = "waiting before the next try"
    PREPARING = "connecting, locking, checking"
    CLEARING = "making room"
    READY = "ready for a pass"
    EMPTYING = "emptying its tables"
    FED = "being fed by a pass"
    FINISHING = "applying and committing"
    RESOLVING = "asking the ledger about a lost COMMIT"
    TIDYING = "committed, statistics to do"
    ENDED = "has its verdict"


_OUT = frozenset({State.RESTING, State.ENDED})
MOVES = {
    State.RESTING: frozenset({State.PREPARING}) | _OUT,
    State.PREPARING: frozenset({State.CLEARING}) | _OUT,
    State.CLEARING: frozenset({State.READY}) | _OUT,
    State.READY: frozenset({State.EMPTYING}) | _OUT,
    State.EMPTYING: frozenset({State.FED}) | _OUT,
    State.FED: frozenset({State.FINISHING}) | _OUT,
    State.FINISHING: frozenset({State.TIDYING, State.RESOLVING}) | _OUT,
    State.RESOLVING: frozenset({State.TIDYING}) | _OUT,
    State.TIDYING: frozenset({State.ENDED}),
    State.ENDED: frozenset[State](),
}
"""From where to where; anything else is a defect."""

COMING = frozenset({State.PREPARING, State.CLEARING})
"""A pass waits a little for destinations in these."""
LEAVING = frozenset({State.FINISHING, State.RESOLVING, State.TIDYING})
"""Destinations in these have all their data and need no source any more."""
BUSY = COMING | LEAVING | {State.EMPTYING}
"""A thread works for a destination in one of these."""
TIMED = BUSY | {State.RESTING}
"""A destination in one of these is due at a certain moment: its step is late, or its backoff over."""
