"""How rows get into a table of a destination, and what makes it unfit for them."""

from copyd.loading import guards, staging, strategies
from copyd.loading.ledger import Entry, Ledger, Position
from copyd.loading.privileges import Use
from copyd.loading.staged_rejects import TRIALS, Sieve
from copyd.loading.strategies import Applied, shrink_refusal
from copyd.loading.target import Target

__all__ = [
    "TRIALS",
    "Applied",
    "Entry",
    "Ledger",
    "Position",
    "Sieve",
    "Target",
    "Use",
    "guards",
    "shrink_refusal",
    "staging",
    "strategies",
]
