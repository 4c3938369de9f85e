"""What the ledger says of a COMMIT whose answer was lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from psycopg import sql
from psycopg.errors import LockNotAvailable

from tests.support.ledger_database import ENTRY, LINES, ORDERS, LedgerDatabase, answer, claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.servers import Server


def test_whether_a_run_committed_is_told(place: LedgerDatabase) -> None:
    ledger, connection = place.prepared(), place.open()
    assert not ledger.settle(connection, *ORDERS, ENTRY.run)
    ledger.record(connection, ENTRY)
    connection.rollback()
    assert not ledger.settle(connection, *ORDERS, ENTRY.run)
    ledger.record(connection, ENTRY)
    connection.commit()
    assert ledger.settle(connection, *ORDERS, ENTRY.run)
    assert not ledger.settle(connection, *ORDERS, "run 2")
    assert not ledger.settle(connection, *LINES, ENTRY.run)


def test_a_run_that_committed_is_known_when_another_has_committed_since(
    place: LedgerDatabase,
) -> None:
    ledger, connection = place.prepared(), place.open()
    for run in ("run 1", "run 2", "run 2"):
        ledger.record(connection, replace(ENTRY, run=run))
        connection.commit()
    told = [ledger.settle(connection, *ORDERS, run) for run in ("run 1", "run 2", "run 3")]
    assert told == [True, True, False]


@pytest.mark.parametrize("has_committed", [True, False])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_commit_that_is_under_way_is_waited_for(
    place: LedgerDatabase, is_first: bool, has_committed: bool
) -> None:
    ledger, old, new = place.prepared(), place.open(), place.open()
    if not is_first:
        ledger.record(old, replace(ENTRY, run="older"))
        old.commit()
    claim(ledger, old, ORDERS)
    ledger.record(old, ENTRY)
    with answer(lambda: ledger.settle(new, *ORDERS, ENTRY.run)) as told:
        place.wait_for(new, "Lock")
        if has_committed:
            old.commit()
        else:
            old.rollback()
    assert told == [has_committed]


def test_what_cannot_be_told_in_time_is_said_to_be_busy(place: LedgerDatabase) -> None:
    ledger, old, new = place.prepared(), place.open(), place.open(lock_timeout="1ms")
    ledger.record(old, ENTRY)
    with pytest.raises(LockNotAvailable):
        ledger.settle(new, *ORDERS, ENTRY.run)


@pytest.fixture
def absent_standby(server: Server) -> Iterator[Callable[[], None]]:
    """Commits that ask for it wait for a standby that never comes, until this is called."""

    def say(standbys: str) -> None:
        with server.connect() as admin:
            admin.execute(
                sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(standbys)
            )
            admin.execute("SELECT pg_reload_conf()")

    say("nobody")
    yield lambda: say("")
    say("")


def test_a_commit_that_waits_for_a_standby_is_not_taken_for_none(
    place: LedgerDatabase, absent_standby: Callable[[], None]
) -> None:
    ledger, old, new = place.prepared(), place.open(), place.open(lock_timeout="1ms")
    old.execute("SET synchronous_commit = on")
    ledger.record(old, ENTRY)
    with answer(old.commit) as answers:
        place.wait_for(old, "SyncRep")
        with pytest.raises(LockNotAvailable):
            ledger.settle(new, *ORDERS, ENTRY.run)
        new.rollback()
        absent_standby()
    assert answers == [None]
    assert ledger.settle(new, *ORDERS, ENTRY.run)
