"""What is read at the source, as SQL; pure.

A reading is one table, or the query. A scan is one COPY of it: all its rows or those that a
destination has not seen yet. Destinations with the same scans share a pass.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from copyd.catalog import Column, Relation
    from copyd.transfers.source.snapshot import Snapshot
    from copyd.transfers.transfer import Query


@dataclass(frozen=True, slots=True)
class Reading:
    """One table of the source, or a query.

    ``into`` is the destinations' table, written as in SQL; ``key`` what the transfer says of it;
    ``left_out`` are generated columns that do not travel although nobody chose the columns.
    """

    name: str
    into: str
    relation: Relation | None
    columns: tuple[Column, ...]
    where: str | None = None
    watermark_column: Column | None = None
    key: tuple[str, ...] | None = None
    query: str | None = None
    left_out: tuple[Column, ...] = ()

    @classmethod
    def of_query(
        cls, query: Query, columns: tuple[Column, ...], *, key: tuple[str, ...] | None
    ) -> Reading:
        """Read the rows of `query`."""
        return cls("query", query.into, None, columns, key=key, query=query.text)

    @property
    def estimated_rows(self) -> int | None:
        """Rows to expect, None where nobody knows."""
        return self.relation.estimated_rows if self.relation is not None else None

    @property
    def has_xmin(self) -> bool:
        """Whether its rows say which transaction wrote them."""
        return self.relation is not None and self.relation.kind in ("r", "p")

    def tagged(self, value: str) -> str:
        """Return a watermark as the ledger keeps it: with the name of its column."""
        return f"{_watermark_column(self).name}={value}"

    def watermark_of(self, kept: str | None) -> str | None:
        """Return the value that the ledger has kept; None where it is of another column."""
        if kept is None or self.watermark_column is None:
            return None
        tag = f"{self.watermark_column.name}="
        return kept.removeprefix(tag) if kept.startswith(tag) else None

    @property
    def fingerprint(self) -> str:
        """A digest of everything that changes which rows, and which of their values, are meant."""
        columns = sorted((column.name, column.number) for column in self.columns)
        meant = [self.name, self.query, self.where, self.key, columns]
        return hashlib.sha256(json.dumps(meant).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which rows of a table: xmin (as xid8) from ``since`` on, below ``until``.

    ``watermark``: a value of the watermark column, as text; rows that lie further than ``lookback``
    behind it, and those without a value, are left out.
    """

    since: int | None = None
    until: int | None = None
    watermark: str | None = None
    lookback: timedelta | int = 0


EVERYTHING = Bounds()

# COPY runs with the role's own search path, because of what the operator wrote: here nothing of ours
# may be looked up in it. xmin has 32 bits; every visible one is less than 2**32 behind xmax.
_WRITTEN = """({0} OPERATOR(pg_catalog.-) (({0} OPERATOR(pg_catalog.-)
xmin::pg_catalog.text::pg_catalog.int8) OPERATOR(pg_catalog.&) 4294967295))"""
_IS_NUMBER = """{}::pg_catalog.text OPERATOR(pg_catalog.<>)
ALL ('{{NaN,Infinity,-Infinity}}'::pg_catalog.text[])"""


