"""What is counted, and that every format arrives as it left, on every link."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from psycopg import errors

from copyd.copyman import (
    CallReceiver,
    CopyFail,
    CopyManager,
    IteratorProducer,
    NullReceiver,
    ReceiverFault,
    transfer,
)
from tests.contract.copyman.conftest import is_usable
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from tests.contract.copyman.conftest import Bench

SAMPLES = """
    CREATE TABLE source (i int, x text, b bytea, n numeric, m timestamptz);
    INSERT INTO source VALUES
        (1, E'tab\\t newline\\n return\\r backslash\\\\ quote" comma, é', '\\x000a0dff', 1.50, now()),
        (2, '', '', 'NaN', 'infinity'),
        (3, NULL, NULL, NULL, NULL),
        (4, '\\N', '\\x5c', -1e100, '-infinity'),
        (5, '\\.', '\\x2e', 0, '2000-01-01 00:00Z'),
        (6, E'd\\n\\nd\\n', '\\x640a64', 7, '0001-01-01 00:00Z BC');
    INSERT INTO source SELECT i, repeat(E'wide\\n', i % 50), NULL, i / 7.0, NULL
        FROM generate_series(7, 3000) i;
    CREATE TABLE target (LIKE source)
"""
DIFFERENCE = """
    SELECT count(*) FROM (
        (TABLE source EXCEPT ALL TABLE target) UNION ALL (TABLE target EXCEPT ALL TABLE source)
    ) d
"""
FORMATS = ["TEXT", "TEXT, DELIMITER ','", "CSV", "CSV, HEADER", "CSV, FORCE_QUOTE *", "BINARY"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_value_arrives_as_it_was(bench: Bench, form: str) -> None:
    bench.execute(SAMPLES)
    into = form.replace(", FORCE_QUOTE *", "")
    producer = bench.producer(f"COPY source TO STDOUT (FORMAT {form})")
    receiver = bench.receiver(f"COPY target FROM STDIN (FORMAT {into})")
    transfer(producer, receiver)
    assert producer.rows == receiver.rows == 3_000
    assert bench.rows(DIFFERENCE) == [(0,)]


@pytest.mark.parametrize(
    ("form", "rows", "messages"),
    [
        ("TEXT", 100, 100), ("CSV", 100, 100), ("CSV, HEADER", 100, 101), ("BINARY", 100, 101),
        ("TEXT", 0, 0), ("CSV", 0, 0), ("CSV, HEADER", 0, 1), ("BINARY", 0, 1),
    ],
)  # fmt: skip
def test_rows_are_the_servers_count_and_messages_what_it_sent(
    bench: Bench, form: str, rows: int, messages: int
) -> None:
    bench.execute("CREATE TABLE t (i int)")
    source = f"SELECT i::int FROM generate_series(1, {rows}) i"
    producer = bench.producer(f"COPY ({source}) TO STDOUT (FORMAT {form})")
    receiver = bench.receiver(f"COPY t FROM STDIN (FORMAT {form})")
    assert (producer.rows, receiver.rows, receiver.tag) == (None, None, None)
    counted, _ = transfer(producer, receiver)
    assert counted == messages
    assert (producer.rows, receiver.rows) == (rows, rows)
    assert receiver.tag is not None
    assert receiver.tag.text == f"COPY {rows}"
    assert bench.count("t") == rows


def test_bytes_are_payload_whatever_the_producer(bench: Bench) -> None:
    statement = "COPY (SELECT i, repeat('x', i) FROM generate_series(1, 500) i) TO STDOUT"
    chunks: list[list[bytes]] = []
    counts = transfer(bench.producer(statement), CallReceiver(chunks.append))
    assert counts == (500, sum(len(line) for chunk in chunks for line in chunk))
    assert transfer(IteratorProducer(chunks), NullReceiver()) == counts


def test_the_steps_add_up_to_the_whole(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer = bench.producer("COPY (SELECT i FROM generate_series(1, 200000) i) TO STDOUT")
    with CopyManager(producer, bench.receiver("COPY t FROM STDIN")) as copy:
        steps = list(copy)
    assert len(steps) > 3
    assert sum(messages for messages, _ in steps) == producer.rows == 200_000
    assert sum(size for _, size in steps) == 1_288_895


def test_rows_that_the_destination_filters_out_are_not_in_its_count(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer = bench.producer("COPY (SELECT i FROM generate_series(1, 100) i) TO STDOUT")
    receiver = bench.receiver("COPY t FROM STDIN WHERE i <= 30")
    transfer(producer, receiver)
    assert (producer.rows, receiver.rows) == (100, 30)


def test_there_is_no_count_after_a_failure(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    producer = bench.producer("COPY (SELECT 'x' FROM generate_series(1, 10)) TO STDOUT")
    receiver = bench.receiver("COPY t FROM STDIN")
    with pytest.raises(CopyFail):
        transfer(producer, receiver)
    assert (receiver.rows, receiver.tag) == (None, None)


@pytest.mark.parametrize("form", ["TEXT", "BINARY"])
def test_rows_without_columns_are_counted_too(bench: Bench, form: str) -> None:
    bench.execute("CREATE TABLE t ()")
    source = bench.producer(f"COPY (SELECT FROM generate_series(1, 10)) TO STDOUT (FORMAT {form})")
    receiver = bench.receiver(f"COPY t FROM STDIN (FORMAT {form})")
    transfer(source, receiver)
    assert receiver.rows == bench.count("t") == 10


@pytest.mark.parametrize(
    ("sent", "expected", "kind"),
    [
        ("TEXT", "BINARY", errors.BadCopyFileFormat),
        ("CSV", "TEXT", errors.InvalidTextRepresentation),
        ("BINARY", "TEXT", errors.Error),
    ],
)
def test_formats_that_do_not_match_fail_with_the_servers_error(
    bench: Bench, sent: str, expected: str, kind: type[Exception]
) -> None:
    bench.execute("CREATE TABLE t (i int, j int)")
    source = f"COPY (SELECT i, i FROM generate_series(1, 10000) i) TO STDOUT (FORMAT {sent})"
    producer = bench.producer(source)
    receiver = bench.receiver(f"COPY t FROM STDIN (FORMAT {expected})")
    with pytest.raises(CopyFail) as caught:
        transfer(producer, receiver)
    assert isinstance(caught.value.__cause__, ReceiverFault)
    assert isinstance(caught.value.__cause__.faults[receiver], kind)
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_binary_types_that_do_not_match_fail_with_the_servers_error(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int8)")
    producer = bench.producer("COPY (SELECT 1::int4) TO STDOUT (FORMAT BINARY)")
    receiver = bench.receiver("COPY t FROM STDIN (FORMAT BINARY)")
    with pytest.raises(CopyFail, match=r"incorrect binary data format|unexpected end|insufficient"):
        transfer(producer, receiver)
    assert bench.count("t") == 0
    assert is_usable(receiver.connection)


@pytest.mark.parametrize("form", ["TEXT", "CSV", "BINARY"])
@pytest.mark.parametrize("piece", [11, 512])
def test_data_that_arrives_in_tiny_pieces_is_the_same_data(
    bench: Bench, form: str, piece: int
) -> None:
    bench.execute(SAMPLES + "; DELETE FROM source WHERE i > 60")
    with Proxy(bench.server.port) as proxy:
        connection = bench.connect(port=proxy.port)
        proxy.to_client.piece = piece
        producer = bench.producer(f"COPY source TO STDOUT (FORMAT {form})", connection)
        transfer(producer, bench.receiver(f"COPY target FROM STDIN (FORMAT {form})"))
        connection.close()
    assert bench.rows(DIFFERENCE) == [(0,)]


def test_batches_of_one_row_are_the_same_data(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (i int)")
    transfer(
        IteratorProducer([b"%d\n" % i] for i in range(3_000)), bench.receiver("COPY t FROM STDIN")
    )
    assert bench.rows("SELECT count(*), sum(i) FROM t") == [(3_000, 4_498_500)]


@pytest.mark.parametrize("form", ["TEXT", "BINARY"])
def test_a_row_of_many_chunks_arrives_whole_first_in_the_middle_and_last(
    bench: Bench, form: str
) -> None:
    bench.execute("CREATE TABLE t (i int, x text)")
    size = "CASE WHEN i IN (1, 50, 100) THEN 4000000 ELSE 10 END"
    source = f"SELECT i::int, repeat('d', {size}) FROM generate_series(1, 100) i"
    producer = bench.producer(f"COPY ({source}) TO STDOUT (FORMAT {form})")
    receiver = bench.receiver(f"COPY t FROM STDIN (FORMAT {form})")
    messages, _ = transfer(producer, receiver)
    assert messages == (100 if form == "TEXT" else 101)
    assert bench.rows("SELECT count(*), sum(length(x)) FROM t") == [(100, 12_000_970)]


MEASURE_MEMORY = """
import sys
from pathlib import Path
import psycopg
from copyd.copyman import NullReceiver, StatementProducer, StatementReceiver, transfer

