"""``copyd plan``: the statements of a run, in order, before it is run."""

from copyd.transfers.plan.plan import plan
from copyd.transfers.plan.script import Script
