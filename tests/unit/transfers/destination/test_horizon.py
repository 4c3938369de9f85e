from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from copyd.catalog.relations import Column, Relation
from copyd.errors import CopydError
from copyd.loading.ledger import Entry, Position
from copyd.transfers.destination.horizon import Need, TableState, need_of, refusals
from copyd.transfers.server import Server
from copyd.transfers.source.readings import Bounds, Reading
from copyd.transfers.source.snapshot import Snapshot
from copyd.transfers.transfer import Mode, Tables, Transfer

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
SOURCE = Relation(1, "public", "t", "r", "p", filenode=7, estimated_rows=None)
READING = Reading(
    "public.t",
    "public.t",
    SOURCE,
    (Column("id", "integer"),),
    watermark_column=Column("at", "timestamptz"),
)
HERE = Position(system_identifier=1, timeline=1, lsn=500)
SNAPSHOT = Snapshot(HERE, HERE, "00000003-1", "900:905:", 900, 905, "2026-11-01 12:00:00+00", None)
TRANSFER = Transfer(
    name="orders", source=Server("shop", ""), replicas=(), what=Tables(("public.t",))
)
ENTRY = Entry(
    schema="public", name="t", relation=2, transfer="orders", run="7f",
    position=replace(HERE, lsn=400), snapshot="800:800:", horizon=800, full_horizon=700,
    mark="at=2026-10-31", filenode=7, rows=10, size=100, format="text", fingerprint="f",
    committed_at=NOW, full_at=NOW - timedelta(hours=1), after_commit_done=True,
)  # fmt: skip
LOADED = TableState(
    table="public.t", oid=2, is_empty=False, has_key=True, is_below_horizon=False,
    fingerprint="f", entry=ENTRY, now=NOW,
)  # fmt: skip
FRESH = replace(LOADED, entry=None, is_empty=True)
INCREMENTAL: list[Mode] = ["append", "merge"]


def need(there: TableState, mode: Mode, **changes: object) -> Need:
    return need_of(there, READING, replace(TRANSFER, **changes), SNAPSHOT, mode=mode)  # type: ignore[arg-type]


def without_key(there: TableState) -> TableState:
    return replace(there, has_key=False, is_below_horizon=True)


def at(**changes: object) -> TableState:
    """What is there when the last run read the source at another position."""
    return replace(LOADED, entry=replace(ENTRY, position=replace(HERE, **changes)))  # type: ignore[arg-type]


def test_replace_needs_everything() -> None:
    assert need(LOADED, "replace").bounds == Bounds()


@pytest.mark.parametrize("mode", INCREMENTAL)
def test_what_was_written_since_the_last_snapshots_oldest_transaction_is_read(mode: Mode) -> None:
    assert need(LOADED, mode).bounds.since == 700


@pytest.mark.parametrize("mode", INCREMENTAL)
def test_a_table_that_was_never_loaded_needs_everything(mode: Mode) -> None:
    assert need(FRESH, mode).bounds == Bounds()


def test_without_a_key_only_rows_of_transactions_that_have_all_ended_are_read() -> None:
    assert need(without_key(LOADED), "append").bounds == Bounds(since=800, until=900)
    assert need(without_key(FRESH), "append").bounds == Bounds(until=900)


def test_a_full_load_of_a_table_without_a_key_ends_at_the_horizon_too() -> None:
    assert need(without_key(LOADED), "replace").bounds == Bounds(until=900)


def test_without_a_key_a_rewritten_source_table_is_refused() -> None:
    there = without_key(replace(LOADED, entry=replace(ENTRY, filenode=8)))
    with pytest.raises(CopydError, match=r"rewritten.*--full"):
        need(there, "append")


@pytest.mark.parametrize("mode", INCREMENTAL)
def test_a_bounded_overlap_starts_behind_the_mark(mode: Mode) -> None:
    found = need(LOADED, mode, overlap=timedelta(hours=1))
    assert found.bounds == Bounds(since=800, watermark="2026-10-31", lookback=timedelta(hours=1))
    assert not found.is_full


