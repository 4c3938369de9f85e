"""The state of a destination before the first change, for run, check and plan alike.

A run raises the first refusal, a check shows all, a plan prints the first. Changes nothing, and
takes no lock but the advisory locks of self_copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.catalog import (
    Order,
    binary_refusal,
    deferrable_constraints,
    foreign_keys,
    load_order,
)
from copyd.connection import one_row, only_row
from copyd.loading import guards
from copyd.transfers.destination.horizon import TableState, need_of, refusals
from copyd.transfers.destination.refusal import Judge, Refusal
from copyd.transfers.destination.table_load import TableLoad
from copyd.transfers.destination.targets import find, major
from copyd.transfers.source import Scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from copyd.catalog import ForeignKey
    from copyd.connection import Connection
    from copyd.loading import Entry, Target
    from copyd.names import TableName
    from copyd.transfers.destination.targets import Found, Intent
    from copyd.transfers.source import Snapshot
    from copyd.transfers.transfer import Loading

    Entries = Mapping[TableName, Entry | None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A destination before loading; ``tables``: parents first, refused tables left out."""

    found: Found
    tables: tuple[TableLoad, ...]
    refusals: tuple[Refusal, ...] = ()


def look(
    connection: Connection, intent: Intent, snapshot: Snapshot, own_path: str, *, stops: bool
) -> Prepared:
    """Inspect a destination without locks, for a plan or check; `stops`: raise the first error."""
    judge, ledger = Judge(connection, stops=stops), intent.ledger
    for sentence in () if ledger is None else ledger.refusals(connection):
        judge.refuse("", sentence)
    is_trusted = not judge.refusals
    judge.stop_if_refused()
    found = find(connection, intent, own_path, judge)
    entries: dict[TableName, Entry | None] = {}
    if not is_trusted:  # a broken ledger does not tell which rows the tables hold
        _order(connection, intent, found, judge)
        return Prepared(found, (), tuple(judge.refusals))
    if ledger is not None:
        with judge.looking():
            entries |= ledger.look(connection, found.names)
    return examine(connection, intent, found, entries, judge, snapshot=snapshot)


def examine(
    connection: Connection,
    intent: Intent,
    found: Found,
    entries: Entries,
    judge: Judge,
    *,
    snapshot: Snapshot | None = None,
) -> Prepared:
    """Check the tables found; without a `snapshot`, not whether they hold newer data."""
    order, keys = _order(connection, intent, found, judge)
    loads: dict[int, TableLoad] = {}
    for targets in judge.groups(found.targets):
        with judge.looking(targets[0].relation.label):
            if judge.stops or _can_be_read(connection, targets[0]):  # otherwise reported already
                looked = _loads(connection, intent, targets, entries)
                loads |= {load.target.relation.oid: load for load in looked}
                _judge_history(intent, looked, judge, snapshot)
    judge.stop_if_refused()
    _stage_referencing(loads, keys)
    for oid in (oid for circle in order.circles for oid in circle):
        if intent.loading.triggers != "skip" and oid in loads:
            loads[oid].is_circular = True
    tables = tuple(loads[oid] for oid in order.order if oid in loads)
    return Prepared(found, tables, tuple(judge.refusals))


def scans_of(load: TableLoad, intent: Intent, snapshot: Snapshot) -> tuple[Scan, ...]:
    """Note the table's need under `snapshot`, return its scans; raises CopydError."""
    transfer, mode = intent.source.transfer, intent.loading.mode
    load.need = need_of(
        load.state, load.reading, transfer, snapshot, mode=mode, is_forced=intent.is_full
    )
    scans = [Scan(load.reading, load.need.bounds)]
    if load.removes and load.target.key is not None:
        scans.append(Scan(load.reading, keys_only=load.target.key.columns))
    return tuple(scans)


def find_delete_triggers(
    connection: Connection, tables: Sequence[TableLoad], loading: Loading
) -> None:
    """Note the triggers that may keep rows from being deleted; ``before`` may have changed them."""
    if loading.deletes:
        targets = [table.target for table in tables]
        found = guards.delete_triggers(connection, targets, triggers=loading.triggers)
        for table in tables:
            table.delete_triggers = found.get(table.target.relation.oid, ())


def find_deferrable(connection: Connection, tables: Sequence[TableLoad]) -> None:
    """Note deferrable constraints to check row by row, except within a circle of references."""
    for table in tables:
        oid, has_order = table.target.relation.oid, not table.is_circular
        table.deferrable = deferrable_constraints(connection, oid, foreign_keys=has_order)


