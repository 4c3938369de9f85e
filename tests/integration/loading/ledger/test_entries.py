"""What is recorded is kept exactly, and is what is claimed."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from copyd.errors import CopydError
from copyd.loading.ledger import Entry, Position
from copyd.names import TableName
from tests.support.ledger_database import (
    DEADLINE,
    ENTRY,
    LINES,
    ORDERS,
    LedgerDatabase,
    claim,
    claim_all,
    note_done,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ODD = [
    TableName("public", "x"),
    TableName("public", "X"),
    TableName("public", "../x"),
    TableName("public", 'say "x"; -- %s {} \\'),
    TableName("public", "\N{LATIN SMALL LETTER A WITH RING ABOVE}"),
    TableName("public", "a\N{COMBINING RING ABOVE}"),
    TableName("public", "n" * 63),
    TableName("public", "n" * 62),
    TableName("Public", "x"),
    TableName("public.x", "x"),
    TableName("public", "x.x"),
    TableName("public", " "),
]

LEAST = replace(
    ENTRY, horizon=None, full_horizon=None, mark=None, filenode=None, full_at=None,
    position=Position(0, 0, 0), rows=0, size=0, after_commit_done=True,
)  # fmt: skip


@pytest.mark.parametrize("entry", [ENTRY, LEAST], ids=["every field", "what may lack"])
def test_what_is_recorded_is_what_is_claimed(place: LedgerDatabase, entry: Entry) -> None:
    ledger, connection = place.prepared(), place.open()
    connection.execute("SET DateStyle = 'German, DMY'")
    connection.execute("SET TimeZone = 'Asia/Kathmandu'")
    assert claim(ledger, connection, ORDERS) is None
    for written in (replace(entry, run="run 0", rows=7), entry):
        connection.execute(ledger.record(written))
        found = claim(ledger, connection, ORDERS)
        assert found is not None
        assert replace(found, committed_at=written.committed_at) == written
    before = claim(ledger, connection, ORDERS)
    connection.commit()
    assert claim(ledger, connection, ORDERS) == before


def test_the_time_of_writing_is_the_servers(place: LedgerDatabase) -> None:
    ledger, connection = place.prepared(), place.open()
    clock = "SELECT pg_catalog.clock_timestamp()"
    [(before,)] = connection.execute(clock).fetchall()
    connection.execute(ledger.record(ENTRY))
    [(after,)] = connection.execute(clock).fetchall()
    found = claim(ledger, connection, ORDERS)
    assert found is not None
    assert before < found.committed_at < after < before + timedelta(seconds=DEADLINE)


def test_what_is_rolled_back_leaves_what_was_there(place: LedgerDatabase) -> None:
    ledger, connection = place.prepared(), place.open()
    connection.execute(ledger.record(ENTRY))
    connection.commit()
    claim(ledger, connection, ORDERS)
    connection.execute(ledger.record(replace(ENTRY, run="run 2", rows=5)))
    connection.rollback()
    found = claim(ledger, connection, ORDERS)
    assert found is not None
    assert (found.run, found.rows) == (ENTRY.run, ENTRY.rows)


def test_names_are_kept_apart(place: LedgerDatabase) -> None:
    ledger, connection = place.prepared(), place.open()
    assert set(claim_all(ledger, connection, ODD).values()) == {None}
    for number, name in enumerate(ODD):
        connection.execute(ledger.record(replace(ENTRY, schema=name[0], name=name[1], rows=number)))
    connection.commit()
    found = claim_all(ledger, connection, reversed(ODD))
    told = {name: entry and (entry.schema, entry.name, entry.rows) for name, entry in found.items()}
    assert told == {name: (*name, number) for number, name in enumerate(ODD)}
    for name in ODD:
        assert claim(ledger, connection, name) == found[name]


def test_some_of_several_tables_were_loaded_before(place: LedgerDatabase) -> None:
    ledger, connection = place.prepared(), place.open()
    connection.execute(ledger.record(ENTRY))
    found = claim_all(ledger, connection, [ORDERS, LINES, ORDERS])
    assert (found[ORDERS] is not None, found[LINES]) == (True, None)
    assert claim_all(ledger, connection, []) == {}


def test_a_row_that_was_locked_and_committed_without_a_load_is_no_entry(
    place: LedgerDatabase,
) -> None:
    ledger, connection = place.prepared(), place.open()
    claim(ledger, connection, ORDERS)
    connection.commit()
    assert claim(ledger, connection, ORDERS) is None
    assert place.ask("SELECT count(*) FROM copyd.ledger") == [(1,)]


def test_a_row_that_was_emptied_by_hand_is_refused(place: LedgerDatabase) -> None:
    ledger, connection = place.prepared(), place.open()
    connection.execute(ledger.record(ENTRY))
    connection.commit()
    place.ask("UPDATE copyd.ledger SET lsn = NULL, fingerprint = NULL")
    with pytest.raises(CopydError, match=r"public\.orders .* lacks lsn, fingerprint;"):
        claim(ledger, connection, ORDERS)


def test_after_commit_is_noted_for_the_run_that_loaded_the_table(place: LedgerDatabase) -> None:
    ledger, connection = place.prepared(), place.open()
    connection.execute(ledger.record(ENTRY))
    connection.execute(ledger.record(replace(ENTRY, name="lines", run="another")))
    note_done(ledger, connection, [LINES, ORDERS, TableName("public", "none")], ENTRY.run)
    connection.commit()
    found = claim_all(ledger, connection, [ORDERS, LINES, TableName("public", "none")])
    told = [entry and entry.after_commit_done for entry in found.values()]
    assert told == [False, None, True]


def test_a_check_is_one_question_and_a_claim_one_round_trip(
    place: LedgerDatabase, folder: Path
) -> None:
    ledger, connection = place.prepared(), place.open()
    connection.execute("SELECT 1")  # the transaction has begun
    asked: list[Callable[[], object]] = [
        lambda: ledger.prepare(connection),
        lambda: claim_all(ledger, connection, ODD),
        lambda: ledger.has_committed(connection, *ORDERS, "run"),
    ]
    trips: list[int] = []
    for number, ask in enumerate(asked):
        path = folder / f"trace {number}"
        with path.open("w") as trace:
            connection.pgconn.trace(trace.fileno())
            ask()
            connection.pgconn.untrace()
        trips.append(len(re.findall(r"\tF\t\d+\t(?:Sync|Query)\b", path.read_text())))
    assert trips == [1, 1, 1]
