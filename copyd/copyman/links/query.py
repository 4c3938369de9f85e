"""libpq around a COPY, for all links: statements, the preamble, errors and notices."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, cast

import psycopg
from psycopg import errors
from psycopg.pq import DiagnosticField, ExecStatus, PipelineStatus, TransactionStatus

from copyd.wire import error_fields

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from copyd.connection import Connection

COPY_STATES = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH)

_KNOWN_FIELDS = frozenset(DiagnosticField)
_MORE_LINES = {
    DiagnosticField.MESSAGE_DETAIL: "DETAIL",
    DiagnosticField.MESSAGE_HINT: "HINT",
    DiagnosticField.CONTEXT: "CONTEXT",
}
# Decision: One question before COPY
# libpq reports GSSAPI only from version 16 on, and then not whether it encrypts.
_FACTS = b"""
    SELECT (SELECT count(*) FROM pg_catalog.pg_listening_channels()),
        (SELECT count(*) FROM pg_catalog.pg_stat_gssapi
            WHERE pid = pg_catalog.pg_backend_pid() AND encrypted)
"""


class Query:
    """A statement, sent through libpq without waiting.

    An empty statement makes libpq read; None sends nothing. The constructor and `pump` raise
    psycopg.OperationalError if the connection is lost; `pump` then closes it.
    """

    progress = 0
    can_resume = False

    def __init__(self, connection: Connection, statement: bytes | None) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self.results: list[PGresult] = []
        self.is_done = statement is None
        if statement is not None:
            self._pgconn.send_query(statement)

    def fileno(self) -> int | None:
        return None if self.is_done else self._pgconn.socket

    @property
    def events(self) -> int:
        return select.POLLIN | (select.POLLOUT if self._pgconn.flush() else 0)

    def pump(self) -> bool:
        """Read the server's answer so far; True when ``results`` are complete."""
        try:
            self.is_done = self.is_done or self._read()
        except BaseException:
            self.close()
            raise
        return self.is_done

    def _read(self) -> bool:
        self._pgconn.flush()
        self._pgconn.consume_input()
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                return True
            self.results.append(result)
            if result.status in COPY_STATES:
                return True  # libpq repeats this result for ever
        return False

    def close(self) -> None:
        self.is_done = True
        self._connection.close()

    @property
    def error(self) -> psycopg.Error | None:
        """The first error among the results, as psycopg raises it."""
        for result in self.results:
            if result.status == ExecStatus.FATAL_ERROR:
                return errors.error_from_result(result, encoding=self._connection.info.encoding)
        return None


def require_usable(connection: Connection) -> None:
    """Raise psycopg.Error if the connection is closed or cannot enter COPY now."""
    if connection.closed:
        raise psycopg.OperationalError("the connection is closed")
    pgconn = connection.pgconn
    if pgconn.pipeline_status != PipelineStatus.OFF:
        raise psycopg.InterfaceError("COPY cannot be used in pipeline mode; leave it first")
    status = TransactionStatus(pgconn.transaction_status)
    if status not in (TransactionStatus.IDLE, TransactionStatus.INTRANS):
        raise psycopg.InterfaceError(f"the connection is not free for COPY: it is {status.name}")


def begin_statement(connection: Connection) -> bytes | None:
    """Return psycopg's BEGIN for this connection; None in autocommit or in a transaction."""
    if connection.autocommit or connection.pgconn.transaction_status != TransactionStatus.IDLE:
        return None
    words = ["BEGIN"]
    if connection.isolation_level is not None:
        words.append("ISOLATION LEVEL " + connection.isolation_level.name.replace("_", " "))
    if connection.read_only is not None:
        words.append("READ ONLY" if connection.read_only else "READ WRITE")
    if connection.deferrable is not None:
        words.append("DEFERRABLE" if connection.deferrable else "NOT DEFERRABLE")
    return " ".join(words).encode()


class Preamble(Query):
    """At most a round trip, on an idle connection or in its open transaction.

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


class _Notice:
    """The part of a PGresult read by psycopg for a notice."""

    def __init__(self, body: bytes) -> None:
        self._fields = error_fields(body)

    def error_field(self, code: DiagnosticField) -> bytes | None:
        return self._fields.get(code)


def hand_on_notice(connection: Connection, body: bytes) -> None:
    """Pass a NoticeResponse to the notice handlers of `connection`, as libpq would."""
    handler = connection.pgconn.notice_handler
    if handler is not None:
        handler(cast("PGresult", _Notice(body)))


def server_error(body: bytes, encoding: str) -> psycopg.Error:
    """Return psycopg's exception for an ErrorResponse."""
    fields: dict[int, bytes | None] = {
        DiagnosticField(code): text
        for code, text in error_fields(body).items()
        if code in _KNOWN_FIELDS
    }
    said = {field: (text or b"").decode(encoding, "replace") for field, text in fields.items()}
    lines = [said.get(DiagnosticField.MESSAGE_PRIMARY, "the server gave no reason")]
    lines += [f"{title}:  {said[field]}" for field, title in _MORE_LINES.items() if field in said]
    state = said.get(DiagnosticField.SQLSTATE, "")
    try:
        kind = errors.lookup(state)
    except KeyError:
        kind = errors.get_base_exception(state)
    return kind("\n".join(lines), info=fields, encoding=encoding)
