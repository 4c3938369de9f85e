"""The statements of a run at a destination, as a list by phase; pure.

A run decides each phase anew from the results of the earlier ones; a plan decides all phases once.
Statements that depend on the rows are in no list: the search for bad rows (`Rejects`), the rewrite
of rows that swap unique values, and the retry when two runs create the ledger at the same time.
"""
# Decision: What a run does is a list before it is done

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from psycopg import sql

from copyd.loading import Entry, Later, Result, Step, guards, staged_rows, strategies
from copyd.transfers.destination.session import Path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from copyd.loading import Target
    from copyd.transfers.destination.preparation import Prepared
    from copyd.transfers.destination.table_load import TableLoad
    from copyd.transfers.destination.targets import Found, Intent
    from copyd.transfers.source import Scan, Snapshot

DEFER = sql.SQL("SET CONSTRAINTS ALL DEFERRED")  # tables that reference each other, one by one
SKIP = sql.SQL("SET LOCAL session_replication_role = replica")  # no trigger fires
NO_STANDBY = sql.SQL("SET LOCAL synchronous_commit = local")  # statistics need no standby
_HELD = "another run has the ledger's row of"
_LOCKED = "somebody else has locked"
COMMIT = sql.SQL("COMMIT")
# Assigns the number if the transaction has none yet; a COMMIT in between changes the number.
XID = sql.SQL("SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")


class Phase(Enum):
    """When an action takes place."""

    CLAIM = auto()
    BEFORE = auto()
    EMPTY = auto()
    LOAD = auto()
    APPLY = auto()
    AFTER = auto()
    COMMIT = auto()
    AFTER_COMMIT = auto()


class Block(Enum):
    """The transaction that a statement is part of."""

    LEDGER = "creates the ledger, for which other runs wait"
    DATA = "the transaction of the data"
    NONE = "none: each statement for itself"
    NOTE = "notes in the ledger that all is done"
    STATISTICS = "ANALYZE"


@dataclass(frozen=True, slots=True)
class Action:
    """One statement of a run.

    ``is_guarded``: the search for bad rows repeats it, and if ``savepoint``, within a savepoint.
    ``busy``: the start of the error when a lock is not free in time.
    """

    phase: Phase
    step: Step
    table: TableLoad | None = None
    block: Block = Block.DATA
    path: Path = Path.OURS
    is_guarded: bool = False
    savepoint: bool = False
    busy: str = ""


def claim(
    found: Found, intent: Intent, creation: Sequence[sql.Composed] = ()
) -> tuple[Action, ...]:
    """Decide how the run claims the tables: `creation` of a missing ledger, rows, then locks."""
    made = [Action(Phase.CLAIM, Step(each), block=Block.LEDGER) for each in creation]
    if made:
        made.append(Action(Phase.CLAIM, Step(COMMIT), block=Block.LEDGER))
    if intent.ledger is not None:
        made.append(Action(Phase.CLAIM, Step(intent.ledger.hold(found.names)), busy=_HELD))
    # TRUNCATE takes its own lock, and an insert may run beside other writers.
    if intent.loading.mode in ("append", "merge") or intent.loading.deletes:
        made.append(Action(Phase.CLAIM, Step(strategies.lock(found.targets)), busy=_LOCKED))
    return tuple(made)


def decide(
    prepared: Prepared,
    intent: Intent,
    snapshot: Snapshot | None = None,
    *,
    only: Phase | None = None,
) -> tuple[Action, ...]:
    """Decide the actions after the claim, in order; from the phase LOAD on under a `snapshot`."""
    tables = prepared.tables
    phases = {
        Phase.BEFORE: _before(tables, intent),
        Phase.EMPTY: _empty(tables, intent),
        Phase.LOAD: _load(tables, intent),
        Phase.APPLY: _apply(tables, intent),
        Phase.AFTER: _after(tables, intent, snapshot),
        Phase.COMMIT: [Action(Phase.COMMIT, Step(COMMIT))],
        Phase.AFTER_COMMIT: _after_commit(tables, intent),
    }
    wanted = phases.values() if only is None else [phases[only]]
    return tuple(action for actions in wanted for action in actions)


