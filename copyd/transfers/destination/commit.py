"""The COMMIT of one try; if its answer is lost, the ledger tells the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from copyd.errors import CopydError
from copyd.transfers.backend import end
from copyd.transfers.faults import is_transient

if TYPE_CHECKING:
    from copyd.loading import Ledger
    from copyd.names import TableName
    from copyd.transfers.backend import Backend
    from copyd.transfers.destination.rejects import Rejects
    from copyd.transfers.destination.session import Session


class Commit:
    """The COMMIT of `run`, and the publication of its reject files.

    ``is_sent`` without ``is_done``: the COMMIT is in doubt. ``notes``: errors after the COMMIT, which
    leave the data intact.
    """

    def __init__(self, run: str, ledger: Ledger | None, rejects: Rejects | None) -> None:
        self.is_sent = False
        self.is_done = False
        self.notes: list[str] = []
        self.rejects = rejects
        self._run = run
        self._ledger = ledger

    def send(self, session: Session) -> None:
        """COMMIT, then publish the rejects; raises psycopg.Error if it fails or is in doubt."""
        self.is_sent = True
        try:
            session.connection.commit()
        except psycopg.Error:
            self.is_sent = session.is_lost  # an error from the server means that it rolled back
            raise
        self.is_done = True
        self._publish()

    def inherit(self, lost: Commit) -> None:
        self.rejects, lost.rejects = lost.rejects, None
        self.is_sent = True

    def resolve(self, session: Session, table: TableName, backend: Backend) -> None:
        """Ask the ledger whether `backend` committed, until it answers; then publish as `send`.

        `table`: any table the run loaded. Raises errors that are not transient, and the last
        transient error when the session is given up.
        """

        def ask() -> None:
            self._ask(session, table, backend)

        attempts = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_when_event_set(session.over),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            sleep=sleep_using_event(session.over),
            reraise=True,
        )
        attempts(ask)
        self.is_sent = self.is_done
        if self.is_done:
            self._publish()

    def close(self) -> None:
        """Remove the reject files, unless they are published or the COMMIT is in doubt."""
        if self.rejects is not None and not self.is_done:
            self.rejects.close(is_doubtful=self.is_sent)

    def _ask(self, session: Session, table: TableName, backend: Backend) -> None:
        if self._ledger is None:
            raise RuntimeError("without a ledger nobody knows")
        # While the old backend lives, it may still commit.
        end(session.connect(), backend)
        session.begin()
        name = table.schema, table.name
        self.is_done = self._ledger.has_committed(session.connection, *name, self._run)

    def _publish(self) -> None:
        if self.rejects is not None:
            try:
                self.rejects.publish()
            except CopydError as error:
                self.notes.append(str(error))
