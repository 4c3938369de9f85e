"""A run of a transfer: states of its destinations, passes, verdicts, the report."""

from copyd.transfers.running.destination import Outcome, Verdict
from copyd.transfers.running.run import Report, run