def load(table: TableLoad, scan: Scan, intent: Intent, format_: str) -> Action:
    """COPY the rows of `scan`, into the table itself or a temporary one."""
    target = table.target
    if scan.keys_only is not None:
        statement = staged_rows.copy_keys(target, format=format_)
    elif table.is_staged:
        statement = staged_rows.copy_into_stage(target, format=format_)
    else:
        is_frozen = intent.loading.truncates and target.relation.kind == "r"
        statement = strategies.copy_rows(target, format=format_, freeze=is_frozen)
    # COPY runs the table's triggers and defaults, which expect the role's search path.
    return Action(Phase.LOAD, Step(statement), table, path=Path.OWN)


def steps_of(table: TableLoad, intent: Intent, target: Target) -> tuple[Step, ...]:
    """Apply the rows staged for `target`: the table's own target, or a part of it in a trial."""
    mode = intent.loading.mode
    if not table.is_compared:
        return strategies.insert_all(target)
    if mode == "merge" or table.need.corrects:
        return strategies.merge(target, delete_missing=table.removes)
    if intent.keeps_rejects:  # otherwise the INSERT itself fails on a duplicate
        return strategies.no_doubles(table.target), *strategies.append(target)
    return strategies.append(target)


def constraints(names: Iterable[sql.Identifier], when: str) -> sql.Composed:
    """Return SET CONSTRAINTS for `names`; `when` is IMMEDIATE or DEFERRED."""
    return sql.SQL("SET CONSTRAINTS {} {}").format(sql.SQL(", ").join(names), sql.SQL(when))


# -- phases ---------------------------------------------------------------------------------------


def _before(tables: Sequence[TableLoad], intent: Intent) -> Iterator[Action]:
    if any(table.is_circular for table in tables):
        yield Action(Phase.BEFORE, Step(DEFER))
    if intent.loading.triggers == "skip":
        yield Action(Phase.BEFORE, Step(SKIP))
    yield from _own(intent.loading.before, Phase.BEFORE)
    for table in tables if not intent.loading.deletes else ():
        if table.is_counted:
            yield Action(Phase.BEFORE, strategies.count(table.target), table)
        if table.is_staged:
            yield Action(Phase.BEFORE, Step(staged_rows.stage(table.target)), table)
        if table.removes:
            yield Action(Phase.BEFORE, Step(staged_rows.stage_keys(table.target)), table)


def _empty(tables: Sequence[TableLoad], intent: Intent) -> Iterator[Action]:
    if intent.loading.truncates:
        truncate = strategies.truncate([table.target for table in tables])
        yield Action(Phase.EMPTY, Step(truncate))
    for table in reversed(tables) if intent.loading.deletes else ():
        delete = Step(strategies.delete(table.target), Result.BEFORE, table.target)
        yield Action(Phase.EMPTY, delete, table)
        if table.delete_triggers:
            yield Action(Phase.EMPTY, guards.rows_left(table.target), table)


def _load(tables: Sequence[TableLoad], intent: Intent) -> Iterator[Action]:
    for table in tables:
        for scan, format_ in table.formats.items():
            yield load(table, scan, intent, format_)


def _apply(tables: Sequence[TableLoad], intent: Intent) -> Iterator[Action]:
    for table in tables:
        column = table.reading.watermark_column
        if table.is_compared and column is not None and table.need.left_out is not None:
            yield Action(Phase.APPLY, strategies.missed(table.target, column.name), table)
    for table in tables:
        if table.is_staged:
            yield from _apply_one(table, intent)
    for table in reversed(tables):
        for step in strategies.remove_missing(table.target) if table.removes else ():
            yield Action(Phase.APPLY, step, table)


