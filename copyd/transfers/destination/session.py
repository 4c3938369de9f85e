"""A session at a destination: its connection, and the thread that uses it.

Each step runs in its own thread. The run does not wait for an abandoned step: it cuts the
connection, and the step's thread closes the session.
"""
# Decision: A wait for a destination can be cut off

from __future__ import annotations

import threading
from enum import Enum
from typing import TYPE_CHECKING

from copyd.catalog import OUR_PATH, begin, look_in, milliseconds, settings
from copyd.errors import CopydError
from copyd.transfers.backend import Backend, cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import sql

    from copyd.connection import Connection
    from copyd.transfers.server import Server

CUT_WITHIN = 2.0  # seconds for a thread to notice the cut


class Path(Enum):
    """A search path of the session."""

    OURS = "nobody but a superuser can plant something there"
    OWN = "the role's own, for the operator's SQL, triggers and defaults"
    ANY = "as it is"


class Session:
    """One connection to `server`, replaced by each `connect`.

    ``own_path``: the role's search path. ``backend``: the server process, known after `begin`.
    ``over``: set when the session is given up. `on_close` is called after the connection is closed,
    when no thread uses it.
    """

    def __init__(
        self,
        server: Server,
        *,
        lock_timeout: float,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.own_path = ""
        self.backend: Backend | None = None
        self.over = threading.Event()
        self._server = server
        self._lock_timeout = milliseconds(lock_timeout)
        self._path = Path.OWN
        self._on_close = on_close
        self._connection: Connection | None = None
        self._working = threading.Lock()  # held while a thread uses or closes the connection

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            raise RuntimeError(f"destination {self._server.name} is not connected")
        return self._connection

    @property
    def is_lost(self) -> bool:
        connection = self._connection
        return connection is None or connection.closed or connection.broken

    @property
    def settings(self) -> tuple[sql.Composed, ...]:
        return settings(self.connection, lock_timeout=self._lock_timeout)

    def connect(self) -> Connection:
        """Connect, and close an earlier connection; raises CopydError."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._server.connect()
        if self.over.is_set():  # the run gave up meanwhile
            raise CopydError(f"connected to {self._server.name} too late")
        return self._connection

    def begin(self) -> None:
        """Begin a transaction under copyd's own search path."""
        said = begin(self.connection, lock_timeout=self._lock_timeout)
        self.own_path = said.path
        self.backend = Backend(said.pid, said.started)
        self._path = Path.OURS

    def look_in(self, path: Path) -> None:
        """Set the search path to `path` until the end of the transaction."""
        if path not in (Path.ANY, self._path):
            look_in(self.connection, OUR_PATH if path is Path.OURS else self.own_path)
            self._path = path

    def forget_path(self) -> None:
        self._path = Path.OWN  # the end of the transaction has reset it

    def work(self, step: Callable[[], None]) -> None:
        """Run `step`; if the session is given up meanwhile, close it afterwards."""
        try:
            with self._working:
                step()
        finally:
            if self.over.is_set():
                self.close()

    def cut(self) -> None:
        """Cut the connection, so that a thread that waits for the server gets an error."""
        self.over.set()
        if self._connection is not None:
            cut(self._connection)

    def cut_and_wait(self) -> None:
        """Cut the connection, and wait up to CUT_WITHIN seconds for its thread."""
        self.cut()
        if self._working.acquire(timeout=CUT_WITHIN):
            self._working.release()

    def close(self) -> None:
        """Close the connection, which rolls back; a busy thread is cut and closes it instead."""
        self.over.set()
        if self._working.acquire(blocking=False):
            try:
                if self._connection is not None:
                    self._connection.close()
                self._on_close()
            finally:
                self._working.release()
        else:
            self.cut()
