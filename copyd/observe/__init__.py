"""Telemetry and pages: metrics, logs, history, status; observers of events, imported by the CLI only."""

from copyd.observe import logs
from copyd.observe.document import document
from copyd.observe.fanout import Tee
from copyd.observe.history import History
from copyd.observe.http import Server
from copyd.observe.live import Live
from copyd.observe.logs import Log
from copyd.observe.metrics import Metrics

__all__ = [
    "History",
    "Live",
    "Log",
    "Metrics",
    "Server",
    "Tee",
    "document",
    "logs",
]