def test_a_full_look_knows_what_was_left_out_before() -> None:
    entry = replace(ENTRY, full_at=NOW - timedelta(hours=25))
    found = need(replace(LOADED, entry=entry), "merge", overlap=timedelta(hours=1))
    assert found.left_out == Bounds(since=800, watermark="2026-10-31", lookback=timedelta(hours=1))


@pytest.mark.parametrize(
    "entry",
    [
        replace(ENTRY, full_at=NOW - timedelta(hours=25)),
        replace(ENTRY, full_at=None),
        replace(ENTRY, mark=None),
        replace(ENTRY, mark="another=2026-10-31"),
    ],
)
def test_a_full_look_goes_back_to_the_last_one(entry: Entry) -> None:
    found = need(replace(LOADED, entry=entry), "merge", overlap=timedelta(hours=1))
    assert found.bounds == Bounds(since=700)
    assert found.is_full


@pytest.mark.parametrize("mode", INCREMENTAL)
@pytest.mark.parametrize("there", [at(timeline=0, lsn=9), replace(LOADED, oid=3)])
def test_another_history_is_compared_from_scratch_by_key(mode: Mode, there: TableState) -> None:
    found = need(there, mode)
    assert (found.bounds, found.corrects) == (Bounds(), True)


@pytest.mark.parametrize("there", [at(timeline=0, lsn=9), replace(LOADED, oid=3)])
def test_another_history_without_a_key_is_refused(there: TableState) -> None:
    with pytest.raises(CopydError, match=r"without a key.*--full"):
        need(without_key(there), "append")


@pytest.mark.parametrize("mode", ["replace", "merge"])
@pytest.mark.parametrize("there", [at(lsn=501), at(timeline=2)])
def test_newer_data_is_never_replaced_by_an_older_snapshot(mode: Mode, there: TableState) -> None:
    with pytest.raises(CopydError, match="newer data"):
        need(there, mode)
    forced = need_of(there, READING, TRANSFER, SNAPSHOT, mode="replace", is_forced=True)
    assert forced.bounds == Bounds()


def test_an_older_snapshot_is_appended_by_key_without_touching_what_is_there() -> None:
    found = need(at(lsn=501), "append")
    assert (found.bounds, found.corrects) == (Bounds(), False)


def test_rows_of_a_view_are_all_read() -> None:
    reading = replace(READING, relation=None, query="SELECT 1 AS id")
    assert need_of(LOADED, reading, TRANSFER, SNAPSHOT, mode="merge").bounds == Bounds()


def test_a_table_that_was_emptied_since_is_filled_again() -> None:
    assert need(replace(LOADED, is_empty=True), "append").bounds == Bounds()


def ours(there: TableState, mode: Mode = "append", *, adopt: bool = False) -> None:
    for sentence in refusals(there, TRANSFER, HERE, mode=mode, adopt=adopt):
        raise CopydError(sentence)


STRANGERS = [
    (replace(FRESH, is_empty=False), "not empty"),
    (replace(LOADED, entry=replace(ENTRY, transfer="books")), "transfer books"),
    (at(system_identifier=2), "another source"),
]


@pytest.mark.parametrize(("there", "said"), STRANGERS)
@pytest.mark.parametrize("mode", ["replace", *INCREMENTAL])
def test_what_is_not_ours_is_left_alone_unless_adopted(
    there: TableState, said: str, mode: Mode
) -> None:
    with pytest.raises(CopydError, match=f"{said}.*adopt = true"):
        ours(there, mode)
    ours(there, mode, adopt=True)


@pytest.mark.parametrize("mode", INCREMENTAL)
def test_another_meaning_of_the_rows_takes_a_full_run(mode: Mode) -> None:
    changed = replace(LOADED, fingerprint="g")
    for adopt in (False, True):
        with pytest.raises(CopydError, match="copyd once orders --full"):
            ours(changed, mode, adopt=adopt)
    ours(changed, "replace")


@pytest.mark.parametrize("mode", ["replace", *INCREMENTAL])
def test_our_own_tables_and_empty_ones_are_ours(mode: Mode) -> None:
    ours(LOADED, mode)
    ours(FRESH, mode)
