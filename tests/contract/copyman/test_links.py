"""Which link is chosen, and the reason that is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from copyd.copyman import (
    CopyFail,
    NullProducer,
    NullReceiver,
    StatementProducer,
    StatementReceiver,
    transfer,
)
from tests.contract.copyman.conftest import eventually, is_usable

if TYPE_CHECKING:
    from copyd.copyman import LinkName
    from tests.contract.copyman.conftest import Bench

NUMBERS = "COPY (SELECT generate_series(1, 10000)) TO STDOUT"


@pytest.mark.parametrize(
    ("asked", "is_tls", "link"),
    [
        ("auto", False, ("plain", "no encryption")),
        ("wire", False, ("plain", "no encryption")),
        ("auto", True, ("tls", "TLS through libpq's own session")),
        ("wire", True, ("tls", "TLS through libpq's own session")),
        ("libpq", False, ("libpq", "asked for")),
        ("libpq", True, ("libpq", "asked for")),
    ],
)
def test_the_fastest_link_that_fits_is_chosen_and_says_why(
    plain_bench: Bench, asked: LinkName, is_tls: bool, link: tuple[str, str]
) -> None:
    if is_tls and not plain_bench.server.has_tls:
        pytest.skip("this PostgreSQL has no TLS")
    conninfo = plain_bench.conninfo(is_tcp=True, is_tls=is_tls)
    with psycopg.connect(conninfo) as connection:
        producer = StatementProducer(connection, NUMBERS, link=asked)
        assert producer.link is None
        transfer(producer, NullReceiver())
        assert producer.link == link


def test_a_connection_that_listens_uses_libpq_and_keeps_its_notifications(
    plain_bench: Bench,
) -> None:
    plain_bench.execute("CREATE TABLE t (i int)")
    connection = plain_bench.connect()
    connection.execute("LISTEN news")
    heard: list[str] = []
    connection.add_notify_handler(lambda notify: heard.append(notify.payload))
    receiver = StatementReceiver(connection, "COPY t FROM STDIN")
    plain_bench.execute("NOTIFY news, 'before'")
    transfer(plain_bench.producer(NUMBERS), receiver)
    plain_bench.execute("NOTIFY news, 'after'")
    assert receiver.link is not None
    assert receiver.link.name == "libpq"
    assert "LISTENs" in receiver.link.reason
    assert eventually(lambda: is_usable(connection) and heard == ["before", "after"])


def test_the_byte_stream_is_refused_to_a_connection_that_listens(plain_bench: Bench) -> None:
    plain_bench.execute("CREATE TABLE t (i int)")
    connection = plain_bench.connect()
    connection.execute("LISTEN news")
    receiver = StatementReceiver(connection, "COPY t FROM STDIN", link="wire")
    with pytest.raises(CopyFail, match='link "wire" cannot serve this connection'):
        transfer(NullProducer(), receiver)
    assert is_usable(connection)
    connection.execute("UNLISTEN *")
    transfer(NullProducer(), receiver)
    assert receiver.link is not None
    assert receiver.link.name == "plain"


def test_one_copy_may_use_every_link_at_once(tls_bench: Bench) -> None:
    connections = {
        "plain": psycopg.connect(tls_bench.conninfo(), autocommit=True),
        "tls": psycopg.connect(tls_bench.conninfo(is_tcp=True, is_tls=True), autocommit=True),
        "libpq": psycopg.connect(tls_bench.conninfo(is_tcp=True, is_tls=True), autocommit=True),
    }
    receivers = {}
    for name, connection in connections.items():
        tls_bench.stack.enter_context(connection)
        tls_bench.execute(f"CREATE TABLE t_{name} (i int)")
        wanted: LinkName = "libpq" if name == "libpq" else "auto"
        receivers[name] = StatementReceiver(connection, f"COPY t_{name} FROM STDIN", link=wanted)
    transfer(tls_bench.producer(NUMBERS), *receivers.values())
    for name, receiver in receivers.items():
        assert receiver.link is not None
        assert receiver.link.name == name
        assert receiver.rows == tls_bench.count(f"t_{name}") == 10_000


def test_libpq_notices_nothing_of_a_borrowed_tls_session(tls_bench: Bench) -> None:
    """Long enough for the records of both directions to be counted far beyond one buffer."""
    tls_bench.execute("CREATE TABLE t (x text)")
    source, target = tls_bench.connect(), tls_bench.connect()
    for _ in range(3):
        wide = "COPY (SELECT repeat('x', 3000) FROM generate_series(1, 2000)) TO STDOUT"
        transfer(tls_bench.producer(wide, source), tls_bench.receiver("COPY t FROM STDIN", target))
        for connection in (source, target):
            row = connection.execute("SELECT repeat('y', 100000)").fetchone()
            assert row == ("y" * 100_000,)
    assert tls_bench.count("t") == 6_000
