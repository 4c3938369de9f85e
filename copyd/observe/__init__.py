"""Metrics, logs, history and status pages: observers of events; only the CLI imports them."""

from copyd.observe import logs
from copyd.observe.document import document, history_document
from copyd.observe.fanout import Failures, Fanout
from copyd.observe.history import History
from copyd.observe.http import Server
from copyd.observe.live import Live
from copyd.observe.logs import Log
from copyd.observe.metrics import OBSERVERS, Metrics
from copyd.observe.progress import Delivery, RunState
