"""Whether what is read fits the tables of a destination; asked before any data moves."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import sql

from copyd.catalog import (
    binary_refusal,
    foreign_keys,
    load_order,
    look_up_all,
    looking_in,
    require_key,
    require_match,
)
from copyd.connection import only_row
from copyd.errors import CopydError
from copyd.loading import Target, Use, guards, strategies
from copyd.names import TableName
from copyd.transfers.destination.horizon import There, require_ours
from copyd.transfers.destination.self_copy import mistaken
from copyd.transfers.destination.table_load import TableLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from copyd.catalog import Key, Order, Relation
    from copyd.connection import Connection
    from copyd.loading import Entry, Ledger
    from copyd.transfers.source import Reading, Source
    from copyd.transfers.transfer import Loading, Mode, Transfer

DEFER = "SET CONSTRAINTS ALL DEFERRED"
"""What lets tables that reference one another be loaded one after another."""


class Misfit(NamedTuple):
    """Why a table cannot hold what is read for it."""

    table: str
    sentence: str


def find_targets(
    connection: Connection, source: Source, loading: Loading, *, meant: Mode, own_path: str
) -> tuple[Target, ...]:
    """Find the tables for all that `source` reads, in its order, and see that they can be loaded.

    `meant`: the mode that the tables are kept in, which a full run does not load them in.

    Raises CopydError where one is not fit, in a sentence.
    """
    relations = look_up_there(connection, source.readings, loading, own_path)
    pairs = list(zip(source.readings, relations, strict=True))
    for misfit in misfits(connection, source, pairs, loading, meant=meant):
        raise CopydError(misfit.sentence)
    targets = [
        target_of(reading, relation, meant=meant, number=number)
        for number, (reading, relation) in enumerate(pairs)
    ]
    guards.require_fit(connection, targets, use_of(loading, deletes=source.transfer.delete_missing))
    return tuple(targets)


def look_up_there(
    connection: Connection, readings: Sequence[Reading], loading: Loading, own_path: str
) -> tuple[Relation, ...]:
    """Find the tables for `readings`; the role's own search path counts where no schema is given.

    Raises CopydError where one is not there.
    """
    names = [loading.tables.get(reading.into, reading.into) for reading in readings]
    if all("." in name for name in names):
        return look_up_all(connection, names)
    with looking_in(connection, own_path):
        return look_up_all(connection, names)


def misfits(
    connection: Connection,
    source: Source,
    pairs: Sequence[tuple[Reading, Relation]],
    loading: Loading,
    *,
    meant: Mode,
) -> Iterator[Misfit]:
    """Say, a sentence each, why a table of `pairs` cannot hold what is read for it."""
    is_clone_meant = loading.physical_clone or source.transfer.ledger is None
    relations = [relation for _, relation in pairs]
    mistakes = mistaken(connection, relations, source, is_clone_meant=is_clone_meant)
    majors = (source.major, major(connection))
    for reading, relation in pairs:
        if relation.oid in mistakes:
            yield Misfit(relation.label, mistakes[relation.oid])
        requirements: tuple[Callable[[], object], ...] = (
            partial(_require_match, source.transfer, reading, relation, majors),
            partial(_key, reading, relation, meant),
        )
        for require in requirements:
            try:
                require()
            except CopydError as error:
                yield Misfit(relation.label, str(error))


def _require_match(
    transfer: Transfer, reading: Reading, relation: Relation, majors: tuple[int, int]
) -> None:
    require_match(
        reading.columns,
        relation.columns,
        table=relation.label,
        left_out=reading.left_out,
        is_binary=transfer.format == "binary",
        majors=majors,
    )


def target_of(reading: Reading, relation: Relation, *, meant: Mode, number: int) -> Target:
    """Return the table as what is loaded, as far as it fits: see `misfits`."""
    by_name = {column.name: column for column in relation.columns}
    names = [column.name for column in reading.columns if column.name in by_name]
    key = None
    with suppress(CopydError):
        key = _key(reading, relation, meant)
    columns = tuple(by_name[name] for name in names)
    return Target(relation=relation, columns=columns, key=key, number=number)


def use_of(loading: Loading, *, deletes: bool) -> Use:
    """Say what a run does to the tables."""
    return Use(loading.mode, loading.replace_with, loading.triggers, deletes=deletes)


def claim(
    connection: Connection,
    source: Source,
    targets: Sequence[Target],
    loading: Loading,
    ledger: Ledger | None,
    *,
    meant: Mode,
) -> tuple[TableLoad, ...]:
    """Claim the ledger, lock the tables, and see that they are this transfer's.

    Returns them in the order of loading. Raises CopydError where somebody else has them, which may
    pass, or where they are not ours to load.
    """
    entries: dict[TableName, Entry | None] = {}
    waited = source.transfer.lock_timeout
    if ledger is not None:
        with _naming(targets, "another run has the ledger's row of", waited):
            entries = ledger.claim_all(connection, [name_of(target) for target in targets])
    if is_locked(loading):
        with _naming(targets, "somebody else has locked", waited):
            connection.execute(strategies.lock(targets))
    parts = parts_of(connection, source, targets, loading, entries, meant=meant)
    for part in parts.values() if ledger is not None else ():
        transfer, identity = source.transfer, source.identity
        require_ours(part.there, transfer, identity, mode=loading.mode, adopt=loading.adopt)
    order = order_of(connection, targets, loading)
    if order.circles and loading.triggers != "skip":
        connection.execute(DEFER)
        for oid in (oid for circle in order.circles for oid in circle):
            parts[oid].is_circular = True
    return tuple(parts[oid] for oid in order.order)


@contextmanager
def _naming(targets: Sequence[Target], what: str, waited: float) -> Iterator[None]:
    """Say in a sentence which tables somebody else has."""
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        label = targets[0].relation.label
        which = label if len(targets) == 1 else f"{label} or of {len(targets) - 1} more"
        raise CopydError(f"{what} table {which}: waited {waited:g} s for it") from error


def is_locked(loading: Loading) -> bool:
    """Whether other writers are kept out from the start; TRUNCATE locks by itself."""
    return loading.mode in ("append", "merge") or _deletes(loading)


def parts_of(
    connection: Connection,
    source: Source,
    targets: Sequence[Target],
    loading: Loading,
    entries: Mapping[TableName, Entry | None],
    *,
    meant: Mode,
) -> dict[int, TableLoad]:
    """Say how each of `targets`, of which the ledger has `entries`, is loaded; by its oid."""
    asked = [target for target in targets if _is_asked(entries.get(name_of(target)), loading)]
    now, empty = _look_inside(connection, asked)
    parts = {}
    for target in targets:
        entry = entries.get(name_of(target))
        is_empty = target.relation.oid in empty
        reading = source.readings[target.number]
        there = _there(reading, target, entry, now, is_empty=is_empty, meant=meant)
        is_compared = loading.mode != "replace" and there.has_key and not there.is_empty
        majors = (source.major, major(connection))
        given = [column for column in reading.columns if column.name in target.names]
        parts[target.relation.oid] = TableLoad(
            reading=reading,
            target=target,
            there=there,
            is_compared=is_compared,
            removes=is_compared and loading.mode == "merge" and source.transfer.delete_missing,
            binary_refusal=binary_refusal(given, target.columns, majors=majors),
        )
    _stage_after_parents(connection, parts)
    return parts


def _stage_after_parents(connection: Connection, parts: Mapping[int, TableLoad]) -> None:
    """Stage what references a staged table: its rows may need rows that are not there yet."""
    staged = {oid for oid, part in parts.items() if part.is_compared}
    keys = foreign_keys(connection, list(parts)) if staged else ()
    inside = [key for key in keys if key.referencing in parts]
    while more := {key.referencing for key in inside if key.referenced in staged} - staged:
        staged |= more
    for oid in staged:
        parts[oid].is_staged = True


def order_of(connection: Connection, targets: Sequence[Target], loading: Loading) -> Order:
    """Say in which order the tables, by oid, are loaded.

    Raises CopydError where there is none.
    """
    oids = [target.relation.oid for target in targets]
    keys = foreign_keys(connection, oids)
    return load_order(oids, keys, triggers_are_skipped=loading.triggers == "skip")


def major(connection: Connection) -> int:
    """The major version of the server."""
    return connection.info.server_version // 10_000


def _key(reading: Reading, relation: Relation, meant: Mode) -> Key | None:
    """The key that rows are compared by, None where they are not."""
    if meant not in ("append", "merge"):
        return None
    if meant == "append" and does_without_key(reading, relation):
        return None
    return require_key(relation, reading.key, given=reading.columns)


def does_without_key(reading: Reading, relation: Relation) -> bool:
    """Whether an append tells new rows by their transactions alone."""
    has_primary = any(key.is_primary for key in relation.keys)
    return reading.key is None and not has_primary and reading.has_xmin


def name_of(target: Target) -> TableName:
    """The table's name, as the ledger has it."""
    return TableName(target.relation.schema, target.relation.name)


