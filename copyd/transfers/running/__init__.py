"""A run of a transfer: states of its destinations, passes, verdicts, the report."""

from copyd.transfers.running.run import Report, run
from copyd.transfers.running.states import Outcome, Verdict

__all__ = [
    "Outcome",
    "Report",
    "Verdict",
    "run",
]
