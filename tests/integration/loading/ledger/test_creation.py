"""The ledger is created on first use, and then only checked."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.errors import LockNotAvailable

from copyd.errors import CopydError
from copyd.loading.ledger import Ledger
from tests.support.ledger_database import DEADLINE, ENTRY, ORDERS, LedgerDatabase, claim

if TYPE_CHECKING:
    from copyd.connection import Connection


def test_the_ledger_is_created_on_first_use_and_then_only_checked(place: LedgerDatabase) -> None:
    connection, ledger = place.open(), Ledger()
    assert ledger.prepare(connection)
    connection.commit()
    assert not ledger.prepare(connection)
    assert claim(ledger, connection, ORDERS) is None


def test_a_role_that_may_create_in_the_database_creates_it(place: LedgerDatabase) -> None:
    place.ask("GRANT CREATE ON DATABASE {} TO {}", place.database, place.role)
    place.prepared(place.role)
    owners = "SELECT tableowner FROM pg_tables WHERE schemaname = 'copyd' AND tablename = 'ledger'"
    assert place.ask(owners) == [(place.role,)]
    assert not Ledger().prepare(place.open(place.role))


def test_the_schema_has_the_name_that_was_asked_for(place: LedgerDatabase) -> None:
    connection = place.open()
    for name in ("other", 'My "Ledger"; --', "select", "s" * 63):
        ledger = Ledger(name)
        assert ledger.prepare(connection)
        connection.execute(ledger.record(ENTRY))
        assert claim(ledger, connection, ORDERS) is not None
        assert not ledger.prepare(connection)
    assert Ledger("another").prepare(connection)
    assert claim(Ledger("another"), connection, ORDERS) is None


def test_a_name_that_the_server_would_shorten_is_refused(place: LedgerDatabase) -> None:
    with pytest.raises(CopydError, match="use a shorter one"):
        Ledger("s" * 64).prepare(place.open())


def test_who_may_not_create_it_is_told_the_sql_that_makes_it_work(place: LedgerDatabase) -> None:
    with pytest.raises(CopydError, match="may not create it") as refused:
        Ledger().prepare(place.open(place.role))
    statement = re.search(r"run there: (CREATE SCHEMA .*)$", str(refused.value))
    assert statement is not None
    place.ask(statement[1])
    ledger = place.prepared(place.role)
    connection = place.open(place.role)
    assert not ledger.prepare(connection)
    assert claim(ledger, connection, ORDERS) is None
    connection.execute(ledger.record(ENTRY))
    connection.commit()
    assert ledger.has_committed(connection, *ORDERS, ENTRY.run)


def test_what_default_privileges_give_others_is_taken_back(place: LedgerDatabase) -> None:
    for objects in ("TABLES", "SCHEMAS"):
        for who in ("PUBLIC", "{}"):
            grant = f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {objects} TO {who}"
            place.ask(grant, *[place.mallory][: who.count("{}")])
    place.prepared()
    assert not Ledger().prepare(place.open())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.ask("DELETE FROM copyd.ledger", as_role=place.mallory)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.ask("CREATE TABLE copyd.planted ()", as_role=place.mallory)


def test_sessions_that_create_it_at_once_agree(place: LedgerDatabase) -> None:
    together = threading.Barrier(3)

    def create(connection: Connection) -> bool:
        together.wait(DEADLINE)
        created = Ledger().prepare(connection)
        connection.commit()
        return created

    connections = [place.open() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(30):
            assert sorted(pool.map(create, connections)) == [False, False, True]
            place.ask("DROP SCHEMA copyd CASCADE")


def test_who_waits_for_another_to_create_it_waits_as_long_as_for_any_lock(
    place: LedgerDatabase,
) -> None:
    assert Ledger().prepare(place.open())
    with pytest.raises(LockNotAvailable):
        Ledger().prepare(place.open(lock_timeout="1ms"))
