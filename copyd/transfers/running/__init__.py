"""A run of a transfer: its passes, the steps of each destination, who comes back after a fault (`lifecycle`), the report."""

from copyd.transfers.running.destination import Outcome, Verdict
from copyd.transfers.running.run import Report, run
