"""Rejects on a real server: their file loads again, and its ledger resolves what is pending."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import psycopg
import pytest

from copyd.copyman.batching.refusal import Refusal, Reject
from copyd.loading.ledger import Entry, Ledger, Position
from copyd.loading.rejects import CommitOutcome, LoadedTable, RejectFiles, kept, prune
from copyd.names import TableName
from copyd.transfers.destination.pending_rejects import resolve_pending
from copyd.transfers.server import Server as Place
from tests.support.reject_files import NOW, pending, published, tree

if TYPE_CHECKING:
    from pathlib import Path

    from copyd.loading.rejects import Resolution
    from tests.support.servers import Server

MOMENT = datetime(2024, 1, 1, tzinfo=timezone.utc)
ENTRY = Entry(
    schema="public",
    name="t",
    relation=1,
    transfer="orders",
    run="before",
    position=Position(1, 1, 1),
    snapshot="1:1:",
    horizon=1,
    full_horizon=1,
    mark=None,
    filenode=1,
    rows=0,
    size=0,
    format="text",
    fingerprint="f",
    committed_at=MOMENT,
    full_at=MOMENT,
    after_commit_done=True,
)
LEDGER = Ledger()


@pytest.fixture
def eu(server: Server, database: str) -> Place:
    return Place("eu", server.conninfo(database))


def record(eu: Place, *runs: str) -> None:
    """Let runs commit, one after the other."""
    for run in runs:
        with psycopg.connect(eu.conninfo) as connection:
            LEDGER.prepare(connection)
            connection.execute(LEDGER.record(replace(ENTRY, run=run)))


def resolve(root: Path, place: Place) -> tuple[Resolution, ...]:
    return resolve_pending(place, root, "orders")


@pytest.mark.parametrize(
    ("runs", "outcome"),
    [
        (["before", "r1"], CommitOutcome.COMMITTED),
        (["before", "r1", "next"], CommitOutcome.COMMITTED),
        (["before"], CommitOutcome.ROLLED_BACK),
        (["before", "next"], CommitOutcome.ROLLED_BACK),
        (["before", "next", "third"], CommitOutcome.UNDECIDED),
    ],
)
def test_the_ledger_says_what_became_of_the_commit(
    tmp_path: Path, eu: Place, runs: list[str], outcome: CommitOutcome
) -> None:
    record(eu, *runs)
    pending(tmp_path).close()
    (resolved,) = resolve(tmp_path, eu)
    assert resolved.outcome is outcome
    assert {name.split("/")[2] for name in tree(tmp_path)} == {
        CommitOutcome.COMMITTED: {"r1"},
        CommitOutcome.ROLLED_BACK: set(),
        CommitOutcome.UNDECIDED: {"r1.pending"},
    }[outcome]
    with psycopg.connect(eu.conninfo) as connection:
        assert connection.execute("SELECT run FROM copyd.ledger").fetchall() == [(runs[-1],)]


def test_a_destination_that_is_away_leaves_its_rejects_pending(tmp_path: Path, eu: Place) -> None:
    pending(tmp_path).close()
    away = Place("eu", "host=127.0.0.1 port=1 dbname=x")
    assert resolve(tmp_path, Place("us", "host=127.0.0.1 port=1 dbname=x")) == ()
    for place, reason in (
        (away, "cannot connect to eu"),
        (eu, "eu has no ledger in schema copyd any more"),
    ):
        (resolved,) = resolve(tmp_path, place)
        assert resolved.outcome is CommitOutcome.UNDECIDED
        assert reason in str(resolved.reason)
    record(eu, "before", "r1")
    (resolved,) = resolve(tmp_path, eu)
    assert resolved.outcome is CommitOutcome.COMMITTED


def test_a_row_of_the_ledger_that_is_held_decides_nothing_yet(tmp_path: Path, eu: Place) -> None:
    record(eu, "before")
    pending(tmp_path).close()
    with psycopg.connect(eu.conninfo) as committing:
        committing.execute(LEDGER.record(replace(ENTRY, run="r1")))
        (resolved,) = resolve(tmp_path, eu)
        assert resolved.outcome is CommitOutcome.UNDECIDED
        assert "lock timeout" in str(resolved.reason)
    (resolved,) = resolve(tmp_path, eu)
    assert resolved.outcome is CommitOutcome.COMMITTED


def test_old_rejects_go(tmp_path: Path, eu: Place) -> None:
    record(eu, "before", "r1")
    pending(tmp_path).close()
    resolve(tmp_path, eu)
    prune(tmp_path, "orders", keep=100.0, now=NOW)
    assert tree(tmp_path)
    prune(tmp_path, "orders", keep=100.0, now=NOW + 101.0)
    assert tree(tmp_path) == set()


def test_the_file_loads_again_as_it_stands(tmp_path: Path, eu: Place) -> None:
    """Rows are refused one by one, with everything that text escapes; without the check all load."""
    values = [(n, f"a\tb\\N\\.\n\r\x01ä{n}") for n in range(50)]
    with psycopg.connect(eu.conninfo, autocommit=True) as connection:
        connection.execute('CREATE TABLE source (id int, "Note" text)')
        connection.cursor().executemany("INSERT INTO source VALUES (%s, %s)", values)
        connection.execute("INSERT INTO source VALUES (NULL, NULL)")
        connection.execute('CREATE TABLE t ("Note" text, id int, CONSTRAINT none CHECK (false))')
        with connection.cursor().copy('COPY source (id, "Note") TO STDOUT') as copy:
            received = b"".join(copy)
        made = RejectFiles(tmp_path, transfer="orders", destination="eu", run="r1")
        for ordinal, row in enumerate(received.splitlines(keepends=True), 1):
            try:
                with connection.cursor().copy('COPY t (id, "Note") FROM STDIN') as copy:
                    copy.write(row)
            except psycopg.Error as error:
                made.add(TableName("public", "t"), Reject(ordinal, 1, row, Refusal.of(error)))
        table = LoadedTable("public", "t", ("id", "Note"), None)
        made.write_manifest(ledger="copyd", tables=[table], now=NOW)
        made.publish()
        (found,) = kept(tmp_path, "orders")
        assert (found.rows, dict(found.reasons)) == (51, {"23514": 51})
        connection.execute("ALTER TABLE t DROP CONSTRAINT none")
        with connection.cursor().copy(str(found.statement).encode()) as copy:
            copy.write(found.data.read_bytes())
        query = 'TABLE source EXCEPT ALL SELECT id, "Note" FROM t'
        assert connection.execute(query).fetchall() == []
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (51,)


def test_nobody_is_connected_to_where_nothing_is_pending(tmp_path: Path) -> None:
    published(tmp_path)
    assert resolve(tmp_path, Place("eu", "host=127.0.0.1 port=1 dbname=x")) == ()
