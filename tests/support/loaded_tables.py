"""Two tables in one database, and the statements that bring rows from one to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from copyd.catalog.columns import copied
from copyd.catalog.relations import look_up
from copyd.catalog.session import OUR_PATH, set_local
from copyd.loading import execute, staged_rows, strategies
from copyd.loading.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.connection import Connection
    from copyd.loading.step import Step
    from copyd.loading.strategies import Applied

HERE = "FROM here"

FAMILIES = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (number numeric, word text);
CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
"""


def result_of(connection: Connection, *steps: Step, **values: object) -> Any:
    """Execute the steps; returns the number that the last one counts."""
    return [execute(connection, step, values) for step in steps][-1][0]


class LoadedTables:
    """A database with two connections: ``admin`` commits at once, ``here`` is a run's own."""

    def __init__(self, admin: Connection, here: Connection) -> None:
        self.admin = admin
        self.here = here

    def make(self, statements: str) -> None:
        self.admin.execute(statements.encode())

    def begin(self) -> None:
        set_local(self.here, search_path=OUR_PATH, lock_timeout="10s")

    def target(self, table: str = "public.there", number: int = 0) -> Target:
        relation = look_up(self.admin, table)
        columns = copied(relation.columns)
        return Target(relation=relation, columns=columns, key=relation.keys[0], number=number)

    def feed(self, statement: sql.Composed, rows: str, format_: str = "text") -> None:
        """COPY what `rows`, a query, yields into `statement`."""
        out = f"COPY ({rows}) TO STDOUT (FORMAT {format_})".encode()
        source, sink = self.admin.cursor(), self.here.cursor()
        with source.copy(out) as given, sink.copy(statement) as taken:
            for data in given:
                taken.write(data)

    def stage(
        self, target: Target, rows: str = HERE, format_: str = "text", *, keys: bool = False
    ) -> None:
        """Stage `rows`, what follows the columns in a SELECT; keys: its keys, too."""
        if self.here.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self.begin()
        self.here.execute(staged_rows.stage(target))
        copy = staged_rows.copy_into_stage(target, format=format_)
        self.feed(copy, f"SELECT {listed(target.names)} {rows}", format_)
        if keys:
            assert target.key is not None
            self.here.execute(staged_rows.stage_keys(target))
            copy = staged_rows.copy_keys(target, format=format_)
            self.feed(copy, f"SELECT {listed(target.key.columns)} {rows}", format_)

    def merge(self, target: Target, rows: str = HERE, format_: str = "text") -> Applied:
        self.stage(target, rows, format_)
        applied = strategies.apply(self.here, strategies.merge(target))
        self.here.commit()
        return applied

    def merge_all(self, target: Target, rows: str = HERE) -> tuple[Applied, int]:
        """Merge, and delete what is missing."""
        self.stage(target, rows, keys=True)
        applied = strategies.apply(self.here, strategies.merge(target, delete_missing=True))
        removed = result_of(self.here, *strategies.remove_missing(target))
        self.here.commit()
        return applied, removed

    def append(self, target: Target, rows: str = HERE, format_: str = "text") -> Applied:
        self.stage(target, rows, format_)
        applied = strategies.apply(self.here, strategies.append(target))
        self.here.commit()
        return applied

    def rows(self, table: str, order: str = 'r::text COLLATE "C"', only: str = "ONLY") -> list[str]:
        """Each row as text, which tells apart what = takes for equal."""
        query = f"SELECT r::text FROM {only} {table} r ORDER BY {order}"
        return [row[0] for row in self.admin.execute(query.encode())]


def names(given: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, given))


def listed(given: Iterable[str]) -> str:
    return names(given).as_string()
