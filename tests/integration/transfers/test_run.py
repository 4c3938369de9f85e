"""One run, from connect to verdict, on real servers."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from copyd import events
from copyd.cli.copy import one_off
from copyd.errors import CopydError
from copyd.transfers import Query, Reintroduce, Replica, Server, Tables, Transfer, Verdict, run
from tests.support.proxy import Action, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from copyd.events import Event
    from tests.support import servers

ROWS = 200_000
SOURCE_SUM = "SELECT count(*), sum(i), sum(hashtext(x)::bigint) FROM t"


class Site:
    """A source with a table and two replicas with an empty one."""

    def __init__(self, names: list[str], conninfos: list[str]) -> None:
        self.source, self.eu, self.us = map(Server, names, conninfos)
        for server in (self.source, self.eu, self.us):
            self.ask(server, "CREATE TABLE t (i int PRIMARY KEY, x text)")
        self.ask(
            self.source,
            f"INSERT INTO t SELECT i, repeat('x', 50) || i FROM generate_series(1, {ROWS}) i",
        )

    def ask(self, server: Server, statement: str) -> object:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            done = connection.execute(statement.encode())
            return done.fetchone() if done.description else None

    def transfer(self, *, reintroduce: int = 0, truncate: bool = False) -> Transfer:
        return one_off(
            self.source,
            (self.eu, self.us),
            Tables(("t",)),
            reintroduce=reintroduce,
            truncate=truncate,
        )

    def at_commit(self, server: Server, action: str) -> None:
        """Have the server take `action` (PL/pgSQL) when rows of the table are committed."""
        self.ask(
            server,
            "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
            f" 'BEGIN {action}; RETURN NULL; END'",
        )
        self.ask(
            server,
            "CREATE CONSTRAINT TRIGGER act AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW WHEN (NEW.i = 1) EXECUTE FUNCTION act()",
        )

    def terminate(self, server: Server) -> None:
        self.ask(
            server,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'copyd'",
        )


@pytest.fixture
def site(server: servers.Server) -> Iterator[Site]:
    with ExitStack() as stack:
        names = [stack.enter_context(server.database()) for _ in range(3)]
        yield Site(["source", "eu", "us"], [server.conninfo(name) for name in names])


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


def test_a_dropped_destination_comes_back_under_the_same_snapshot(site: Site) -> None:
    before = site.ask(site.source, SOURCE_SUM)
    seen: list[Event] = []

    def disturb() -> None:
        site.terminate(site.us)
        site.ask(site.source, "INSERT INTO t VALUES (0, 'too late')")
        site.ask(site.source, "UPDATE t SET x = 'too late' WHERE i = 7")

    report = run(site.transfer(reintroduce=2), observe=once(disturb, seen))
    assert report.verdict is Verdict.SUCCEEDED
    assert [outcome.passes for outcome in report.outcomes] == [1, 2]
    assert [outcome.counts.rows for outcome in report.outcomes] == [ROWS, ROWS]
    assert site.ask(site.eu, SOURCE_SUM) == site.ask(site.us, SOURCE_SUM) == before
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


def test_a_destination_that_is_not_to_return_fails_with_its_servers_words(site: Site) -> None:
    report = run(site.transfer(), observe=once(lambda: site.terminate(site.us), []))
    eu, us = report.outcomes
    assert (report.verdict, eu.verdict, us.verdict) == (
        Verdict.PARTIAL,
        Verdict.SUCCEEDED,
        Verdict.FAILED,
    )
    assert "terminating connection" in (us.cause or "")
    assert (us.counts.rows, us.counts.size) == (0, 0)
    assert site.ask(site.us, "SELECT count(*) FROM t") == (0,)


def test_a_source_that_comes_back_is_read_again_under_a_new_snapshot(site: Site) -> None:
    seen: list[Event] = []
    report = run(
        site.transfer(reintroduce=2), observe=once(lambda: site.terminate(site.source), seen)
    )
    assert report.verdict is Verdict.SUCCEEDED
    lost = [event for event in seen if isinstance(event, events.SourceDropped)]
    assert [event.will_return for event in lost] == [True]
    assert site.ask(site.eu, SOURCE_SUM) == site.ask(site.source, SOURCE_SUM)


def test_a_source_that_dies_fails_every_destination_and_leaves_nothing(site: Site) -> None:
    report = run(site.transfer(), observe=once(lambda: site.terminate(site.source), []))
    assert report.verdict is Verdict.FAILED
    assert all("source source" in (outcome.cause or "") for outcome in report.outcomes)
    assert site.ask(site.eu, "SELECT count(*) FROM t") == (0,)


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
    site: Site, what: Tables | Query, statement: str
) -> None:
    site.ask(site.source, "CREATE VIEW v AS SELECT * FROM t")
    site.ask(site.source, "CREATE MATERIALIZED VIEW m AS SELECT * FROM t")
    for name in ("v", "m"):
        site.ask(site.eu, f"CREATE TABLE {name} (i int, x text)")
    refused: list[Exception] = []

    def empty(event: Event) -> None:
        if isinstance(event, events.RunStarted):
            try:
                site.ask(site.source, f"SET lock_timeout = '10ms'; {statement}")
            except psycopg.errors.LockNotAvailable as error:
                refused.append(error)

    report = run(one_off(site.source, (site.eu,), what), observe=empty)
    assert report.verdict is Verdict.SUCCEEDED
    assert report.outcomes[0].counts.rows == ROWS
    assert len(refused) == 1


def test_a_destination_that_falls_silent_before_its_data_holds_nobody_up(
    site: Site, server: servers.Server
) -> None:
    dbname = str(conninfo_to_dict(site.us.conninfo)["dbname"])
    plain = make_conninfo(server.tcp_conninfo(dbname), sslmode="disable")
    with Proxy(server.port) as proxy, psycopg.connect(plain, port=proxy.port):
        logged_in = len(proxy.to_client.seen)
    with Proxy(server.port) as proxy:
        over_proxy = make_conninfo(plain, port=proxy.port)
        proxy.to_client.after(logged_in, Action.STALL)
        transfer = one_off(site.source, (site.eu, Server("us", over_proxy)), Tables(("t",)))
        report = run(replace(transfer, prepare_timeout=2.0))
        proxy.to_client.release()
    eu, us = report.outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
    assert "no answer within 2 s" in (us.cause or "")


def test_a_table_is_emptied_only_when_its_data_comes(site: Site) -> None:
    site.ask(site.eu, "INSERT INTO t VALUES (-1, 'old')")
    seen: list[object] = []

    def look(event: Event) -> None:
        if isinstance(event, events.PassStarted):
            seen.append(site.ask(site.eu, "SET lock_timeout = '1s'; SELECT count(*) FROM t"))

    report = run(site.transfer(truncate=True), observe=look)
    assert report.verdict is Verdict.SUCCEEDED
    assert len(seen) == 1  # nobody had to wait before the pass
    assert site.ask(site.eu, SOURCE_SUM) == site.ask(site.source, SOURCE_SUM)


def test_a_table_that_cannot_be_emptied_is_left_out_and_the_others_go_on(site: Site) -> None:
    site.ask(site.us, "CREATE TABLE children (i int REFERENCES t)")
    eu, us = run(site.transfer(truncate=True)).outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
    assert "cannot be truncated while public.children references it" in (us.cause or "")


def test_a_commit_that_does_not_end_is_unknown_and_holds_nobody_up(site: Site) -> None:
    site.at_commit(site.us, "PERFORM pg_sleep(30)")
    transfer = replace(site.transfer(), answer_timeout=2.0)
    eu, us = run(transfer).outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.UNKNOWN)


def test_a_commit_that_takes_too_long_is_cut_off_and_decided_by_the_ledger(site: Site) -> None:
    # nextval is not rolled back: only the first COMMIT sleeps.
    site.ask(site.us, "CREATE SEQUENCE commits")
    site.at_commit(site.us, "IF nextval(''public.commits'') = 1 THEN PERFORM pg_sleep(30); END IF")
    transfer = Transfer(
        name="orders",
        source=site.source,
        replicas=(Replica(site.eu), Replica(site.us)),
        what=Tables(("public.t",)),
        answer_timeout=2.0,
        reintroduce=Reintroduce(backoff=0.1),
    )
    report = run(transfer)
    assert report.verdict is Verdict.SUCCEEDED, report
    assert [outcome.passes for outcome in report.outcomes] == [1, 2]
    assert site.ask(site.us, SOURCE_SUM) == site.ask(site.source, SOURCE_SUM)


def test_a_stalled_destination_comes_back_though_its_old_backend_still_holds_its_locks(
    site: Site,
) -> None:
    # nextval is not rolled back: only the first row of the first pass sleeps.
    site.ask(site.us, "CREATE SEQUENCE calls")
    site.ask(
        site.us,
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF nextval(''calls'') = 1 THEN PERFORM pg_sleep(30); END IF; RETURN NEW; END'",
    )
    site.ask(site.us, "CREATE TRIGGER nap BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nap()")
    seen: list[Event] = []
    transfer = replace(site.transfer(reintroduce=2), stall_timeout=1.0)
    report = run(transfer, observe=seen.append)
    assert report.verdict is Verdict.SUCCEEDED, report
    assert [outcome.passes for outcome in report.outcomes] == [1, 2]
    assert site.ask(site.us, SOURCE_SUM) == site.ask(site.source, SOURCE_SUM)


def test_a_defect_ends_the_run_with_its_own_exception_and_keeps_nothing(site: Site) -> None:
    def broken(event: Event) -> None:
        if isinstance(event, events.DataRelayed):
            raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="a defect"):
        run(site.transfer(), observe=broken)
    assert site.ask(site.eu, "SELECT count(*) FROM t") == (0,)


def test_rows_that_a_policy_hides_are_an_error_not_a_smaller_copy(site: Site) -> None:
    site.ask(site.source, "ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    site.ask(site.source, "CREATE POLICY few ON t USING (i < 10)")
    site.ask(site.source, "CREATE ROLE reader_of_few LOGIN; GRANT SELECT ON t TO reader_of_few")
    try:
        as_reader = f"{site.source.conninfo} options='-c role=reader_of_few'"
        report = run(one_off(Server("source", as_reader), (site.eu,), Tables(("t",))))
        assert report.verdict is Verdict.FAILED
        assert "row-level security" in (report.outcomes[0].cause or "")
    finally:
        site.ask(site.source, "DROP OWNED BY reader_of_few; DROP ROLE reader_of_few")


def test_child_tables_are_tables_of_their_own(site: Site) -> None:
    site.ask(site.source, "CREATE TABLE child () INHERITS (t)")
    site.ask(site.source, "INSERT INTO child VALUES (-1, 'child')")
    report = run(site.transfer())
    assert [outcome.counts.rows for outcome in report.outcomes] == [ROWS, ROWS]


def test_a_source_database_of_another_encoding_is_read_as_utf8(
    site: Site, server: servers.Server
) -> None:
    for encoding in ("LATIN1", "SQL_ASCII"):
        with server.database(encoding) as name:
            source = Server("source", server.conninfo(name))
            site.ask(source, "CREATE TABLE t (i int, x text)")
            site.ask(source, "INSERT INTO t VALUES (-1, 'Zo' || chr(105))")
            report = run(one_off(source, (site.eu,), Query("SELECT i, x FROM t -- é", into="t")))
            assert report.verdict is Verdict.SUCCEEDED, report
        site.ask(site.eu, "TRUNCATE t")


def test_rows_that_the_destination_refuses_at_commit_are_a_failure(site: Site) -> None:
    site.ask(site.us, "CREATE TABLE parents (i int PRIMARY KEY)")
    site.ask(
        site.us,
        "ALTER TABLE t ADD FOREIGN KEY (i) REFERENCES parents DEFERRABLE INITIALLY DEFERRED",
    )
    report = run(site.transfer(reintroduce=2))
    eu, us = report.outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
    assert "23503 foreign_key_violation: table public.t" in (us.cause or "")
    assert us.counts.rows == 0


def test_a_commit_whose_answer_is_lost_is_unknown(site: Site) -> None:
    site.at_commit(site.us, "PERFORM pg_terminate_backend(pg_backend_pid())")
    report = run(site.transfer(reintroduce=2))
    eu, us = report.outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.UNKNOWN)
    assert report.verdict is Verdict.PARTIAL
    assert "the answer to COMMIT was lost" in (us.cause or "")
    assert us.counts.rows == 0


def test_a_query_without_distinct_names_is_refused_before_any_destination_is_touched(
    site: Site,
) -> None:
    what = Query("SELECT 1 AS i, 2 AS i", into="t")
    with pytest.raises(CopydError, match="two columns named i"):
        run(one_off(site.source, (site.eu,), what))


def test_a_source_query_that_fails_is_named_as_the_sources_fault(site: Site) -> None:
    what = Query("SELECT i / 0 AS i, x FROM t", into="t")
    report = run(one_off(site.source, (site.eu,), what))
    assert report.verdict is Verdict.FAILED
    assert "22012 division_by_zero" in (report.outcomes[0].cause or "")
    assert (report.outcomes[0].cause or "").startswith("source source")
