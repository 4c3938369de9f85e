"""Before a COPY: BEGIN as psycopg would send it, and two facts that decide about the link."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from copyd.copyman.links.query import Query, begin_statement, require_usable

if TYPE_CHECKING:
    from copyd.connection import Connection

# libpq itself tells of GSSAPI only from version 16 on, and then not whether it encrypts.
_FACTS = b"""
    SELECT (SELECT count(*) FROM pg_catalog.pg_listening_channels()),
        (SELECT count(*) FROM pg_catalog.pg_stat_gssapi
            WHERE pid = pg_catalog.pg_backend_pid() AND encrypted)
"""


class Preamble:
    """One round trip at most, on an idle connection or in its open transaction."""

    progress = 0
    can_resume = False

    def __init__(self, connection: Connection, *, asks_facts: bool) -> None:
        """`asks_facts`: ask the server for what forbids to borrow the byte stream."""
        self._connection = connection
        self._asks_facts = asks_facts
        self._query: Query | None = None
        self.is_aborted = False
        self.is_listening = False
        """Whether notifications may come; known once `pump` is True, if it was asked."""
        self.has_gssapi_encryption = False
        """Known likewise."""

    @property
    def events(self) -> int:
        return self._query.events if self._query is not None else select.POLLIN

    def fileno(self) -> int | None:
        return self._query.fileno() if self._query is not None else None

    def start(self) -> None:
        """Send the statements, if any.

        Raises psycopg.Error where the connection cannot enter COPY.
        """
        require_usable(self._connection)
        statements = [begin_statement(self._connection)]
        statements += [_FACTS] if self._asks_facts else []
        asked = b"; ".join(filter(None, statements))
        if asked:
            self._query = Query(self._connection, asked)

    def pump(self) -> bool:
        """Go on; True when the transaction is open.

        Raises psycopg.Error: the server's error, or that the connection is lost and closed.
        """
        query = self._query
        if query is None:
            return True
        try:
            if not query.pump():
                return False
        except BaseException:
            self.close()
            raise
        self._query = None
        if query.error is not None:
            raise query.error
        if self._asks_facts:
            facts = query.results[-1]
            self.is_listening = facts.get_value(0, 0) != b"0"
            self.has_gssapi_encryption = facts.get_value(0, 1) != b"0"
        return True

    def abort(self, reason: str) -> None:
        """Go no further: there is no COPY yet to explain `reason` to."""
        del reason
        self.is_aborted = True

    def close(self) -> None:
        self._query = None
        self._connection.close()