def _there(
    reading: Reading,
    target: Target,
    entry: Entry | None,
    now: datetime,
    *,
    is_empty: bool,
    meant: Mode,
) -> There:
    is_below = meant == "append" and target.key is None
    return There(
        table=target.relation.label,
        oid=target.relation.oid,
        is_empty=is_empty,
        has_key=target.key is not None,
        is_below_horizon=is_below,
        fingerprint=reading.fingerprint + (" below its horizon" if is_below else ""),
        entry=entry,
        now=now,
    )


def _deletes(loading: Loading) -> bool:
    return loading.mode == "replace" and loading.replace_with == "delete"


def _is_asked(entry: Entry | None, loading: Loading) -> bool:
    """Whether it makes a difference that the table is empty."""
    return loading.mode in ("append", "merge") or (loading.mode == "replace" and entry is None)


def _look_inside(connection: Connection, targets: Sequence[Target]) -> tuple[datetime, set[int]]:
    """Return the server's time, and which of `targets`, by oid, are empty; in one query."""
    probes = [sql.SQL("NOT EXISTS (SELECT FROM {})").format(target.rows) for target in targets]
    # An array, because a row takes no more than 1664 columns.
    query = sql.SQL("SELECT pg_catalog.clock_timestamp(), ARRAY[{}]::boolean[]")
    with connection.cursor(binary=True) as cursor:
        now, are_empty = only_row(cursor.execute(query.format(sql.SQL(", ").join(probes))))
    oids = (target.relation.oid for target in targets)
    return now, {oid for oid, is_empty in zip(oids, are_empty, strict=True) if is_empty}
