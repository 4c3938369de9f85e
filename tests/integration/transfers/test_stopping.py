"""A run that is ended from outside: destinations keep what they have, and it is told."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from copyd import events
from copyd.cluster.poll import wait_for
from copyd.errors import CopydError
from copyd.transfers import Loading, Reintroduce, RunStopped, Stop, Verdict, run

if TYPE_CHECKING:
    from copyd.events import Event
    from copyd.transfers import Report
    from tests.support.fanout import Fanout

TABLE = "CREATE TABLE t (id int PRIMARY KEY, note text)"
ROWS = "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 50000) i"
OLD = "INSERT INTO t VALUES (-1, 'old')"
ADOPTING = Loading(adopt=True)
WHY = "the daemon is stopping"
PROMPT = 5.0
"""Seconds in which a run must have noticed; its own patience is longer."""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def prepare(fanout: Fanout) -> None:
    fanout.create(TABLE, replicas=2, more=OLD)
    fanout.do("source", ROWS)


def old_rows(fanout: Fanout) -> list[list[tuple[Any, ...]]]:
    return [fanout.ask(name, "SELECT id FROM t") for name in fanout.replicas]


def end_backends_of(fanout: Fanout, name: str) -> None:
    """From another database, so that the one who asks is not among them."""
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect(fanout.conninfos["us"], autocommit=True) as admin:
        admin.execute(end, [fanout.databases[name]])


@pytest.mark.parametrize(
    "moment", [events.RunStarted, events.SnapshotTaken, events.PassStarted, events.DataRelayed]
)
def test_a_run_that_is_stopped_changes_nothing_and_says_why(
    fanout: Fanout, moment: type[Event]
) -> None:
    prepare(fanout)
    stop = Stop()
    seen: list[Event] = []

    def observe(event: Event) -> None:
        seen.append(event)
        if isinstance(event, moment):
            stop.ask(WHY)

    began = time.monotonic()
    report = run(fanout.transfer(loading=ADOPTING), observe=observe, stop=stop)
    assert time.monotonic() - began < PROMPT
    assert report.verdict is Verdict.FAILED
    assert {outcome.cause for outcome in report.outcomes} == {WHY}
    ended = [event for event in seen if isinstance(event, events.DestinationEnded)]
    assert [(event.verdict, event.data_timestamp) for event in ended] == [("failed", None)] * 2
    assert isinstance(seen[-1], events.RunEnded)
    assert old_rows(fanout) == [[(-1,)]] * 2


def test_a_run_that_is_to_end_before_it_begins_does_not_begin(fanout: Fanout) -> None:
    fanout.create(TABLE)
    stop = Stop()
    stop.ask(WHY)
    with pytest.raises(RunStopped, match=WHY):
        run(fanout.transfer(), stop=stop)


def test_a_run_that_waits_for_its_source_is_stopped(fanout: Fanout) -> None:
    """The source thinks for longer than the run lasts: only cutting it off ends the wait."""
    prepare(fanout)
    slow = "CREATE VIEW slow AS SELECT id, note FROM t, pg_sleep(30)"
    fanout.do("source", slow)
    for name in fanout.replicas:
        fanout.do(name, "CREATE TABLE slow (id int, note text)")
    stop = Stop()
    reports: list[Report] = []

    def carry_out() -> None:
        reports.append(run(fanout.transfer("public.slow"), stop=stop))

    thread = threading.Thread(target=carry_out)
    thread.start()
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    assert wait_for(lambda: fanout.ask("source", asleep) == [(1,)], timeout=30)
    stop.ask(WHY)
    thread.join(PROMPT)
    assert not thread.is_alive()
    assert [each.cause for each in reports[0].outcomes] == [WHY] * 2


def test_a_run_that_waits_for_a_lock_at_its_source_is_stopped(fanout: Fanout) -> None:
    prepare(fanout)
    fanout.open("source", "LOCK TABLE t")
    stop = Stop()

    def ask() -> None:
        assert wait_for(lambda: fanout.ask("us", WAITING) == [(1,)], timeout=30)
        stop.ask(WHY)

    thread = threading.Thread(target=ask)
    thread.start()
    began = time.monotonic()
    with pytest.raises(RunStopped, match=WHY):
        run(fanout.transfer(loading=ADOPTING), stop=stop)
    assert time.monotonic() - began < PROMPT
    thread.join()


def test_a_run_that_waits_for_a_lock_at_its_source_ends_at_its_deadline(fanout: Fanout) -> None:
    prepare(fanout)
    fanout.open("source", "LOCK TABLE t")
    with pytest.raises(CopydError, match=r"the deadline of 1 s has passed; source source: "):
        run(fanout.transfer(loading=ADOPTING, deadline=1.0))


def test_a_run_that_waits_for_a_destination_is_stopped(fanout: Fanout) -> None:
    prepare(fanout)
    fanout.open("eu", "LOCK TABLE t")
    stop = Stop()
    reports: list[Report] = []

    def carry_out() -> None:
        transfer = fanout.transfer(loading=ADOPTING, lock_timeout=60.0, prepare_timeout=60.0)
        reports.append(run(transfer, stop=stop))

    thread = threading.Thread(target=carry_out)
    thread.start()
    assert wait_for(lambda: fanout.ask("us", WAITING) == [(1,)], timeout=30)
    stop.ask(WHY)
    thread.join(PROMPT)
    assert not thread.is_alive()
    assert [each.cause for each in reports[0].outcomes] == [WHY] * 2


def test_a_run_that_waits_for_the_verdict_of_a_destination_is_stopped(fanout: Fanout) -> None:
    """All rows are sent, and a trigger thinks about them: nothing moves any more."""
    prepare(fanout)
    fanout.do("source", "DELETE FROM t WHERE id > 3")
    for name in fanout.replicas:
        fanout.do(
            name,
            "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'",
            "CREATE TRIGGER nap BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nap()",
        )
    stop = Stop()
    reports: list[Report] = []

    def carry_out() -> None:
        patient = fanout.transfer(loading=ADOPTING, stall_timeout=60.0)
        reports.append(run(patient, stop=stop))

    thread = threading.Thread(target=carry_out)
    thread.start()
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    assert wait_for(lambda: fanout.ask("source", asleep) == [(2,)], timeout=30)
    stop.ask(WHY)
    thread.join(PROMPT)
    assert not thread.is_alive()
    assert [each.cause for each in reports[0].outcomes] == [WHY] * 2
    assert old_rows(fanout) == [[(-1,)]] * 2


def test_a_run_that_rests_before_it_asks_its_source_again_is_stopped(fanout: Fanout) -> None:
    prepare(fanout)
    stop = Stop()
    seen: list[Event] = []

    def observe(event: Event) -> None:
        seen.append(event)
        if isinstance(event, events.DataRelayed):
            end_backends_of(fanout, "source")
        if isinstance(event, events.SourceDropped):
            stop.ask(WHY)

    patient = Reintroduce(attempts=3, backoff=60.0, max_backoff=60.0)
    began = time.monotonic()
    report = run(fanout.transfer(loading=ADOPTING, reintroduce=patient), observe=observe, stop=stop)
    assert time.monotonic() - began < PROMPT
    assert [each.cause for each in report.outcomes] == [WHY] * 2
    assert old_rows(fanout) == [[(-1,)]] * 2


def test_how_old_the_data_is_is_told_by_the_sources_clock(fanout: Fanout) -> None:
    fanout.create(TABLE)
    ((before,),) = fanout.ask("source", "SELECT extract(epoch FROM clock_timestamp())::float8")
    (outcome,) = fanout.succeed()
    ((after,),) = fanout.ask("source", "SELECT extract(epoch FROM clock_timestamp())::float8")
    assert outcome.data_timestamp is not None
    assert before <= outcome.data_timestamp <= after
    (taken,) = fanout.of(events.SnapshotTaken)
    assert isinstance(taken, events.SnapshotTaken)
    assert taken.data_timestamp == outcome.data_timestamp
    (ended,) = fanout.of(events.DestinationEnded)
    assert isinstance(ended, events.DestinationEnded)
    assert ended.data_timestamp == outcome.data_timestamp


def test_a_fault_is_told_with_its_kind(fanout: Fanout) -> None:
    prepare(fanout)
    is_first = True

    def observe(event: Event) -> None:
        nonlocal is_first
        if isinstance(event, events.DataRelayed) and is_first:
            is_first = False
            end_backends_of(fanout, "eu")

    fanout.run(loading=ADOPTING, observe=observe)
    (dropped,) = fanout.of(events.DestinationDropped)
    assert isinstance(dropped, events.DestinationDropped)
    assert dropped.kind in {"intervention", "connection"}
