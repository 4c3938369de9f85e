"""``copyd once`` killed at random moments and started again, while everything around it breaks.

Equality is computed by the servers. ``COPYD_TEST_KILLS`` is the number of kills in all, 200 in the
long form (``make chaos``); ``COPYD_TEST_SEED`` repeats a failed test's decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.chaos import KILLS_A_CASE, SEED, alter_books
from tests.support.servers import running_server
from tests.support.sql import ask, content, execute
from tests.support.standby import (
    crash,
    shut_down,
    standby_of,
    start_again,
    wait_until_caught_up,
)
from tests.support.wiretap import Blow, Plan
from tests.support.writers import MANY, TABLES, churning, inserting, upserting, writing

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.cluster import Installation
    from tests.faults.transfers.conftest import Rig
    from tests.support.chaos import Chaos
    from tests.support.once_command import Options
    from tests.support.servers import Server
    from tests.support.writers import Desk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 15 * KILLS_A_CASE)]

QUIET = {"autovacuum": "off", "synchronous_commit": "on", "wal_keep_size": "512MB"}
APPEND: Options = {"mode": "append", "key": ["id"]}
MERGE: Options = {"mode": "merge", "key": ["id"]}
MERGE_ALL: Options = {**MERGE, "delete_missing": True}


def survive(chaos: Chaos, work: Callable[[Desk], None], *, oldest: float = 365 * 86400.0) -> None:
    """Kill runs from the very first one, while writers write."""
    with writing(chaos.source, work, seed=f"{SEED} {chaos.case}", oldest=oldest):
        chaos.rage(1)
        chaos.rehearse()
        chaos.rage(KILLS_A_CASE - 1)
    chaos.settle()


def test_appended_rows_without_a_key_arrive_exactly_once(rig: Rig) -> None:
    survive(rig.chaos("append without key", {"mode": "append"}, has_key=False), inserting)


def test_appended_rows_with_a_key_arrive_exactly_once(rig: Rig) -> None:
    chaos = rig.chaos("append with key", {**APPEND, "cursor": "updated_at"})
    survive(chaos, inserting)


def test_changed_rows_are_merged(rig: Rig) -> None:
    survive(rig.chaos("merge", MERGE), upserting)


def test_changed_rows_are_merged_under_a_bounded_overlap(rig: Rig) -> None:
    """Cursors are at most 5 s old when written and 8 s when committed: a minute takes them in."""
    bounded = {**MERGE, "cursor": "updated_at", "overlap": "1m", "full_every": "24h"}
    survive(rig.chaos("merge bounded", bounded), upserting, oldest=5.0)


def test_deleted_rows_go_too_where_that_is_asked_for(rig: Rig) -> None:
    survive(rig.chaos("merge with deletions", MERGE_ALL), churning)


@pytest.mark.parametrize("way", ["delete", "truncate"])
def test_replaced_rows_are_those_of_one_snapshot(rig: Rig, way: str) -> None:
    chaos = rig.chaos(f"replace by {way}", {"mode": "replace", "replace_with": way})
    survive(chaos, churning)


def test_rows_are_merged_from_a_standby(rig: Rig, installation: Installation) -> None:
    with running_server(installation, **QUIET) as primary:
        chaos = rig.chaos("standby", MERGE_ALL, source_server=primary)
        with standby_of(primary) as standby:
            chaos.once.servers["shop"] = standby.conninfo("shop")
            with writing(chaos.source, churning, seed=f"{SEED} standby"):
                chaos.rage(1)
                chaos.rehearse()
                chaos.rage(KILLS_A_CASE - 1)
            wait_until_caught_up(primary, standby)
            chaos.settle()


def test_a_snapshot_of_a_standby_hides_a_transaction_with_many_savepoints(
    rig: Rig, installation: Installation
) -> None:
    """It commits while the run reads.

    PostgreSQL 13 to 18 leave the running transactions out when a snapshot is exported on a standby
    while one of them has more than 64 savepoints. Who imports it sees that transaction's rows as
    soon as they are committed, and if he reads them earlier, he marks them as aborted on the
    standby's pages: then nobody sees them there, ever.
    """
    with running_server(installation, **QUIET) as primary:
        chaos = rig.chaos("many savepoints", MERGE_ALL, source_server=primary, groups=100)
        with standby_of(primary) as standby, psycopg.connect(chaos.source) as writer:
            chaos.once.servers["shop"] = standby.conninfo("shop")
            assert chaos.rehearse().code == 0
            before = content(chaos.source, TABLES)
            insert_in_savepoints(writer, MANY)
            execute(chaos.source, "CREATE TABLE later (i int)")  # a transaction id beyond its own
            wait_until_caught_up(primary, standby)
            chaos.tap.arm(Plan("to_server", "before", Blow.HOLD, text=b"COPY"))
            started = chaos.once.start()
            assert chaos.tap.wait_until_struck(started), chaos.once.finish(started).said
            writer.commit()
            wait_until_caught_up(primary, standby)
            chaos.tap.release()
            ended = chaos.once.finish(started)
            assert ended.code == 0, ended.said
            for conninfo in chaos.ends.values():
                assert content(conninfo, TABLES) in (before, content(chaos.source, TABLES))
            found = content(standby.conninfo("shop"), TABLES)
            assert found == content(chaos.source, TABLES), "the standby itself was damaged"
            chaos.settle()


def insert_in_savepoints(writer: psycopg.Connection[Any], savepoints: int) -> None:
    for number in range(1, savepoints + 1):
        writer.execute("SAVEPOINT s")
        for name in TABLES:
            writer.execute(f"INSERT INTO {name} VALUES (%s, %s, 1, '', now())", (number, number))
        writer.execute("RELEASE SAVEPOINT s")


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_table_rewritten_at_the_source_in_the_middle_loses_nothing(rig: Rig, mode: str) -> None:
    """Every row has a new transaction id then; a refusal that names ``--full`` is an answer too."""
    transfer = APPEND if mode == "append" else MERGE
    chaos = rig.chaos(f"rewritten, {mode}", transfer, destination_amount="bigint")
    kills = max(2, KILLS_A_CASE // 2)

    def rewrite_in_the_middle(number: int) -> None:
        if number == kills // 2:
            alter_books(chaos.source, "bigint")

    work = inserting if mode == "append" else upserting
    with writing(chaos.source, work, seed=f"{SEED} {chaos.case}"):
        chaos.rehearse()
        chaos.rage(kills, between=rewrite_in_the_middle)
    ended = chaos.rehearse()
    assert ended.is_clean or "--full" in ended.said, ended.said
    chaos.settle(*([] if ended.is_clean else ["--full"]))


@pytest.mark.parametrize("position", ["behind", "ahead"])
def test_a_standby_promoted_too_early_is_followed(
    rig: Rig, installation: Installation, position: str
) -> None:
    """What only the lost primary had was copied already; its transaction ids are used again.

    The new primary's log is behind what the destinations know, or ahead of it.
    """
    kills = max(1, KILLS_A_CASE // 2)
    with running_server(installation, **QUIET) as primary:
        chaos = rig.chaos(f"failover, {position}", MERGE_ALL, source_server=primary)
        with standby_of(primary) as standby:
            with writing(chaos.source, churning, seed=f"{SEED} failover 1"):
                chaos.rage(kills)
            wait_until_caught_up(primary, standby)
            shut_down(standby)
            write_what_will_be_lost(chaos)
            crash(primary)
            known = promote(standby)
            chaos.source = chaos.once.servers["shop"] = standby.conninfo("shop")
            if position == "ahead":
                write_until_ahead(chaos, known)
            chaos.settle()
            with writing(chaos.source, churning, seed=f"{SEED} failover 2", first=11):
                chaos.rage(kills)
            chaos.settle()


def write_what_will_be_lost(chaos: Chaos) -> None:
    """New, changed and removed rows that only the primary and its destinations ever see."""
    lost = [
        "INSERT INTO {} SELECT -10000000 - i, -10000000 - i, i, 'lost', now() FROM generate_series(1, 50) i",
        "UPDATE {} SET amount = amount + 7, note = 'lost' WHERE id BETWEEN -200 AND -101",
        "DELETE FROM {} WHERE id BETWEEN -300 AND -201",
    ]
    for statement in lost:
        execute(chaos.source, *(statement.format(name) for name in ("debits", "credits")))
    ended = chaos.rehearse()
    assert ended.code == 0, ended.said
    chaos.assert_equal()


def promote(standby: Server) -> str:
    """Make the standby the primary; returns where its log ends."""
    start_again(standby)
    standby.cluster.promote()
    ((end,),) = ask(standby.conninfo(), "SELECT pg_current_wal_lsn()::text")
    return str(end)


def write_until_ahead(chaos: Chaos, known: str) -> None:
    """Change other rows under the used-up transaction ids, and go on until the log is ahead."""
    for name in ("debits", "credits"):
        execute(chaos.source, f"UPDATE {name} SET amount = amount - 3 WHERE id BETWEEN -20 AND -1")
    query = f"SELECT pg_switch_wal() - '{known}' > 64 * 1024 * 1024"
    while ask(chaos.source, query) != [(True,)]:
        execute(chaos.source, "CREATE TABLE filler (i int)", "DROP TABLE filler")
