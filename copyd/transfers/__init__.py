"""From connect to verdict: one run of a transfer from one source to many destinations."""

from copyd.transfers.destination import Outcome, Verdict
from copyd.transfers.run import Report, run
from copyd.transfers.server import Server
from copyd.transfers.stopping import RunStopped, Stop
from copyd.transfers.transfer import (
    Loading,
    Query,
    Reintroduce,
    RejectPolicy,
    Replica,
    Tables,
    Transfer,
)

__all__ = [
    "Loading",
    "Outcome",
    "Query",
    "Reintroduce",
    "RejectPolicy",
    "Replica",
    "Report",
    "RunStopped",
    "Server",
    "Stop",
    "Tables",
    "Transfer",
    "Verdict",
    "run",
]
