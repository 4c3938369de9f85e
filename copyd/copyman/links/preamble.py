"""The round trip before a COPY: BEGIN as psycopg sends it, and two facts that decide the link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copyd.copyman.links.query import Query, begin_statement, require_usable

if TYPE_CHECKING:
    from copyd.connection import Connection

# Decision: One question before COPY
# libpq reports GSSAPI only from version 16 on, and then not whether it encrypts.
_FACTS = b"""
    SELECT (SELECT count(*) FROM pg_catalog.pg_listening_channels()),
        (SELECT count(*) FROM pg_catalog.pg_stat_gssapi
            WHERE pid = pg_catalog.pg_backend_pid() AND encrypted)
"""


class Preamble(Query):
    """At most one round trip, on an idle connection or in its open transaction.

    With `asks_facts`, ``is_listening`` and ``has_gssapi_encryption`` are known once `pump` is True.
    """

    is_aborted = False

    def __init__(self, connection: Connection, *, asks_facts: bool) -> None:
        require_usable(connection)
        self._asks_facts = asks_facts
        statements = [begin_statement(connection), _FACTS if asks_facts else None]
        super().__init__(connection, b"; ".join(filter(None, statements)) or None)

    @property
    def is_listening(self) -> bool:
        return self._asks_facts and self.results[-1].get_value(0, 0) != b"0"

    @property
    def has_gssapi_encryption(self) -> bool:
        return self._asks_facts and self.results[-1].get_value(0, 1) != b"0"

    def pump(self) -> bool:
        """Continue; True when the transaction is open; raises the server's error once."""
        was_done = self.is_done
        if super().pump() and not was_done and self.error is not None:
            raise self.error
        return self.is_done

    def abort(self, reason: str) -> None:
        del reason  # no COPY has begun that could report it
        self.is_aborted = True
