"""One run, from connect to verdict, on real servers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from copyd import events
from copyd.errors import CopydError
from copyd.transfers import Query, Server, Table, Transfer, Verdict, run

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

    def transfer(self, reintroduce: int = 0) -> Transfer:
        return Transfer(self.source, (self.eu, self.us), Table("t"), reintroduce=reintroduce)

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
    assert [outcome.rows for outcome in report.outcomes] == [ROWS, ROWS]
    assert site.ask(site.eu, SOURCE_SUM) == site.ask(site.us, SOURCE_SUM) == before
    told = [type(event) for event in seen if not isinstance(event, events.DataRelayed)]
    assert told == [
        events.RunStarted,
        events.PassStarted,
        events.DestinationDropped,
        events.DestinationEnded,
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
    assert (us.rows, us.size) == (0, 0)
    assert site.ask(site.us, "SELECT count(*) FROM t") == (0,)


def test_a_source_that_dies_fails_every_destination_and_leaves_nothing(site: Site) -> None:
    report = run(
        site.transfer(reintroduce=2), observe=once(lambda: site.terminate(site.source), [])
    )
    assert report.verdict is Verdict.FAILED
    assert all("source source" in (outcome.cause or "") for outcome in report.outcomes)
    assert site.ask(site.eu, "SELECT count(*) FROM t") == (0,)


def test_the_source_table_cannot_be_emptied_while_it_is_read(site: Site) -> None:
    refused: list[Exception] = []

    def empty() -> None:
        try:
            site.ask(site.source, "SET lock_timeout = '10ms'; TRUNCATE t")
        except psycopg.errors.LockNotAvailable as error:
            refused.append(error)

    report = run(site.transfer(), observe=once(empty, []))
    assert report.verdict is Verdict.SUCCEEDED
    assert len(refused) == 1


def test_rows_that_the_destination_refuses_at_commit_are_a_failure(site: Site) -> None:
    site.ask(site.us, "CREATE TABLE parents (i int PRIMARY KEY)")
    site.ask(
        site.us,
        "ALTER TABLE t ADD FOREIGN KEY (i) REFERENCES parents DEFERRABLE INITIALLY DEFERRED",
    )
    report = run(site.transfer(reintroduce=2))
    eu, us = report.outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
    assert "foreign key" in (us.cause or "")
    assert us.rows == 0


def test_a_commit_whose_answer_is_lost_is_unknown(site: Site) -> None:
    site.ask(
        site.us,
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'",
    )
    site.ask(
        site.us,
        "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION die()",
    )
    report = run(site.transfer(reintroduce=2))
    eu, us = report.outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.UNKNOWN)
    assert report.verdict is Verdict.PARTIAL
    assert "the answer to COMMIT was lost" in (us.cause or "")
    assert us.rows == 0


def test_a_query_without_distinct_names_is_refused_before_any_destination_is_touched(
    site: Site,
) -> None:
    what = Query("SELECT 1 AS i, 2 AS i", into="t")
    with pytest.raises(CopydError, match="two columns named i"):
        run(Transfer(site.source, (site.eu,), what))


def test_a_source_query_that_fails_is_named_as_the_sources_fault(site: Site) -> None:
    what = Query("SELECT i / 0 AS i, x FROM t", into="t")
    report = run(Transfer(site.source, (site.eu,), what))
    assert report.verdict is Verdict.FAILED
    assert "division by zero" in (report.outcomes[0].cause or "")
    assert (report.outcomes[0].cause or "").startswith("source source")
