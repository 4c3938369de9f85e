"""The tables of a destination: found for each reading, and checked to fit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from copyd.catalog import look_up_all, looking_in, match_refusal, require_key
from copyd.errors import CopydError
from copyd.loading import Target, Use, guards
from copyd.transfers.destination.self_copy import mistaken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.catalog import Key, Relation
    from copyd.connection import Connection
    from copyd.loading import Ledger
    from copyd.names import TableName
    from copyd.transfers.destination.refusal import Judge
    from copyd.transfers.source import Reading, Source
    from copyd.transfers.transfer import Loading, Mode, Replica


@dataclass(frozen=True, slots=True)
class Intent:
    """A run's task at one destination; ``kept_in``: the configured mode, even for --full."""

    source: Source
    loading: Loading
    kept_in: Mode
    ledger: Ledger | None
    is_full: bool = False

    @classmethod
    def of(
        cls, source: Source, replica: Replica, ledger: Ledger | None, *, is_full: bool = False
    ) -> Intent:
        # Decision: --full is a replace
        loading, mode = replica.loading, replica.loading.mode
        if is_full and mode in ("append", "merge"):
            loading = replace(loading, mode="replace", replace_with="delete")
        return cls(source, loading, mode, ledger, is_full)

    @property
    def keeps_rejects(self) -> bool:
        return self.source.transfer.keeps_rejects

    @property
    def use(self) -> Use:
        loading = self.loading
        deletes = self.source.transfer.delete_missing
        return Use(loading.mode, loading.replace_with, loading.triggers, deletes=deletes)


@dataclass(frozen=True, slots=True)
class Found:
    """The tables of a destination in the order of the readings; not locked, rows not read."""

    targets: tuple[Target, ...]

    @property
    def names(self) -> tuple[TableName, ...]:
        return tuple(target.name for target in self.targets)


def find(connection: Connection, intent: Intent, own_path: str, judge: Judge) -> Found:
    """Find the table of each reading; `judge` collects or raises why one cannot be loaded."""
    source, loading = intent.source, intent.loading
    pairs: list[tuple[Reading, Relation]] = []
    for readings in judge.groups(source.readings):
        with judge.looking(_name_at(readings[0], loading)):
            relations = look_up_there(connection, readings, loading, own_path)
            pairs += zip(readings, relations, strict=True)
    targets = tuple(
        target_of(reading, relation, meant=intent.kept_in, number=source.readings.index(reading))
        for reading, relation in pairs
    )
    with judge.looking():
        _judge_shapes(connection, intent, pairs, judge)
    judge.stop_if_refused()
    with judge.looking():
        for obstacle in guards.refusals(connection, targets, intent.use):
            judge.refuse(obstacle.table or "", obstacle.sentence)
    judge.stop_if_refused()
    return Found(targets)


def look_up_there(
    connection: Connection, readings: Sequence[Reading], loading: Loading, own_path: str
) -> tuple[Relation, ...]:
    """Return the tables for `readings`, unqualified names by `own_path`; raises CopydError."""
    names = [_name_at(reading, loading) for reading in readings]
    if all("." in name for name in names):
        return look_up_all(connection, names)
    with looking_in(connection, own_path):
        return look_up_all(connection, names)


def target_of(reading: Reading, relation: Relation, *, meant: Mode, number: int) -> Target:
    """Return the table with the columns that are both read and present, and its key if usable."""
    by_name = {column.name: column for column in relation.columns}
    names = [column.name for column in reading.columns if column.name in by_name]
    key = None
    with suppress(CopydError):
        key = _key(reading, relation, meant)
    columns = tuple(by_name[name] for name in names)
    return Target(relation=relation, columns=columns, key=key, number=number)


def does_without_key(reading: Reading, relation: Relation) -> bool:
    """Whether an append recognizes new rows by their transactions alone."""
    has_primary = any(key.is_primary for key in relation.keys)
    return reading.key is None and not has_primary and reading.has_xmin


def _judge_shapes(
    connection: Connection,
    intent: Intent,
    pairs: Sequence[tuple[Reading, Relation]],
    judge: Judge,
) -> None:
    source, transfer = intent.source, intent.source.transfer
    is_clone_meant = intent.loading.physical_clone or transfer.ledger is None
    relations = [relation for _, relation in pairs]
    mistakes = mistaken(connection, relations, source, is_clone_meant=is_clone_meant)
    for reading, relation in pairs:
        if relation.oid in mistakes:
            judge.refuse(relation.label, mistakes[relation.oid])
        mismatch = match_refusal(
            reading.columns,
            relation.columns,
            left_out=reading.left_out,
            is_binary=transfer.format == "binary",
            majors=(source.major, major(connection)),
        )
        if mismatch is not None:
            judge.refuse(relation.label, f"table {relation.label} does not fit: {mismatch}")
        try:
            _key(reading, relation, intent.kept_in)
        except CopydError as error:
            judge.refuse(relation.label, str(error))


def _key(reading: Reading, relation: Relation, meant: Mode) -> Key | None:
    if meant not in ("append", "merge"):
        return None
    if meant == "append" and does_without_key(reading, relation):
        return None
    return require_key(relation, reading.key, given=reading.columns)


def _name_at(reading: Reading, loading: Loading) -> str:
    return loading.tables.get(reading.into, reading.into)


def major(connection: Connection) -> int:
    """Return the server's major version, 15 for 150004."""
    return connection.info.server_version // 10_000
