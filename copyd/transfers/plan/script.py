"""Statements as text, in the order a server receives them, with BEGIN and savepoints."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from psycopg import IsolationLevel

from copyd.catalog import OUR_PATH, path_statement
from copyd.transfers.destination import Block, Path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from psycopg import sql

    from copyd.connection import Connection
    from copyd.transfers.destination import Action, Session
    from copyd.transfers.source import Source


@dataclass(frozen=True, slots=True)
class Script:
    """The statements of one session, or the ``refusal`` that would end it."""

    server: str
    purpose: str
    statements: tuple[str, ...] = ()
    refusal: str | None = None

    @classmethod
    def of_source(
        cls, source: Source, purpose: str, level: IsolationLevel, lines: Iterable[sql.Composable]
    ) -> Script:
        begin = f"{_begin(level)} READ ONLY"
        texts = [_text(line, source.connection) for line in lines]
        return cls(source.transfer.source.name, purpose, (begin, *texts))


def written(decided: Iterable[Action], session: Session) -> tuple[str, ...]:
    """Return the text of the `decided` actions, with the settings and search path of `session`."""
    return tuple(_lines(decided, session))


def _lines(decided: Iterable[Action], session: Session) -> Iterator[str]:
    connection = session.connection
    paths = {Path.OURS: OUR_PATH, Path.OWN: session.own_path}
    for block, in_block in groupby(decided, lambda action: action.block):
        path = Path.OWN
        if block is not Block.NONE:
            yield _begin(connection.isolation_level)
        if block in (Block.LEDGER, Block.DATA):
            yield from (_text(each, connection) for each in session.settings)
            yield _text(path_statement(OUR_PATH), connection)
            path = Path.OURS
        # The search for rows that are refused tries all steps of a table in a savepoint.
        for tried, in_try in groupby(in_block, lambda action: action.savepoint and action.table):
            for number, action in enumerate(in_try):
                if action.path not in (Path.ANY, path):
                    path = action.path
                    yield _text(path_statement(paths[path]), connection)
                if tried and number == 0:
                    yield _savepoint(1)
                yield from _action(action, connection)
            if tried:
                yield f"RELEASE {_NAME.format(1)}"


def _action(action: Action, connection: Connection) -> Iterator[str]:
    depth = 2 if action.savepoint else 1
    text = _text(action.step.statement, connection)
    if action.step.otherwise:
        yield from (_savepoint(depth), text, f"RELEASE {_NAME.format(depth)}")
    else:
        yield text


_NAME = '"_pg3_{}"'  # how psycopg names a savepoint, by how deep it is


def _savepoint(depth: int) -> str:
    return f"SAVEPOINT {_NAME.format(depth)}"


def _begin(level: IsolationLevel | int | None) -> str:
    name = "" if level is None else IsolationLevel(level).name.replace("_", " ")
    return f"BEGIN ISOLATION LEVEL {name}" if name else "BEGIN"


def _text(statement: sql.Composable, connection: Connection) -> str:
    return statement.as_string(connection).strip()
