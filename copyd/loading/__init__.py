"""Loading of a destination's tables: guards, strategies, staging tables, the ledger, rejects."""

from copyd.loading import guards, staged_rows, strategies
from copyd.loading.ledger import Entry, Ledger, Position
from copyd.loading.privileges import Use
from copyd.loading.staged_rejects import TRIALS, Bisection
from copyd.loading.step import Later, Result, Step, execute
from copyd.loading.strategies import Applied, shrink_refusal
from copyd.loading.target import Target
