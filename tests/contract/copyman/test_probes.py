"""Rows that a server is to look at and not to keep, whatever link they travel on."""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING, TypeVar

import pytest
from psycopg import errors

from copyd.copyman.batching.refusal import Refusal
from copyd.copyman.batching.session import BROKEN_OFF, Session
from copyd.copyman.chunk import PayloadChunk
from copyd.copyman.links import choose
from tests.contract.copyman.conftest import eventually, is_usable

if TYPE_CHECKING:
    from collections.abc import Generator

    from copyd.connection import Connection
    from tests.contract.copyman.conftest import Bench

T = TypeVar("T")
COPY_T = b"COPY t FROM STDIN"
MUCH = b"".join(b"%d\n" % number for number in range(1_000_000))


def open_session(bench: Bench) -> tuple[Connection, Session]:
    bench.execute("CREATE TABLE t (i int CHECK (i >= 0))")
    connection = bench.connect(autocommit=False)
    connection.execute("SAVEPOINT s")
    name = bench.links[connection]
    link = choose(connection, name, is_listening=False, has_gssapi_encryption=False)
    return connection, Session(connection, link)


def outcome(connection: Connection, session: Session, steps: Generator[bool, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
        poller = select.poll()
        poller.register(connection.fileno(), session.events)
        assert poller.poll(10_000)


def undo(connection: Connection, session: Session) -> None:
    session.queue(b"ROLLBACK TO SAVEPOINT s")
    outcome(connection, session, session.flush())


@pytest.mark.parametrize(
    ("data", "inserts", "found"),
    [
        (b"1\n2\n3\n", True, 3),
        (b"1\n2\n3\n", False, 0),
        (b"1\n-2\n3\n", True, "23514 2"),
        (b"1\n-2\n3\n", False, "23514 2"),
        (b"1\n" + BROKEN_OFF.encode() + b"\n", False, "22P02 2"),
        (b"x\n" + MUCH, True, "22P02 1"),
        (b"x\n" + MUCH, False, "22P02 1"),
        (MUCH, True, 1_000_000),
        (MUCH, False, 0),
        (b"", True, 0),
        (b"", False, 0),
    ],
)
def test_a_probe_says_what_a_copy_would_and_leaves_the_connection_usable(
    bench: Bench, data: bytes, inserts: bool, found: int | str
) -> None:
    connection, session = open_session(bench)
    seen = outcome(
        connection, session, session.probe(COPY_T, PayloadChunk([data]), inserts=inserts)
    )
    said = f"{seen.sqlstate} {seen.line}" if isinstance(seen, Refusal) else seen
    undo(connection, session)
    assert said == found
    assert is_usable(connection)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_table_that_is_not_there_is_an_error_though_its_rows_are_on_the_way(bench: Bench) -> None:
    connection, session = open_session(bench)
    with pytest.raises(errors.UndefinedTable):
        outcome(
            connection,
            session,
            session.probe(b"COPY absent FROM STDIN", PayloadChunk([MUCH]), inserts=False),
        )
    undo(connection, session)
    assert is_usable(connection)


def test_one_who_cancels_a_probe_is_not_taken_for_us(bench: Bench) -> None:
    connection, session = open_session(bench)
    bench.execute(
        "CREATE FUNCTION f() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(60); END' LANGUAGE plpgsql"
    )
    bench.execute("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()")
    pid = connection.info.backend_pid

    def cancel() -> None:
        asleep = f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"
        eventually(lambda: bench.rows(asleep) == [(True,)])

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(errors.QueryCanceled):
        outcome(connection, session, session.probe(COPY_T, PayloadChunk([b"1\n"]), inserts=False))
    canceller.join()
    undo(connection, session)
    assert is_usable(connection)