def _apply_one(table: TableLoad, intent: Intent) -> Iterator[Action]:
    kept = intent.keeps_rejects
    names = table.deferrable if kept else ()
    if names:  # a statement fails then, not the COMMIT, and the search can find the bad row
        immediate = Step(constraints(names, "IMMEDIATE"))
        yield Action(Phase.APPLY, immediate, table, is_guarded=True)
    for step in steps_of(table, intent, table.target):
        yield Action(Phase.APPLY, step, table, is_guarded=kept, savepoint=kept)
    if names:
        deferred = Step(constraints(names, "DEFERRED"))
        yield Action(Phase.APPLY, deferred, table, is_guarded=True)


def _after(
    tables: Sequence[TableLoad], intent: Intent, snapshot: Snapshot | None
) -> Iterator[Action]:
    for table in tables:
        if intent.ledger is not None:
            later = {"run": Later("run")}
            later |= {name: Later(name, "unknown") for name in ("rows", "size")}
            is_marked = table.reading.watermark_column is not None
            if is_marked and intent.source.transfer.overlap != "all":
                later["mark"] = Later("mark")
            record = intent.ledger.record(_entry(table, intent, snapshot), later)
            yield Action(Phase.AFTER, Step(record), table)
    # After the ledger: if the SQL commits by mistake, the ledger already records the data.
    yield from _own(intent.loading.after, Phase.AFTER)


def _after_commit(tables: Sequence[TableLoad], intent: Intent) -> Iterator[Action]:
    phase, statements = Phase.AFTER_COMMIT, intent.loading.after_commit
    for statement in statements:
        yield Action(phase, Step(sql.SQL(statement)), block=Block.NONE, path=Path.ANY)
    if intent.ledger is not None and statements:
        names = [table.name for table in tables]
        yield Action(phase, Step(intent.ledger.hold(names)), block=Block.NOTE)
        yield Action(phase, Step(intent.ledger.after_commit_done(names)), block=Block.NOTE)
        yield Action(phase, Step(COMMIT), block=Block.NOTE, path=Path.ANY)
    if intent.loading.analyze:
        analyses = [
            sql.SQL("ANALYZE {}").format(table.target.relation.identifier) for table in tables
        ]
        for each in (NO_STANDBY, *analyses, COMMIT):
            yield Action(phase, Step(each), block=Block.STATISTICS, path=Path.ANY)


def _own(statements: Sequence[str], phase: Phase) -> Iterator[Action]:
    # Execution compares both XIDs: the operator's SQL must not end the transaction.
    if statements:
        yield Action(phase, Step(XID, Result.TRANSACTION))
        for statement in statements:
            yield Action(phase, Step(sql.SQL(statement)), path=Path.OWN)
        yield Action(phase, Step(XID, Result.TRANSACTION))


def _entry(table: TableLoad, intent: Intent, snapshot: Snapshot | None) -> Entry:
    entry, relation, source = table.state.entry, table.target.relation, table.reading.relation
    if snapshot is None:
        raise RuntimeError("nothing was read yet")
    full_horizon, full_at = snapshot.xmin, table.state.now
    if entry is not None and not table.need.is_full:
        full_horizon, full_at = entry.full_horizon or 0, entry.full_at or full_at
    return Entry(
        schema=relation.schema,
        name=relation.name,
        relation=relation.oid,
        transfer=intent.source.transfer.name,
        run="",
        position=snapshot.reached,
        snapshot=snapshot.text,
        horizon=snapshot.xmin,
        full_horizon=full_horizon,
        mark=None,
        filenode=source.filenode if source is not None else None,
        rows=0,
        size=0,
        format=table.format,
        fingerprint=table.state.fingerprint,
        committed_at=table.state.now,
        full_at=full_at,
        after_commit_done=not intent.loading.after_commit,
    )
