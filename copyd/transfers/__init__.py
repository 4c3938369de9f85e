"""From connect to verdict: one run of a transfer from one source to many destinations."""

from copyd.transfers.destination import Outcome, Verdict
from copyd.transfers.runner import Report, run
from copyd.transfers.server import Server
from copyd.transfers.transfer import Query, Table, Transfer

__all__ = ["Outcome", "Query", "Report", "Server", "Table", "Transfer", "Verdict", "run"]
