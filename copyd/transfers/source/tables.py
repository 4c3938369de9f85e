"""The tables or the query of a transfer at its source: found, locked and described."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.catalog import copied, find_tables, look_up, looking_in, query_columns, selected
from copyd.errors import CopydError
from copyd.names import Pattern
from copyd.transfers.source.readings import Reading
from copyd.transfers.transfer import PLAIN, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from copyd.catalog import Column, Relation
    from copyd.connection import Connection
    from copyd.transfers.transfer import Tables, Transfer

    Describe = Callable[[Connection, Transfer, str], tuple[Reading, ...]]


def describe_all(connection: Connection, transfer: Transfer, own_path: str) -> tuple[Reading, ...]:
    """Lock and describe what `transfer` reads; raises CopydError where something is not there."""
    what = transfer.what
    if isinstance(what, Query):
        return (describe_query(connection, transfer, what, own_path),)
    found = find(connection, transfer, what, own_path)
    for relation in found:
        connection.execute(lock(relation))
    relations = find(connection, transfer, what, own_path)
    if [each.oid for each in relations] != [each.oid for each in found]:
        raise CopydError("a table was replaced by another just now: run it again")
    return tuple(reading_of(relation, transfer, what) for relation in relations)


def describe_query(
    connection: Connection, transfer: Transfer, query: Query, own_path: str
) -> Reading:
    """Find out what `query` yields; what it reads is locked."""
    with looking_in(connection, own_path):
        columns = query_columns(connection, query.text)
    return Reading.of_query(query, columns, key=transfer.key)


def find(
    connection: Connection, transfer: Transfer, what: Tables, own_path: str
) -> tuple[Relation, ...]:
    """Find the tables, unqualified names by the role's path; raises CopydError."""
    if all("." in name for name in what.names):
        patterns = [Pattern.parse(name) for name in what.names]
        return find_tables(connection, patterns, without=[transfer.ledger or ""])
    with looking_in(connection, own_path):
        return tuple(look_up(connection, name) for name in what.names)


def lock(relation: Relation) -> sql.Composed:
    """Return the statement that keeps others from emptying or rewriting `relation`."""
    if relation.is_lockable:
        only = sql.SQL("ONLY " if relation.kind == "r" else "")
        return sql.SQL("LOCK TABLE {}{} IN ACCESS SHARE MODE").format(only, relation.identifier)
    # LOCK TABLE does not take it, but reading it locks it just so.
    return sql.SQL("SELECT FROM {} LIMIT 0").format(relation.identifier)


def reading_of(relation: Relation, transfer: Transfer, what: Tables) -> Reading:
    """Return the reading of `relation`; raises CopydError if a column is missing."""
    said = what.options.get(relation.label, PLAIN)
    left_out: tuple[Column, ...] = ()
    if said.columns is not None:
        columns = selected(relation.columns, said.columns)
    else:
        columns = copied(relation.columns)
        left_out = tuple(column for column in relation.columns if column.is_generated)
    name = said.cursor or transfer.cursor
    column = None if name is None else _watermark_column(relation, name)
    if column is not None:
        _require_lookback(column, columns, transfer)
    return Reading(
        name=relation.label,
        into=relation.label if transfer.ledger is not None else what.names[0],
        relation=relation,
        columns=columns,
        where=said.where,
        watermark_column=column,
        key=said.key or transfer.key,
        left_out=left_out,
    )


def _watermark_column(relation: Relation, name: str) -> Column:
    for column in relation.columns:
        if column.name == name:
            return column
    raise CopydError(f"table {relation.label} has no column {name}, which is to be its cursor")


def _require_lookback(column: Column, columns: Sequence[Column], transfer: Transfer) -> None:
    """Raise CopydError where a lookback of this kind does not fit the watermark column."""
    lookback = transfer.overlap
    if lookback == "all":
        return
    kinds = {"D": timedelta, "N": int}
    wanted = kinds.get(column.category)
    if wanted is None or not isinstance(lookback, wanted):
        said = {"D": 'a duration such as "1h"', "N": "a number"}.get(column.category, '"all"')
        raise CopydError(f"cursor {column.name} is {column.type}: its overlap must be {said}")
    if column.name not in {each.name for each in columns}:
        raise CopydError(
            f"cursor {column.name} is not among the columns to copy, which a full look compares it "
            'by: copy it, or use overlap = "all"'
        )
