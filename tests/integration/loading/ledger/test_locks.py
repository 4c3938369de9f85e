"""Rows of the ledger are locked while a run uses them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from psycopg.errors import LockNotAvailable

from copyd.loading.ledger import Entry
from copyd.names import TableName
from tests.support.ledger_database import (
    DEADLINE,
    ENTRY,
    LINES,
    ORDERS,
    LedgerDatabase,
    answer,
    claim,
    claim_all,
    note_done,
)

if TYPE_CHECKING:
    from copyd.connection import Connection


def test_a_table_that_another_run_holds_is_busy_and_then_shows_what_it_loaded(
    place: LedgerDatabase,
) -> None:
    ledger, first, second = place.prepared(), place.open(), place.open(lock_timeout="1ms")
    for run in ("run 1", "run 2"):  # a row that nobody sees yet, then one that is there
        claim(ledger, first, ORDERS)
        with pytest.raises(LockNotAvailable):
            claim_all(ledger, second, [LINES, ORDERS])
        second.rollback()
        first.execute(ledger.record(replace(ENTRY, run=run)))
        with pytest.raises(LockNotAvailable):
            claim(ledger, second, ORDERS)
        second.rollback()
        first.commit()
        found = claim(ledger, second, ORDERS)
        assert found is not None
        assert found.run == run
        second.rollback()


@pytest.mark.parametrize("is_first", [True, False])
def test_who_waits_for_a_row_gets_the_newest(place: LedgerDatabase, is_first: bool) -> None:
    ledger, first, second = place.prepared(), place.open(), place.open()
    if not is_first:
        first.execute(ledger.record(replace(ENTRY, run="older")))
        first.commit()
    second.execute("SELECT count(*) FROM copyd.ledger")  # the transaction has begun before
    first.execute(ledger.record(ENTRY))
    with answer(lambda: claim(ledger, second, ORDERS)) as found:
        place.wait_for(second, "Lock")
        first.commit()
    (entry,) = found
    assert isinstance(entry, Entry)
    assert entry.run == ENTRY.run


def test_tables_of_other_runs_are_not_held_up(place: LedgerDatabase) -> None:
    ledger, first, second = place.prepared(), place.open(), place.open(lock_timeout="1ms")
    claim(ledger, first, ORDERS)
    assert claim(ledger, second, LINES) is None


@pytest.mark.parametrize("is_there", [True, False])
def test_runs_that_name_their_tables_in_other_orders_do_not_deadlock(
    place: LedgerDatabase, is_there: bool
) -> None:
    ledger = place.prepared()
    names = [TableName("public", f"table {number}") for number in range(50)]
    together = threading.Barrier(2)

    def take(order: tuple[Connection, list[TableName]]) -> None:
        connection, tables = order
        for _ in range(20):
            together.wait(DEADLINE)
            claim_all(ledger, connection, tables)
            note_done(ledger, connection, tables, "run")
            if is_there:
                connection.commit()
            else:
                connection.rollback()

    orders = [(place.open(), names), (place.open(), names[::-1])]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(take, orders))
