"""The rows a destination still needs, decided from its ledger; pure.

A run never replaces newer data with an older snapshot. If the ledger does not record the contents of
a table, all rows are read and compared by key; without a key the run is refused.
"""
# Decision: A horizon, not visibility

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from copyd.errors import CopydError
from copyd.transfers.source import EVERYTHING, Bounds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from copyd.loading import Entry, Position
    from copyd.transfers.source import Reading, Snapshot
    from copyd.transfers.transfer import Mode, Transfer


@dataclass(frozen=True, slots=True)
class TableState:
    """The state of one table at a destination; a run has locked the table's row of the ledger.

    ``is_below_horizon``: appends have no key, so the table holds only rows below the horizon.
    ``fingerprint``: of the columns, key, condition or query of the reading.
    """

    table: str
    oid: int
    is_empty: bool
    has_key: bool
    is_below_horizon: bool
    fingerprint: str
    entry: Entry | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Need:
    """The rows that one table at one destination needs.

    ``corrects``: existing rows with the same key are updated in every mode.
    ``is_full``: the scan covers every row written since the last full scan.
    ``left_out``: in a full scan, the bounds of the scans since the last full one.
    """

    bounds: Bounds = EVERYTHING
    corrects: bool = False
    is_full: bool = True
    left_out: Bounds | None = None


def refusals(
    state: TableState, transfer: Transfer, source: Position, *, mode: Mode, adopt: bool
) -> Iterator[str]:
    """Return a sentence for each reason why the transfer must not load the table."""
    entry = state.entry
    if entry is None:
        if not state.is_empty and not adopt:
            yield (
                f"table {state.table} is not empty and no run has loaded it: empty it, or set "
                "adopt = true for this destination"
            )
        return
    is_ours = entry.transfer == transfer.name
    is_same_source = entry.position.system_identifier == source.system_identifier
    if not is_ours and not adopt:
        yield (
            f"table {state.table} is loaded by transfer {entry.transfer}: remove it there, or set "
            "adopt = true for this destination"
        )
    if not is_same_source and not adopt:
        yield (
            f"table {state.table} was loaded from another source server: set adopt = true for this "
            "destination if that is meant"
        )
    is_other = entry.fingerprint != state.fingerprint
    if mode in ("append", "merge") and is_ours and is_same_source and is_other:
        yield (
            f"table {state.table}: its columns, key, condition or query are not those of the last "
            f"run, so older rows would lack them: run copyd once {transfer.name} --full"
        )


def need_of(
    state: TableState,
    reading: Reading,
    transfer: Transfer,
    snapshot: Snapshot,
    *,
    mode: Mode,
    is_forced: bool = False,
) -> Need:
    """Return the table's need under `snapshot`; `is_forced`: older data may replace newer.

    Raises CopydError if the table holds newer data, or has no key to compare its rows by.
    """
    entry = _ours(state, transfer, snapshot)
    is_older = entry is not None and _is_older(entry.position, snapshot.position)
    if is_older and mode in ("replace", "merge") and not is_forced:
        raise CopydError(
            f"table {state.table} holds newer data than this source shows (a standby that lags, or "
            f"one that was set back): wait for it, or run copyd once {transfer.name} --full"
        )
    if mode in ("insert", "replace"):
        return Need(Bounds(until=snapshot.xmin)) if state.is_below_horizon else Need()
    if not reading.has_xmin:
        return Need()
    if entry is None or is_older or entry.position.timeline != snapshot.position.timeline:
        return _from_scratch(state, transfer, snapshot, corrects=not is_older)
    is_same_table = entry.filenode == _filenode(reading)
    if state.has_key and is_same_table:
        return _bounded(state, entry, reading, transfer)
    if state.has_key:  # the source's table may be another one now, with rows never read
        return _from_scratch(state, transfer, snapshot, corrects=True)
    if not is_same_table:
        raise CopydError(
            f"table {state.table}: the source's table was rewritten, which makes old rows look new, "
            f"and there is no key to tell them apart: run copyd once {transfer.name} --full"
        )
    return Need(Bounds(since=entry.horizon, until=snapshot.xmin))


def _ours(state: TableState, transfer: Transfer, snapshot: Snapshot) -> Entry | None:
    """The ledger's entry, if it is about this very table, transfer and source."""
    entry = state.entry
    if entry is None or entry.transfer != transfer.name or entry.relation != state.oid:
        return None
    if state.is_empty:  # emptied since the last run
        return None
    is_same_source = entry.position.system_identifier == snapshot.position.system_identifier
    return entry if is_same_source else None


def _is_older(loaded: Position, offered: Position) -> bool:
    return loaded.timeline > offered.timeline or (
        loaded.timeline == offered.timeline and loaded.lsn > offered.lsn
    )


def _from_scratch(
    state: TableState, transfer: Transfer, snapshot: Snapshot, *, corrects: bool
) -> Need:
    if state.has_key:
        return Need(corrects=corrects)
    if state.is_empty:
        return Need(Bounds(until=snapshot.xmin))
    raise CopydError(
        f"table {state.table}: what it holds cannot be compared with the source without a key: "
        f"name one, or run copyd once {transfer.name} --full"
    )


def _bounded(state: TableState, entry: Entry, reading: Reading, transfer: Transfer) -> Need:
    # The rows since the last run; every `full_every` seconds also those the lookback left out.
    lookback = transfer.overlap
    if lookback == "all":
        return Need(Bounds(since=entry.full_horizon))
    wait = timedelta(seconds=transfer.full_every)
    watermark = reading.watermark_of(entry.mark)
    if watermark is None:
        return Need(Bounds(since=entry.full_horizon))
    bounds = Bounds(since=entry.horizon, watermark=watermark, lookback=lookback)
    if entry.full_at is None or state.now - entry.full_at >= wait:
        return Need(Bounds(since=entry.full_horizon), left_out=bounds)
    return Need(bounds, is_full=False)


def _filenode(reading: Reading) -> int | None:
    return reading.relation.filenode if reading.relation is not None else None