def peak():
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) * 1024

conninfo, source = sys.argv[1:]
with psycopg.connect(conninfo, autocommit=True) as a, psycopg.connect(conninfo, autocommit=True) as b:
    producer, receiver = StatementProducer(a, source), StatementReceiver(b, "COPY t FROM STDIN")
    before = peak()
    transfer(producer, receiver)
    print(peak() - before)
"""


@pytest.mark.parametrize(
    "source",
    [
        "COPY (SELECT repeat('x', 110000000)) TO STDOUT",
        "COPY (SELECT i FROM generate_series(1, 1000000) i) TO STDOUT",
    ],
    ids=["rows of 110 MB", "a million rows"],
)
@pytest.mark.parametrize("link", ["plain", "tls"])
def test_memory_stays_flat(plain_bench: Bench, link: str, source: str) -> None:
    if link == "tls" and not plain_bench.server.has_tls:
        pytest.skip("this PostgreSQL has no TLS")
    plain_bench.execute("CREATE UNLOGGED TABLE t (x text)")
    conninfo = plain_bench.conninfo(is_tcp=link == "tls", is_tls=link == "tls")
    command = [sys.executable, "-c", MEASURE_MEMORY, conninfo, source]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 16 * 1024 * 1024


def test_encodings_that_differ_are_refused_before_any_data_moves(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (x text)")
    producer, receiver = (
        bench.producer("COPY (SELECT 'é') TO STDOUT"),
        bench.receiver("COPY t FROM STDIN"),
    )
    receiver.connection.execute("SET client_encoding = LATIN1")
    with pytest.raises(CopyFail, match="client_encoding is LATIN1, the producer's is UTF8"):
        transfer(producer, receiver)
    assert bench.count("t") == 0
    assert is_usable(producer.connection)
    assert is_usable(receiver.connection)


def test_encodings_that_agree_are_good_whichever_they_are(bench: Bench) -> None:
    bench.execute("CREATE TABLE t (x text)")
    producer, receiver = (
        bench.producer("COPY (SELECT 'é') TO STDOUT"),
        bench.receiver("COPY t FROM STDIN"),
    )
    for connection in (producer.connection, receiver.connection):
        connection.execute("SET client_encoding = LATIN1")
    assert transfer(producer, receiver) == (1, 2)
    assert bench.rows("TABLE t") == [("é",)]
