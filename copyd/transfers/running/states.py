"""The states of a destination in a run, as a table; docs/architecture.md draws it from here."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The activity of a destination in a run, or its wait."""

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
"""The moves that are allowed; any other is a defect."""

COMING = frozenset({State.PREPARING, State.CLEARING})
"""The next pass waits for these, up to ``prepare_timeout``."""
LEAVING = frozenset({State.FINISHING, State.RESOLVING, State.TIDYING})
"""These have all their data and no longer need the source."""
BUSY = COMING | LEAVING | {State.EMPTYING}  # a step is under way
TIMED = BUSY | {State.RESTING}
"""These have a time at which they are due: the step is late, or the backoff is over."""