def _judge_history(
    intent: Intent, loads: Sequence[TableLoad], judge: Judge, snapshot: Snapshot | None
) -> None:
    transfer, identity, loading = intent.source.transfer, intent.source.identity, intent.loading
    for load in loads if intent.ledger is not None else ():
        for sentence in refusals(
            load.state, transfer, identity, mode=loading.mode, adopt=loading.adopt
        ):
            judge.refuse(load.state.table, sentence)
    judge.stop_if_refused()
    if snapshot is not None:
        for load in loads:
            load.scans = scans_of(load, intent, snapshot)


def _order(
    connection: Connection, intent: Intent, found: Found, judge: Judge
) -> tuple[Order, tuple[ForeignKey, ...]]:
    oids = [target.relation.oid for target in found.targets]
    order = Order(tuple(oids))
    keys: tuple[ForeignKey, ...] = ()
    with judge.looking():
        keys = foreign_keys(connection, oids)
        skips = intent.loading.triggers == "skip"
        order = load_order(oids, keys, triggers_are_skipped=skips)
    return order, keys


def _loads(
    connection: Connection, intent: Intent, targets: Sequence[Target], entries: Entries
) -> list[TableLoad]:
    source, loading = intent.source, intent.loading
    # Emptiness matters only if rows are compared, or the ledger has no entry for the table.
    probed = [
        target
        for target in targets
        if loading.mode in ("append", "merge")
        or (loading.mode == "replace" and entries.get(target.name) is None)
    ]
    now, empty = _look_inside(connection, probed)
    majors = (source.major, major(connection))
    loads = []
    for target in targets:
        reading, oid = source.readings[target.number], target.relation.oid
        is_below = intent.kept_in == "append" and target.key is None
        entry = entries.get(target.name)
        state = TableState(
            table=target.relation.label,
            oid=oid,
            is_empty=oid in empty,
            has_key=target.key is not None,
            is_below_horizon=is_below,
            fingerprint=reading.fingerprint + (" below its horizon" if is_below else ""),
            entry=entry,
            now=now,
        )
        is_compared = loading.mode != "replace" and state.has_key and not state.is_empty
        given = [column for column in reading.columns if column.name in target.names]
        is_known = entry is not None and entry.relation == oid
        is_counted = loading.mode != "insert" and not state.is_empty
        load = TableLoad(
            reading=reading,
            target=target,
            state=state,
            is_compared=is_compared,
            is_staged=is_compared,
            is_counted=is_counted and not is_known and intent.ledger is not None,
            removes=is_compared and loading.mode == "merge" and source.transfer.delete_missing,
            binary_refusal=binary_refusal(given, target.columns, majors=majors),
            before=entry.rows if entry is not None and is_known and is_counted else 0,
        )
        loads.append(load)
    return loads


def _stage_referencing(loads: Mapping[int, TableLoad], keys: Sequence[ForeignKey]) -> None:
    # A table that references a staged one is staged too: its rows may need staged rows.
    staged = {oid for oid, load in loads.items() if load.is_staged}
    inside = [key for key in keys if key.referencing in loads]
    while more := {key.referencing for key in inside if key.referenced in staged} - staged:
        staged |= more
    for oid in staged:
        loads[oid].is_staged = True


def _can_be_read(connection: Connection, target: Target) -> bool:
    asked = "SELECT pg_catalog.has_any_column_privilege(%s::oid, 'SELECT')"
    return bool(one_row(connection, asked, [target.relation.oid])[0])


def _look_inside(connection: Connection, targets: Sequence[Target]) -> tuple[datetime, set[int]]:
    """Return the server's time and the oids of the empty `targets`, in one query."""
    probes = [sql.SQL("NOT EXISTS (SELECT FROM {})").format(target.rows) for target in targets]
    # An array, because a result row has at most 1664 columns.
    query = sql.SQL("SELECT pg_catalog.clock_timestamp(), ARRAY[{}]::boolean[]")
    with connection.cursor(binary=True) as cursor:
        now, are_empty = only_row(cursor.execute(query.format(sql.SQL(", ").join(probes))))
    oids = (target.relation.oid for target in targets)
    return now, {oid for oid, is_empty in zip(oids, are_empty, strict=True) if is_empty}
