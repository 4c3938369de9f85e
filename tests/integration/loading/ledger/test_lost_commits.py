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
    assert not ledger.has_committed(connection, *ORDERS, ENTRY.run)
    connection.execute(ledger.record(ENTRY))
    connection.rollback()
    assert not ledger.has_committed(connection, *ORDERS, ENTRY.run)
    connection.execute(ledger.record(ENTRY))
    connection.commit()
    assert ledger.has_committed(connection, *ORDERS, ENTRY.run)
    assert not ledger.has_committed(connection, *ORDERS, "run 2")
    assert not ledger.has_committed(connection, *LINES, ENTRY.run)


def test_a_run_that_committed_is_known_when_another_has_committed_since(
    place: LedgerDatabase,
) -> None:
    ledger, connection = place.prepared(), place.open()
    for run in ("run 1", "run 2", "run 2"):
        connection.execute(ledger.record(replace(ENTRY, run=run)))
        connection.commit()
    told = [ledger.has_committed(connection, *ORDERS, run) for run in ("run 1", "run 2", "run 3")]
    assert told == [True, True, False]


@pytest.mark.parametrize("has_committed", [True, False])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_commit_that_is_under_way_is_waited_for(
    place: LedgerDatabase, is_first: bool, has_committed: bool
) -> None:
    ledger, old, new = place.prepared(), place.open(), place.open()
    if not is_first:
        old.execute(ledger.record(replace(ENTRY, run="older")))
        old.commit()
    claim(ledger, old, ORDERS)
    old.execute(ledger.record(ENTRY))
    with answer(lambda: ledger.has_committed(new, *ORDERS, ENTRY.run)) as told:
        place.wait_for(new, "Lock")
        if has_committed:
            old.commit()
        else:
            old.rollback()
    assert told == [has_committed]


def test_what_cannot_be_told_in_time_is_said_to_be_busy(place: LedgerDatabase) -> None:
    ledger, old, new = place.prepared(), place.open(), place.open(lock_timeout="1ms")
    old.execute(ledger.record(ENTRY))
    with pytest.raises(LockNotAvailable):
        ledger.has_committed(new, *ORDERS, ENTRY.run)


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
    old.execute(ledger.record(ENTRY))
    with answer(old.commit) as answers:
        place.wait_for(old, "SyncRep")
        with pytest.raises(LockNotAvailable):
            ledger.has_committed(new, *ORDERS, ENTRY.run)
        new.rollback()
        absent_standby()
    assert answers == [None]
    assert ledger.has_committed(new, *ORDERS, ENTRY.run)
