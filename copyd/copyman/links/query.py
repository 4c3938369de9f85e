"""libpq around a COPY, for all links: statements, errors and notices."""

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
                return True
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
    """Refuse a connection that cannot enter COPY now.

    Raises psycopg.InterfaceError if the connection is busy, in a failed transaction or in pipeline
    mode, psycopg.OperationalError if it is closed.
    """
    if connection.closed:
        raise psycopg.OperationalError("the connection is closed")
    pgconn = connection.pgconn
    if pgconn.pipeline_status != PipelineStatus.OFF:
        raise psycopg.InterfaceError("COPY cannot be used in pipeline mode; leave it first")
    status = TransactionStatus(pgconn.transaction_status)
    if status not in (TransactionStatus.IDLE, TransactionStatus.INTRANS):
        raise psycopg.InterfaceError(f"the connection is not free for COPY: it is {status.name}")


def begin_statement(connection: Connection) -> bytes | None:
    """Return the BEGIN that psycopg would send now; None in autocommit or in a transaction."""
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


class _Notice:
    """The part of a PGresult that psycopg reads of a notice."""

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
    """Return the exception that psycopg would raise for an ErrorResponse."""
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
