"""A source or a destination that is lost in the middle of a run, at exact moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd import events
from copyd.transfers import Reintroduce, run
from tests.support.fanout import OTHERS
from tests.support.loadings import KEYED, TEN

if TYPE_CHECKING:
    from copyd.events import Event
    from tests.support.fanout import Fanout


def test_a_source_whose_locks_are_lost_is_read_again(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE a (i int)", "CREATE TABLE b (i int)")
    fanout.do("source", "INSERT INTO a VALUES (1)", "INSERT INTO b SELECT generate_series(1, 10)")
    ended: list[object] = []

    def rewrite(event: Event) -> None:
        if isinstance(event, events.DataRelayed) and not ended:
            ended.extend(
                fanout.ask(
                    "source",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND state = 'idle in transaction'"
                    " AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1",
                )
            )
            fanout.do("source", "SET lock_timeout = '5s'", "ALTER TABLE b ALTER i TYPE bigint")

    two = Reintroduce(attempts=2, backoff=0.05, max_backoff=0.1)
    fanout.succeed("public.a", "public.b", observe=rewrite, reintroduce=two)
    assert ended
    assert any(isinstance(event, events.SourceDropped) for event in fanout.seen)
    assert fanout.ask("eu", "SELECT count(*) FROM b") == [(10,)]


def test_a_source_whose_snapshot_is_lost_between_two_passes_is_read_again(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2, fill=TEN)
    ended: list[object] = []

    def end(event: Event) -> None:
        if isinstance(event, events.DataRelayed) and not ended:
            ended.extend(fanout.ask("us", OTHERS))
        if isinstance(event, events.PassStarted) and event.number == 2:
            ended.extend(fanout.ask("source", OTHERS))

    two = Reintroduce(attempts=2, backoff=0.05, max_backoff=0.1)
    fanout.succeed(observe=end, reintroduce=two)
    assert len(ended) == 2
    lost = [event for event in fanout.seen if isinstance(event, events.SourceDropped)]
    assert [event.will_return for event in lost] == [True]
    fanout.assert_equal()


def test_one_that_cannot_start_its_next_table_is_dropped_and_the_rest_go_on(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE a (i int)", "CREATE TABLE b (i int)", replicas=2)
    fanout.do("source", "INSERT INTO a VALUES (1)", "INSERT INTO b VALUES (2)")
    ended: list[object] = []

    def end(event: Event) -> None:
        if isinstance(event, events.DataRelayed) and not ended:
            ended.extend(fanout.ask("us", OTHERS))

    report = fanout.run("public.a", "public.b", observe=end)
    eu, us = report.outcomes
    assert (eu.verdict.value, eu.passes, eu.faults) == ("succeeded", 1, 0)
    assert us.verdict.value == "failed"


def test_a_source_that_takes_no_more_connections_for_a_while_is_asked_again(fanout: Fanout) -> None:
    fanout.create(KEYED, fill=TEN)
    database = fanout.databases["source"]

    def refuse(event: Event) -> None:
        may_connect = isinstance(event, events.SourceDropped)
        if may_connect or (isinstance(event, events.PassStarted) and event.number == 1):
            fanout.do("eu", f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS {may_connect}")

    two = Reintroduce(attempts=2, backoff=0.05, max_backoff=0.1)
    fanout.succeed(observe=refuse, reintroduce=two)
    assert [type(event) for event in fanout.seen].count(events.SourceDropped) == 1
    fanout.assert_equal()


def test_what_ends_a_copy_is_told_though_a_destination_faults_while_it_ends(
    fanout: Fanout,
) -> None:
    fanout.create(KEYED, fill=TEN)

    def fail(event: Event) -> None:
        if isinstance(event, events.DataRelayed):
            fanout.ask("eu", OTHERS)
            raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="a defect"):
        run(fanout.transfer(), observe=fail)
    assert fanout.ask("eu", "SELECT count(*) FROM t") == [(0,)]
