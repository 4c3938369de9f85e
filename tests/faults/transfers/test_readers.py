"""Who reads a replica while it is replaced sees the old rows or the new ones, all of them."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Literal

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.support.chaos import QUICK
from tests.support.once_command import Once
from tests.support.sql import REFEREE, ask, execute
from tests.support.writers import TABLES, fill_books

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.connection import Connection
    from tests.faults.transfers.conftest import Rig

Way = Literal["delete", "truncate"]

ROWS = 30_000
RUNS = 3
DEADLINE = 60.0
HASHES = [
    f"(SELECT ROW(count(*), sum(hashtextextended(t::text, 0)))::text FROM {name} t)"
    for name in TABLES
]
VERSION = f"SELECT {', '.join(HASHES)}"
"""Both tables in one statement, so in one snapshot."""

READS = {"delete": [VERSION], "truncate": [f"SELECT {each}" for each in HASHES]}
"""What readers ask in a transaction. TRUNCATE locks readers out, and whoever reads two tables while
another locks both has a deadlock to fear, with copyd as with anybody: there, one at a time."""


class Library:
    """A source and a replica that its readers never stop reading."""

    def __init__(self, rig: Rig, way: Way) -> None:
        self.source = rig.source_server.conninfo(rig.books(rig.source_server))
        self.end = rig.calm_server.conninfo(rig.books(rig.calm_server))
        options = {"source": "shop", "destinations": ["near"], "tables": [*TABLES]}
        self.once = Once(
            rig.folder,
            {"shop": self.source, "near": self.end},
            {**options, "mode": "replace", "replace_with": way, **QUICK, "lock_timeout": "2s"},
        )
        execute(self.source, *fill_books(ROWS))
        self.run()
        self.reads = READS[way]
        self.legal = [self.version()]
        self.answers = self.answers_now()

    def version(self) -> object:
        return ask(self.source, VERSION)[0]

    def answers_now(self) -> set[object]:
        """What readers may be told of these rows."""
        return {(read, ask(self.source, read)[0]) for read in self.reads}

    def change(self) -> None:
        for name in TABLES:
            execute(self.source, f"UPDATE {name} SET amount = amount + 1")
        self.legal.append(self.version())
        self.answers |= self.answers_now()

    def run(self) -> None:
        ended = self.once.run()
        assert ended.code == 0, ended.said

    def connect(self, isolation: IsolationLevel, lock_timeout: str) -> Connection:
        connection = psycopg.connect(
            self.end, application_name=REFEREE, options=f"-c lock_timeout={lock_timeout}"
        )
        connection.isolation_level = isolation
        return connection


class Reader(threading.Thread):
    """Reads again and again, in transactions of its own, and remembers what it saw."""

    def __init__(self, library: Library, isolation: IsolationLevel, lock_timeout: str) -> None:
        super().__init__(name=f"reader {isolation.name}")
        self.library, self.isolation, self.lock_timeout = library, isolation, lock_timeout
        self.stop = threading.Event()
        self.seen: set[object] = set()
        self.problem: Exception | None = None

    def run(self) -> None:
        try:
            with self.library.connect(self.isolation, self.lock_timeout) as connection:
                for read in cycle(self.library.reads):
                    if self.stop.is_set():
                        break
                    self.seen.add((read, connection.execute(read).fetchone()))
                    connection.commit()
        except Exception as error:  # noqa: BLE001 - handed to the test, which raises it
            self.problem = error


@contextmanager
def reading(library: Library, lock_timeout: str) -> Iterator[list[Reader]]:
    levels = IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ
    readers = [Reader(library, level, lock_timeout) for level in levels]
    for reader in readers:
        reader.start()
    try:
        yield readers
    finally:
        for reader in readers:
            reader.stop.set()
        for reader in readers:
            reader.join(DEADLINE)
    for reader in readers:
        if reader.problem is not None:
            raise reader.problem


@pytest.fixture(params=["delete", "truncate"])
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


def test_readers_see_the_old_rows_or_the_new_ones(rig: Rig, way: Way) -> None:
    """While rows are deleted and copied, readers do not even wait a tenth of a second."""
    library = Library(rig, way)
    with reading(library, "100ms" if way == "delete" else "20s") as readers:
        for _ in range(RUNS):
            library.change()
            library.run()
    for reader in readers:
        assert reader.seen <= library.answers, f"{reader.name} saw a mix"
        assert len(reader.seen) > len(library.reads), f"{reader.name} saw no change"


def test_a_transaction_older_than_the_run_never_sees_an_empty_table(rig: Rig, way: Way) -> None:
    """Its snapshot is taken before the run, and it reads the table after."""
    library = Library(rig, way)
    with ExitStack() as stack:
        old = stack.enter_context(library.connect(IsolationLevel.REPEATABLE_READ, "20s"))
        old.execute("SELECT count(*) FROM pg_class")
        library.change()
        library.run()
        seen = old.execute(VERSION).fetchone()
        assert seen in library.legal
        if way == "delete":
            assert seen == library.legal[0]
    assert ask(library.end, VERSION)[0] == library.legal[1]


def test_a_transaction_in_the_middle_of_reading_keeps_its_rows_during_a_delete(
    rig: Rig,
) -> None:
    """It has read the table before the run, and reads it during and after."""
    library = Library(rig, "delete")
    with library.connect(IsolationLevel.REPEATABLE_READ, "100ms") as old:
        assert old.execute(VERSION).fetchone() == library.legal[0]
        library.change()
        started = library.once.start()
        while started.poll() is None:
            assert old.execute(VERSION).fetchone() == library.legal[0]
        ended = library.once.finish(started)
        assert ended.code == 0, ended.said
        assert old.execute(VERSION).fetchone() == library.legal[0]
    assert ask(library.end, VERSION)[0] == library.legal[1]
