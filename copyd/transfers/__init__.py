"""Transfers from one source to many destinations: run, check, plan, verify."""

from copyd.transfers.faults import NOBODYS, counted, facts
from copyd.transfers.running import Outcome, Report, Verdict, run
from copyd.transfers.server import Server
from copyd.transfers.stop import RunStopped, Stop
from copyd.transfers.transfer import (
    Format,
    Loading,
    Query,
    Reintroduce,
    RejectPolicy,
    Replica,
    TableOptions,
    Tables,
    Transfer,
)

__all__ = [
    "NOBODYS",
    "Format",
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
    "TableOptions",
    "Tables",
    "Transfer",
    "Verdict",
    "counted",
    "facts",
    "run",
]