@dataclass(frozen=True, slots=True)
class Scan:
    """One COPY at the source; ``keys_only``: the columns of the key of all rows."""

    reading: Reading
    bounds: Bounds = EVERYTHING
    keys_only: tuple[str, ...] | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that travel."""
        if self.keys_only is None:
            return self.reading.columns
        by_name = {column.name: column for column in self.reading.columns}
        return tuple(by_name[name] for name in self.keys_only)


def is_long(scans: Sequence[Scan]) -> bool:
    """Whether a whole table is read; what is short goes first."""
    return any(scan.bounds.since is None and scan.keys_only is None for scan in scans)


def copy_out(scan: Scan, snapshot: Snapshot, *, format_: str) -> sql.Composed:
    """Return the COPY statement that sends the rows of `scan`."""
    return sql.SQL("COPY {} TO STDOUT (FORMAT {})").format(
        _rows(scan, snapshot), sql.Identifier(format_)
    )


def _rows(scan: Scan, snapshot: Snapshot) -> sql.Composed:
    reading = scan.reading
    wanted = conditions(scan, snapshot)
    names = _names(scan.columns)
    relation = reading.relation
    is_plain = not wanted and not any(column.is_generated for column in scan.columns)
    if is_plain and relation is not None and relation.is_table:
        return sql.SQL("{} ({})").format(relation.identifier, names)
    return sql.SQL("({})").format(select(reading, names, wanted))


def select(
    reading: Reading, what: sql.Composable, conditions: Sequence[sql.Composable]
) -> sql.Composed:
    """Return a SELECT of `what` from the rows of `reading` that fulfil all `conditions`."""
    where: sql.Composable = sql.SQL("")
    if conditions:
        where = sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions))
    return sql.SQL("SELECT {} FROM {}{}").format(what, _place(reading), where)


def select_rows(reading: Reading) -> sql.Composed:
    """Return a SELECT of all that is meant of `reading`."""
    return select(reading, _names(reading.columns), _where(reading))


def _place(reading: Reading) -> sql.Composable:
    relation = reading.relation
    if relation is None:
        text = (reading.query or "").encode().decode()
        return sql.SQL("(") + _raw(text) + sql.SQL("\n) AS query")
    only = sql.SQL("ONLY " if relation.kind == "r" else "")
    return only + relation.identifier


def conditions(scan: Scan, snapshot: Snapshot) -> list[sql.Composable]:
    """Return what the rows of `scan` fulfil."""
    return [*_where(scan.reading), *_bounds(scan, snapshot)]


def _where(reading: Reading) -> list[sql.Composable]:
    return [sql.SQL("(") + _raw(reading.where) + sql.SQL("\n)")] if reading.where else []


def _raw(text: str) -> sql.Composable:
    return sql.SQL(text)


def _bounds(scan: Scan, snapshot: Snapshot) -> list[sql.Composable]:
    bounds, xmax = scan.bounds, sql.Literal(snapshot.xmax)
    written = sql.SQL(_WRITTEN).format(xmax)
    conditions: list[sql.Composable] = []
    if bounds.since is not None:
        since = sql.SQL("{} OPERATOR(pg_catalog.>=) {}")
        conditions.append(since.format(written, sql.Literal(bounds.since)))
    if bounds.until is not None:
        until = sql.SQL("{} OPERATOR(pg_catalog.<) {}")
        conditions.append(until.format(written, sql.Literal(bounds.until)))
    if bounds.watermark is not None:
        column = _watermark_column(scan.reading)
        bound = _bound(column, bounds.watermark, bounds.lookback)
        within = sql.SQL("{} OPERATOR(pg_catalog.>=) {}")
        conditions.append(within.format(sql.Identifier(column.name), bound))
    return conditions


def _watermark_column(reading: Reading) -> Column:
    if reading.watermark_column is None:
        raise ValueError(f"{reading.name} has no watermark column")
    return reading.watermark_column


def _bound(column: Column, watermark: str | None, lookback: timedelta | int) -> sql.Composed:
    kind = _raw(column.type)  # as format_type wrote it
    behind = sql.SQL("({}::{} OPERATOR(pg_catalog.-) {})")
    return behind.format(sql.Literal(watermark), kind, sql.Literal(lookback))


def _names(columns: Sequence[Column]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)


def watermark_query(reading: Reading, snapshot: Snapshot) -> sql.Composed:
    """Query the highest finite watermark, as text, not later than the snapshot."""
    column = _watermark_column(reading)
    name = sql.Identifier(column.name)
    conditions = _where(reading)
    if column.category == "D":
        now = sql.Literal(snapshot.taken_at)
        conditions.append(sql.SQL("pg_catalog.isfinite({})").format(name))
        past = sql.SQL("{} OPERATOR(pg_catalog.<=) {}::pg_catalog.timestamptz")
        conditions.append(past.format(name, now))
    if column.signature in ("float4", "float8", "numeric"):
        conditions.append(sql.SQL(_IS_NUMBER).format(name))
    top = sql.SQL("pg_catalog.max({})::pg_catalog.text").format(name)
    return select(reading, top, conditions)


def watermark_queries(
    scans: Iterable[Scan], snapshot: Snapshot, lookback: object
) -> dict[Reading, sql.Composed]:
    """Ask for the highest value of each watermark column, where a `lookback` will start from it."""
    readings = dict.fromkeys(scan.reading for scan in scans)
    return {
        reading: watermark_query(reading, snapshot)
        for reading in readings
        if reading.watermark_column is not None and lookback != "all"
    }


def bound_query(reading: Reading, bounds: Bounds) -> sql.Composed:
    """Ask for the value of the watermark column where `bounds` begin, as text."""
    bound = _bound(_watermark_column(reading), bounds.watermark, bounds.lookback)
    return sql.SQL("SELECT ({})::pg_catalog.text").format(bound)
