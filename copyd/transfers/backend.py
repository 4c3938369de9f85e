"""Our own backend at a server: recognised again after its connection was lost, and ended."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from copyd.errors import CopydError

if TYPE_CHECKING:
    from datetime import datetime

    from tenacity import RetryCallState

    from copyd.connection import Connection

GONE_WITHIN = 5.0
"""Seconds that an old backend of ours gets to end."""
CANCEL_TIMEOUT = 2.0
"""Seconds to ask a server to stop before its connection is cut."""


class Backend(NamedTuple):
    """A server process, by number and start, so that nobody else's is ever meant."""

    pid: int
    started: datetime


def cut(connection: Connection, *, cancels: bool = False) -> None:
    """Cut `connection` under a thread that waits on it: it gets an error instead.

    `cancels`: first ask the server to end a statement that would go on for long without us.
    """
    if connection.closed:
        return
    if cancels:
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=CANCEL_TIMEOUT)
    with (
        suppress(OSError, psycopg.OperationalError),
        socket.socket(fileno=os.dup(connection.fileno())) as duplicate,
    ):
        duplicate.shutdown(socket.SHUT_RDWR)


def end(connection: Connection, backend: Backend) -> None:
    """End an earlier backend of ours, which may still hold its locks and half a table.

    Raises CopydError, caused by a TimeoutError, where it does not end.
    """
    attempts = Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(GONE_WITHIN),
        wait=wait_fixed(0.05),
        retry_error_callback=_still_there,
    )
    if attempts(_terminate, connection, backend):
        still = f"its backend {backend.pid} of the last pass does not end"
        raise CopydError(still) from TimeoutError(still)


def _terminate(connection: Connection, backend: Backend) -> bool:
    """Terminate a backend of ours; True while it is still there."""
    found = connection.execute(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
        " WHERE pid OPERATOR(pg_catalog.=) %s AND backend_start OPERATOR(pg_catalog.=) %s",
        backend,
    ).fetchone()
    connection.rollback()
    return found is not None


def _still_there(state: RetryCallState) -> bool:
    """Answer what the last attempt answered."""
    return bool(state.outcome and state.outcome.result())
