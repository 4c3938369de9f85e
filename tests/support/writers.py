"""Sessions that write to a source while it is copied.

Every transaction keeps the books balanced: what a group of rows has in ``debits`` it has in
``credits``. So whoever looks at a snapshot can tell it from a mix of two.
"""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from copyd.connection import Connection


TABLES = ("public.debits", "public.credits")
MANY = 70
"""Savepoints of a transaction that overflows the server's cache of subtransactions (64)."""

IMBALANCES = """
    SELECT count(*) FROM
        (SELECT grp, sum(amount) AS amount FROM debits GROUP BY grp) d
        FULL JOIN (SELECT grp, sum(amount) AS amount FROM credits GROUP BY grp) c USING (grp)
    WHERE d.amount IS DISTINCT FROM c.amount
"""
"""How many groups a snapshot shows in part; 0 in every snapshot of the source."""


def create_books(*, has_key: bool, amount: str = "int") -> list[str]:
    key = "PRIMARY KEY" if has_key else ""
    columns = f"id bigint {key}, grp bigint, amount {amount}, note text, updated_at timestamptz"
    statements = [f"CREATE TABLE {name} ({columns})" for name in TABLES]
    return statements + [f"CREATE INDEX ON {name} (grp)" for name in TABLES]


def fill_books(groups: int) -> list[str]:
    """Rows for the beginning, with ids that no writer uses."""
    return [
        f"INSERT INTO {name} SELECT -i, -i, i % 1000, repeat(md5(i::text), 3), now() - interval '1 day'"
        f" FROM generate_series(1, {groups}) i"
        for name in TABLES
    ]


@dataclass
class Desk:
    """Where one writer works: its session, its chance, and the groups that it wrote."""

    connection: Connection
    chance: random.Random
    ids: Iterator[int]
    stop: threading.Event
    oldest: float
    groups: list[int] = field(default_factory=list)


def insert_group(desk: Desk, *, is_kept: bool = True) -> None:
    """Write one to three rows of debits and their sum in credits, with an older cursor at times."""
    group = next(desk.ids)
    amounts = [desk.chance.randint(-1000, 1000) for _ in range(desk.chance.randint(1, 3))]
    age = desk.chance.choice([0.0, desk.chance.uniform(0.0, desk.oldest)])
    for name, values in zip(TABLES, (amounts, [sum(amounts)]), strict=True):
        for amount in values:
            desk.connection.execute(
                f"INSERT INTO {name} VALUES (%s, %s, %s, repeat('x', %s),"
                " clock_timestamp() - make_interval(secs => %s))",
                (next(desk.ids), group, amount, desk.chance.randint(0, 200), age),
            )
    if is_kept:
        desk.groups.append(group)


def update_group(desk: Desk) -> None:
    """Change one row on each side by the same amount."""
    group, by = desk.chance.choice(desk.groups), desk.chance.randint(1, 50)
    for name in TABLES:
        desk.connection.execute(
            f"UPDATE {name} SET amount = amount + %s, updated_at = clock_timestamp()"
            f" WHERE id = (SELECT min(id) FROM {name} WHERE grp = %s)",
            (by, group),
        )


def delete_group(desk: Desk) -> None:
    group = desk.groups.pop(desk.chance.randrange(len(desk.groups)))
    for name in TABLES:
        desk.connection.execute(f"DELETE FROM {name} WHERE grp = %s", (group,))


def inserting(desk: Desk) -> None:
    """What a table that is only appended to gets."""
    insert_group(desk)


def upserting(desk: Desk) -> None:
    """Inserts and updates."""
    if not desk.groups or desk.chance.random() < 0.5:
        insert_group(desk)
    else:
        update_group(desk)


def churning(desk: Desk) -> None:
    """Inserts, updates and deletes."""
    if len(desk.groups) > 5 and desk.chance.random() < 0.2:
        delete_group(desk)
    else:
        upserting(desk)


@contextmanager
def writing(
    conninfo: str,
    work: Callable[[Desk], None],
    *,
    seed: str,
    oldest: float = 365 * 86400.0,
    first: int = 1,
) -> Iterator[None]:
    """Let three writers work until the block is left: two steady ones, and one that commits late.

    Cursors are up to ``oldest`` seconds old when they are written, and then the late writer takes
    up to three more to commit. ``first`` numbers the writers; ids of two numbers never meet.
    """
    stop = threading.Event()
    writers = [
        _Writer(conninfo, work, stop, seed=seed, number=first + i, is_late=i == 2, oldest=oldest)
        for i in range(3)
    ]
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        stop.set()
        for writer in writers:
            writer.join(60)
    raise_problems(writers)


def raise_problems(writers: Sequence[_Writer]) -> None:
    for writer in writers:
        assert not writer.is_alive(), "a writer does not end"
        if writer.problem is not None:
            raise writer.problem


class _Writer(threading.Thread):
    def __init__(
        self,
        conninfo: str,
        work: Callable[[Desk], None],
        stop: threading.Event,
        *,
        seed: str,
        number: int,
        is_late: bool,
        oldest: float,
    ) -> None:
        super().__init__(name=f"writer {number}")
        self.conninfo, self.work, self.stop = conninfo, work, stop
        self.chance = random.Random(f"{seed} writer {number}")
        self.ids = count(number * 1_000_000_000)
        self.is_late, self.oldest = is_late, oldest
        self.problem: Exception | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self.conninfo, application_name="referee") as connection:
                desk = Desk(connection, self.chance, self.ids, self.stop, self.oldest)
                while not self.stop.wait(self.chance.uniform(0.0, 0.02)):
                    self._transaction(desk)
        except Exception as error:  # noqa: BLE001 - handed to the test, which raises it
            self.problem = error

    def _transaction(self, desk: Desk) -> None:
        if self.chance.random() < 1 / 3:
            self._work_in_savepoints(desk)
        else:
            self.work(desk)
        if self.is_late:
            self.stop.wait(self.chance.uniform(0.5, 3.0))
        desk.connection.commit()

    def _work_in_savepoints(self, desk: Desk) -> None:
        for _ in range(self.chance.choice([1, 1, 1, 3, 3, MANY])):
            desk.connection.execute("SAVEPOINT s")
            if self.chance.random() < 0.3:
                insert_group(desk, is_kept=False)
                desk.connection.execute("ROLLBACK TO SAVEPOINT s")
            else:
                self.work(desk)
            desk.connection.execute("RELEASE SAVEPOINT s")
