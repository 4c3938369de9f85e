"""A connection that writes statements down instead of sending them.

What a run does with a destination can be carried out on it, step by step, by the run's own code.
Only look-ups in the catalogs are sent, in a transaction that is READ ONLY; they are not written
down. Answers that nobody has yet are `Unknown`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg.adapt import Dumper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.abc import Params
    from psycopg.sql import SQL, Composed

    from copyd.connection import Connection

    Text = str | SQL | Composed


class Unknown(int):
    """A number that only the run will know; 0 where it is tested, ``:unknown`` in SQL."""

    def __add__(self, other: object) -> Unknown:
        return self

    __radd__ = __sub__ = __rsub__ = __add__


class Later(str):
    """A text that only the run will know, by a name that is shown in its place, as in psql."""

    __slots__ = ()


class _Bare(Dumper):
    def dump(self, obj: Any) -> bytes:
        return b":unknown" if isinstance(obj, Unknown) else f":{obj}".encode()

    def quote(self, obj: Any) -> bytes:
        return self.dump(obj)


class Script:
    """Stands for `connection`, which is in a transaction that is READ ONLY.

    ``statements``: what would have been sent. Its transactions begin as those of `connection`
    would, at another level of ``isolation`` where one is given, and can write unless
    ``is_read_only``.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        isolation: psycopg.IsolationLevel | None = None,
        is_read_only: bool = False,
    ) -> None:
        self.statements: list[str] = []
        self.autocommit = False
        self._real = connection
        level = isolation or connection.isolation_level
        levels = "" if level is None else f" ISOLATION LEVEL {level.name.replace('_', ' ')}"
        self._begin = f"BEGIN{levels}{' READ ONLY' if is_read_only else ''}"
        self._is_begun = False
        self._depth = 0
        for kind in (Unknown, Later):
            connection.adapters.register_dumper(kind, _Bare)

    @property
    def as_connection(self) -> Connection:
        """The script, where a connection is asked for; it has of it what a destination needs."""
        return cast("Connection", self)

    def write(self, statement: str) -> None:
        """Write a statement down."""
        if not (self._is_begun or self.autocommit):
            self._is_begun = True
            self.statements.append(self._begin)
        self.statements.append(statement.strip())

    # -- what a connection and its cursors have ---------------------------------------------------

    @property
    def info(self) -> psycopg.ConnectionInfo:
        return self._real.info

    @property
    def closed(self) -> bool:
        return self._real.closed

    @property
    def broken(self) -> bool:
        return self._real.broken

    def execute(self, query: Text, params: Params | None = None) -> Answer:
        return Answer(self).execute(query, params)

    def cursor(self, **options: object) -> AbstractContextManager[Answer]:
        del options
        return nullcontext(Answer(self))

    def ask(self, query: Text, params: Params | None) -> psycopg.Cursor[Any] | None:
        """Send `query` where it is a look-up, else write it down."""
        text = psycopg.ClientCursor(self._real).mogrify(query, params)
        if _is_look_up(text):
            return self._real.execute(query, params)
        self.write(text)
        return None

    def pipeline(self) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._depth += 1
        name = f'"_pg3_{self._depth}"'
        self.write(f"SAVEPOINT {name}" if self._is_begun else self._begin)
        yield
        self.write(f"RELEASE {name}" if self._is_begun else "COMMIT")
        self._depth -= 1

    def commit(self) -> None:
        if self._is_begun:
            self.statements.append("COMMIT")
            self._is_begun = False

    def rollback(self) -> None:
        if self._is_begun:
            self.statements.append("ROLLBACK")
            self._is_begun = False

    def close(self) -> None:
        self._real.close()


class Answer:
    """What a cursor of a script answers: what a look-up found, or `Unknown`."""

    def __init__(self, script: Script) -> None:
        self.rowcount = Unknown()
        self._script = script
        self._found: psycopg.Cursor[Any] | None = None

    def execute(self, query: Text, params: Params | None = None) -> Answer:
        self._found = self._script.ask(query, params)
        return self

    def fetchone(self) -> Any:
        """One row, of as many numbers as anybody here asks for."""
        return (Unknown(),) * 3 if self._found is None else self._found.fetchone()

    def fetchall(self) -> list[Any]:
        return [] if self._found is None else self._found.fetchall()


def _is_look_up(text: str) -> bool:
    return text.lstrip().startswith(("SELECT", "WITH")) and "FROM pg_catalog.pg_" in text
