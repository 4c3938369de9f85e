"""One run, from connect to verdict, on real servers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from copyd import events
from copyd.cli.copy import one_off
from copyd.errors import CopydError
from copyd.transfers import Query, Reintroduce, Server, Tables, Transfer, Verdict, run
from tests.support.proxy import Action, Proxy
from tests.support.sql import execute

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.events import Event
    from tests.support import servers
    from tests.support.fanout import Fanout

ROWS = 200_000
FEW = 100
TABLE = "CREATE TABLE t (i int PRIMARY KEY, x text)"
FILL = "INSERT INTO t SELECT i, repeat('x', 50) || i FROM generate_series(1, {rows}) i"
SOURCE_SUM = "SELECT count(*), sum(i), sum(hashtext(x)::bigint) FROM t"


def one_off_of(fanout: Fanout, *, reintroduce: int = 0, truncate: bool = False) -> Transfer:
    """What ``copyd copy`` makes of the table and both replicas."""
    ends = (fanout.end("eu"), fanout.end("us"))
    what = Tables(("t",))
    return one_off(fanout.end("source"), ends, what, reintroduce=reintroduce, truncate=truncate)


def at_commit(fanout: Fanout, where: str, action: str) -> None:
    """Have the server take `action` (PL/pgSQL) when rows of the table are committed."""
    fanout.do(
        where,
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN {action}; RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER act AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.i = 1) EXECUTE FUNCTION act()",
    )


def terminate(fanout: Fanout, where: str) -> None:
    fanout.do(
        where,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'copyd'",
    )


@pytest.fixture
def full(fanout: Fanout) -> Fanout:
    """So many rows that a copy is under way when its first data has been seen."""
    fanout.create(TABLE, replicas=2, fill=FILL.format(rows=ROWS))
    return fanout


@pytest.fixture
def small(fanout: Fanout) -> Fanout:
    fanout.create(TABLE, replicas=2, fill=FILL.format(rows=FEW))
    return fanout


def once(action: Callable[[], object], seen: list[Event]) -> Callable[[Event], None]:
    """An observer that keeps all events and acts at the first data."""

    def observe(event: Event) -> None:
        is_first = isinstance(event, events.DataRelayed) and not any(
            isinstance(before, events.DataRelayed) for before in seen
        )
        seen.append(event)
        if is_first:
            action()

    return observe


def told(seen: list[Event], destination: str) -> list[type[Event]]:
    """The kinds of events about `destination`, or about the whole run, but the many about data."""
    return [
        type(event)
        for event in seen
        if not isinstance(event, events.DataRelayed)
        and getattr(event, "destination", destination) == destination
    ]


def test_a_dropped_destination_comes_back_under_the_same_snapshot(full: Fanout) -> None:
    before = full.ask("source", SOURCE_SUM)
    seen: list[Event] = []

    def disturb() -> None:
        terminate(full, "us")
        full.do("source", "INSERT INTO t VALUES (0, 'too late')")
        full.do("source", "UPDATE t SET x = 'too late' WHERE i = 7")

    report = run(one_off_of(full, reintroduce=2), observe=once(disturb, seen))
    assert report.verdict is Verdict.SUCCEEDED
    assert [outcome.passes for outcome in report.outcomes] == [1, 2]
    assert [outcome.counts.rows for outcome in report.outcomes] == [ROWS, ROWS]
    assert full.ask("eu", SOURCE_SUM) == full.ask("us", SOURCE_SUM) == before
    assert told(seen, "us") == [
        events.RunStarted,
        events.SnapshotTaken,
        events.PassStarted,
        events.DestinationDropped,
        events.DestinationReintroduced,
        events.PassStarted,
        events.DestinationEnded,
        events.RunEnded,
    ]


def test_a_destination_that_is_not_to_return_fails_with_its_servers_words(full: Fanout) -> None:
    report = run(one_off_of(full), observe=once(lambda: terminate(full, "us"), []))
    eu, us = report.outcomes
    assert (report.verdict, eu.verdict, us.verdict) == (
        Verdict.PARTIAL,
        Verdict.SUCCEEDED,
        Verdict.FAILED,
    )
    assert "terminating connection" in (us.cause or "")
    assert (us.counts.rows, us.counts.size) == (0, 0)
    assert full.ask("us", "SELECT count(*) FROM t") == [(0,)]


def test_a_source_that_comes_back_is_read_again_under_a_new_snapshot(full: Fanout) -> None:
    seen: list[Event] = []
    report = run(
        one_off_of(full, reintroduce=2), observe=once(lambda: terminate(full, "source"), seen)
    )
    assert report.verdict is Verdict.SUCCEEDED
    lost = [event for event in seen if isinstance(event, events.SourceDropped)]
    assert [event.will_return for event in lost] == [True]
    assert full.ask("eu", SOURCE_SUM) == full.ask("source", SOURCE_SUM)


def test_a_source_that_dies_fails_every_destination_and_leaves_nothing(full: Fanout) -> None:
    report = run(one_off_of(full), observe=once(lambda: terminate(full, "source"), []))
    assert report.verdict is Verdict.FAILED
    assert all("source source" in (outcome.cause or "") for outcome in report.outcomes)
    assert full.ask("eu", "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        (Tables(("t",)), "TRUNCATE t"),
        (Tables(("v",)), "TRUNCATE t"),
        (Query("SELECT i, x FROM t", into="t"), "TRUNCATE t"),
        (Tables(("m",)), "REFRESH MATERIALIZED VIEW m"),
    ],
    ids=["table", "view", "query", "materialized view"],
)
def test_what_is_read_cannot_be_emptied_from_the_snapshot_on(
    small: Fanout, what: Tables | Query, statement: str
) -> None:
    for view in ("VIEW v", "MATERIALIZED VIEW m"):
        small.do("source", f"CREATE {view} AS SELECT * FROM t")
        small.do("eu", f"CREATE TABLE {view[-1]} (i int, x text)")
    refused: list[Exception] = []

    def empty(event: Event) -> None:
        if isinstance(event, events.RunStarted):
            try:
                small.do("source", f"SET lock_timeout = '10ms'; {statement}")
            except psycopg.errors.LockNotAvailable as error:
                refused.append(error)

    report = run(one_off(small.end("source"), (small.end("eu"),), what), observe=empty)
    assert report.verdict is Verdict.SUCCEEDED
    assert report.outcomes[0].counts.rows == FEW
    assert len(refused) == 1


def test_a_destination_that_falls_silent_before_its_data_holds_nobody_up(small: Fanout) -> None:
    server = small.server
    plain = make_conninfo(server.tcp_conninfo(small.databases["us"]), sslmode="disable")
    with Proxy(server.port) as proxy, psycopg.connect(plain, port=proxy.port):
        logged_in = len(proxy.to_client.seen)
    with Proxy(server.port) as proxy:
        over_proxy = make_conninfo(plain, port=proxy.port)
        proxy.to_client.after(logged_in, Action.STALL)
        transfer = one_off(
            small.end("source"), (small.end("eu"), Server("us", over_proxy)), Tables(("t",))
        )
        report = run(replace(transfer, prepare_timeout=2.0))
        proxy.to_client.release()
    eu, us = report.outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
    assert "no answer within 2 s" in (us.cause or "")


def test_a_table_is_emptied_only_when_its_data_comes(small: Fanout) -> None:
    small.do("eu", "INSERT INTO t VALUES (-1, 'old')")
    seen: list[object] = []

    def look(event: Event) -> None:
        if isinstance(event, events.PassStarted):
            small.do("eu", "SET lock_timeout = '1s'", "SELECT count(*) FROM t")
            seen.append(event)

    report = run(one_off_of(small, truncate=True), observe=look)
    assert report.verdict is Verdict.SUCCEEDED
    assert len(seen) == 1  # nobody had to wait before the pass
    assert small.ask("eu", SOURCE_SUM) == small.ask("source", SOURCE_SUM)


def test_a_table_that_cannot_be_emptied_is_left_out_and_the_others_go_on(small: Fanout) -> None:
    small.do("us", "CREATE TABLE children (i int REFERENCES t)")
    eu, us = run(one_off_of(small, truncate=True)).outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
    assert "cannot be truncated while public.children references it" in (us.cause or "")


def test_a_commit_that_does_not_end_is_unknown_and_holds_nobody_up(small: Fanout) -> None:
    at_commit(small, "us", "PERFORM pg_sleep(30)")
    transfer = replace(one_off_of(small), answer_timeout=2.0)
    eu, us = run(transfer).outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.UNKNOWN)


def test_a_commit_that_takes_too_long_is_cut_off_and_decided_by_the_ledger(small: Fanout) -> None:
    # nextval is not rolled back: only the first COMMIT sleeps.
    small.do("us", "CREATE SEQUENCE commits")
    at_commit(small, "us", "IF nextval(''public.commits'') = 1 THEN PERFORM pg_sleep(30); END IF")
    outcomes = small.succeed(answer_timeout=2.0, reintroduce=Reintroduce(backoff=0.1))
    assert [outcome.passes for outcome in outcomes] == [1, 2]
    assert small.ask("us", SOURCE_SUM) == small.ask("source", SOURCE_SUM)


def test_a_stalled_destination_comes_back_though_its_old_backend_still_holds_its_locks(
    full: Fanout,
) -> None:
    # nextval is not rolled back: only the first row of the first pass sleeps.
    full.do("us", "CREATE SEQUENCE calls")
    full.do(
        "us",
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF nextval(''calls'') = 1 THEN PERFORM pg_sleep(30); END IF; RETURN NEW; END'",
    )
    full.do("us", "CREATE TRIGGER nap BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nap()")
    seen: list[Event] = []
    transfer = replace(one_off_of(full, reintroduce=2), stall_timeout=1.0)
    report = run(transfer, observe=seen.append)
    assert report.verdict is Verdict.SUCCEEDED, report
    assert [outcome.passes for outcome in report.outcomes] == [1, 2]
    assert full.ask("us", SOURCE_SUM) == full.ask("source", SOURCE_SUM)


def test_a_defect_ends_the_run_with_its_own_exception_and_keeps_nothing(full: Fanout) -> None:
    def broken(event: Event) -> None:
        if isinstance(event, events.DataRelayed):
            raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="a defect"):
        run(one_off_of(full), observe=broken)
    assert full.ask("eu", "SELECT count(*) FROM t") == [(0,)]


def test_rows_that_a_policy_hides_are_an_error_not_a_smaller_copy(small: Fanout) -> None:
    small.do("source", "ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    small.do("source", "CREATE POLICY few ON t USING (i < 10)")
    small.do("source", "CREATE ROLE reader_of_few LOGIN; GRANT SELECT ON t TO reader_of_few")
    try:
        reader = small.end("source", options="-c role=reader_of_few")
        report = run(one_off(reader, (small.end("eu"),), Tables(("t",))))
        assert report.verdict is Verdict.FAILED
        assert "row-level security" in (report.outcomes[0].cause or "")
    finally:
        small.do("source", "DROP OWNED BY reader_of_few; DROP ROLE reader_of_few")


def test_child_tables_are_tables_of_their_own(small: Fanout) -> None:
    small.do("source", "CREATE TABLE child () INHERITS (t)")
    small.do("source", "INSERT INTO child VALUES (-1, 'child')")
    report = run(one_off_of(small))
    assert [outcome.counts.rows for outcome in report.outcomes] == [FEW, FEW]


def test_a_source_database_of_another_encoding_is_read_as_utf8(
    small: Fanout, server: servers.Server
) -> None:
    for encoding in ("LATIN1", "SQL_ASCII"):
        with server.database(encoding) as name:
            source = Server("source", server.conninfo(name))
            execute(
                source.conninfo,
                "CREATE TABLE t (i int, x text)",
                "INSERT INTO t VALUES (-1, 'Zo' || chr(105))",
            )
            report = run(
                one_off(source, (small.end("eu"),), Query("SELECT i, x FROM t -- é", into="t"))
            )
            assert report.verdict is Verdict.SUCCEEDED, report
        small.do("eu", "TRUNCATE t")


def test_rows_that_the_destination_refuses_at_commit_are_a_failure(small: Fanout) -> None:
    small.do("us", "CREATE TABLE parents (i int PRIMARY KEY)")
    small.do(
        "us",
        "ALTER TABLE t ADD FOREIGN KEY (i) REFERENCES parents DEFERRABLE INITIALLY DEFERRED",
    )
    report = run(one_off_of(small, reintroduce=2))
    eu, us = report.outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
    assert "23503 foreign_key_violation: table public.t" in (us.cause or "")
    assert us.counts.rows == 0


def test_a_commit_whose_answer_is_lost_is_unknown(small: Fanout) -> None:
    at_commit(small, "us", "PERFORM pg_terminate_backend(pg_backend_pid())")
    report = run(one_off_of(small, reintroduce=2))
    eu, us = report.outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.UNKNOWN)
    assert report.verdict is Verdict.PARTIAL
    assert "the answer to COMMIT was lost" in (us.cause or "")
    assert us.counts.rows == 0


def test_a_query_without_distinct_names_is_refused_before_any_destination_is_touched(
    small: Fanout,
) -> None:
    what = Query("SELECT 1 AS i, 2 AS i", into="t")
    with pytest.raises(CopydError, match="two columns named i"):
        run(one_off(small.end("source"), (small.end("eu"),), what))


def test_a_source_query_that_fails_is_named_as_the_sources_fault(small: Fanout) -> None:
    what = Query("SELECT i / 0 AS i, x FROM t", into="t")
    report = run(one_off(small.end("source"), (small.end("eu"),), what))
    assert report.verdict is Verdict.FAILED
    assert "22012 division_by_zero" in (report.outcomes[0].cause or "")
    assert (report.outcomes[0].cause or "").startswith("source source")
