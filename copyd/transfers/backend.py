"""Our own backend at a server: identified and ended after its connection was lost."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from copyd.errors import CopydError

if TYPE_CHECKING:
    from datetime import datetime

    from copyd.connection import Connection

GONE_WITHIN = 5.0  # seconds for an old backend of ours to end
CANCEL_TIMEOUT = 2.0  # seconds for a cancel request before the connection is cut


class Backend(NamedTuple):
    """A server process: a pid may be reused, a pid with its start time is not."""

    pid: int
    started: datetime


def cut(connection: Connection, *, cancels: bool = False) -> None:
    """Cut `connection`: a thread that waits on it gets an error instead.

    `cancels`: first cancel the statement, which the server would otherwise continue.
    """
    # Decision: A wait for a destination can be cut off
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

    Raises CopydError, caused by a TimeoutError, if the backend does not end.
    """
    attempts = Retrying(
        retry=retry_if_result(bool), stop=stop_after_delay(GONE_WITHIN), wait=wait_fixed(0.05)
    )
    try:
        attempts(_terminate, connection, backend)
    except RetryError:
        still = f"backend {backend.pid} of the last pass has not ended within {GONE_WITHIN:g} s"
        raise CopydError(still) from TimeoutError(still)


def _terminate(connection: Connection, backend: Backend) -> bool:
    found = connection.execute(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
        " WHERE pid OPERATOR(pg_catalog.=) %s AND backend_start OPERATOR(pg_catalog.=) %s",
        backend,
    ).fetchone()
    connection.rollback()
    return found is not None
