"""A session at a destination: its connection, the thread that uses it, and how that is cut off.

A step runs in a thread of its own. Nobody waits for a step that was given up: its connection is cut,
and its own thread closes what is left.
"""

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

CUT_WITHIN = 2.0  # seconds that a thread gets to notice that its connection was cut


class Path(Enum):
    """The search path that names are looked up in."""

    OURS = "nobody but a superuser can plant something there"
    OWN = "the role's own, for the operator's SQL, triggers and defaults"
    ANY = "as it is"


class Session:
    """One connection to `server`, anew after each `connect`.

    ``own_path``: the role's own search path. ``backend``: its process there, once `begin` was called.
    ``over``: set when the session is given up. `on_close` is called after the connection is closed,
    while no thread uses it.
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
        self._working = threading.Lock()  # guards who uses and who closes the connection

    @property
    def connection(self) -> Connection:
        """The connection; raises RuntimeError before there is one."""
        if self._connection is None:
            raise RuntimeError(f"destination {self._server.name} is not connected")
        return self._connection

    @property
    def is_lost(self) -> bool:
        """Whether its connection is gone, so that nobody can ask the server any more."""
        connection = self._connection
        return connection is None or connection.closed or connection.broken

    @property
    def settings(self) -> tuple[sql.Composed, ...]:
        """What `begin` tells the server before anything else."""
        return settings(self.connection, lock_timeout=self._lock_timeout)

    def connect(self) -> Connection:
        """Connect, in place of an earlier connection; raises CopydError."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._server.connect()
        if self.over.is_set():  # the run did not wait
            raise CopydError(f"connected to {self._server.name} too late")
        return self._connection

    def begin(self) -> None:
        """Begin a transaction in which names are looked up in our own search path."""
        said = begin(self.connection, lock_timeout=self._lock_timeout)
        self.own_path = said.path
        self.backend = Backend(said.pid, said.started)
        self._path = Path.OURS

    def look_in(self, path: Path) -> None:
        """Look names up in `path`, to the end of the transaction."""
        if path not in (Path.ANY, self._path):
            look_in(self.connection, OUR_PATH if path is Path.OURS else self.own_path)
            self._path = path

    def forget_path(self) -> None:
        """The transaction has ended, and with it its search path."""
        self._path = Path.OWN

    def work(self, step: Callable[[], None]) -> None:
        """Take `step` in this thread; if the session is given up meanwhile, close it then."""
        try:
            with self._working:
                step()
        finally:
            if self.over.is_set():
                self.close()

    def cut(self) -> None:
        """Cut the connection under a thread that waits on it: it gets an error instead."""
        self.over.set()
        if self._connection is not None:
            cut(self._connection)

    def cut_and_wait(self) -> None:
        """Cut it, and wait a little until its thread knows how its step has ended."""
        self.cut()
        if self._working.acquire(timeout=CUT_WITHIN):
            self._working.release()

    def close(self) -> None:
        """Roll back what is not committed; a thread that is at work is cut off and does it."""
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
