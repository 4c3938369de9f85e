"""``copyd copy`` as a person runs it, on real servers."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.program import PROGRAM, environment, run, start
from tests.support.servers import PASSWORD, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Server


class Site:
    """A source database with a table, and three databases with an empty one."""

    def __init__(self, server: Server, names: list[str]) -> None:
        self.server = server
        self.source, *self.replicas = [server.conninfo(name) for name in names]
        for conninfo in (self.source, *self.replicas):
            self.execute(conninfo, "CREATE TABLE t (id int PRIMARY KEY, x text)")
        self.fill(1_000)

    def fill(self, rows: int) -> None:
        self.execute(
            self.source,
            f"INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, {rows}) i"
            " ON CONFLICT DO NOTHING",
        )

    def execute(self, conninfo: str, statement: str) -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(statement)

    def content(self, conninfo: str, table: str = "t") -> object:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            query = f"SELECT count(*), md5(string_agg(r::text, '/' ORDER BY id)) FROM {table} r"
            return connection.execute(query).fetchone()

    def started_copy(self, *more: str) -> subprocess.Popen[str]:
        targets = [word for replica in self.replicas for word in ("--to", replica)]
        return start("copy", "--from", self.source, *targets, "--table", "t", *more)

    def in_mid_copy(self, program: subprocess.Popen[str], action: str, *, at: str) -> None:
        """Wait until COPY runs `at` a replica, and take an SQL action on that backend."""
        query = (
            f"SELECT {action} FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'active'"
            " AND query LIKE 'COPY % FROM STDIN %'"
        )
        with psycopg.connect(at, autocommit=True) as admin:
            while admin.execute(query.encode()).fetchone() is None:
                assert program.poll() is None

    def copy(self, *more: str, table: str = "t") -> subprocess.CompletedProcess[str]:
        targets = [word for replica in self.replicas for word in ("--to", replica)]
        return run("copy", "--from", self.source, *targets, "--table", table, *more)


@pytest.fixture
def site(server: Server) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(server, [stack.enter_context(server.database()) for _ in range(4)])


def dbname(conninfo: str) -> str:
    return str(conninfo_to_dict(conninfo)["dbname"])


def assert_one_sentence(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize("format_", ["text", "binary", "csv"])
@pytest.mark.parametrize("link", ["wire", "libpq"])
def test_every_destination_ends_with_the_sources_rows(site: Site, format_: str, link: str) -> None:
    done = site.copy("--format", format_, "--link", link)
    assert done.returncode == 0, done.stderr
    contents = {site.content(conninfo) for conninfo in (site.source, *site.replicas)}
    assert len(contents) == 1


def test_existing_rows_stay_unless_truncate_is_asked_for(site: Site) -> None:
    site.execute(site.replicas[0], "INSERT INTO t VALUES (-1, 'old')")
    assert site.copy().returncode == 0
    with psycopg.connect(site.replicas[0]) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1_001,)
    assert site.copy("--truncate").returncode == 0
    assert site.content(site.replicas[0]) == site.content(site.source)


def test_a_query_goes_into_the_table_that_is_named(site: Site) -> None:
    for replica in site.replicas:
        site.execute(replica, 'CREATE TABLE "Odd" (id int, x text, more int DEFAULT 7)')
    arguments = ["--query", "SELECT x, id FROM t WHERE id <= 10;", "--into", 'public."Odd"']
    targets = [word for replica in site.replicas for word in ("--to", replica)]
    done = run("copy", "--from", site.source, *targets, *arguments)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(site.replicas[0]) as connection:
        query = 'SELECT count(*), min(x), sum(more) FROM "Odd"'
        assert connection.execute(query).fetchone() == (10, "row 1", 70)


def test_a_view_a_partitioned_table_and_generated_columns_can_be_sources(site: Site) -> None:
    site.execute(site.source, "CREATE VIEW v AS SELECT * FROM t")
    site.execute(
        site.source,
        "CREATE TABLE p (id int, half int GENERATED ALWAYS AS (id / 2) STORED) PARTITION BY RANGE (id)",
    )
    site.execute(site.source, "CREATE TABLE p1 PARTITION OF p DEFAULT")
    site.execute(site.source, "INSERT INTO p SELECT generate_series(1, 9)")
    for replica in site.replicas:
        site.execute(replica, "CREATE TABLE v (id int, x text)")
        site.execute(
            replica, "CREATE TABLE p (id int, half int GENERATED ALWAYS AS (id / 2) STORED)"
        )
    for name in ("v", "p"):
        assert site.copy(table=name).returncode == 0
        contents = {site.content(where, name) for where in (site.source, *site.replicas)}
        assert len(contents) == 1


def test_a_destination_that_refuses_is_named_and_the_others_commit(site: Site) -> None:
    site.execute(site.replicas[1], "ALTER TABLE t ADD CHECK (id < 500)")
    done = site.copy("--json")
    report = json.loads(done.stdout)
    assert done.returncode == 3
    assert report["verdict"] == "partial"
    verdicts = [outcome["verdict"] for outcome in report["destinations"]]
    assert verdicts == ["succeeded", "failed", "succeeded"]
    assert "t_id_check" in report["destinations"][1]["cause"]
    assert site.content(site.replicas[0]) == site.content(site.source)
    assert site.content(site.replicas[1]) == (0, None)


def test_a_destination_that_lost_its_table_is_named_and_the_others_commit(site: Site) -> None:
    site.execute(site.replicas[2], "DROP TABLE t")
    done = site.copy()
    assert_one_sentence(done, 3, "there is no table t")
    assert site.content(site.replicas[1]) == site.content(site.source)


def test_a_locked_destination_does_not_keep_the_others_from_committing(site: Site) -> None:
    with psycopg.connect(site.replicas[0]) as locker:
        locker.execute("LOCK TABLE t IN SHARE MODE")
        done = site.copy("--stall-timeout", "1")
    assert_one_sentence(done, 3, f"{dbname(site.replicas[0])}@", "no progress for 1 s")
    assert site.content(site.replicas[0]) == (0, None)
    assert site.content(site.replicas[1]) == site.content(site.source)


def test_a_missing_privilege_is_named(site: Site) -> None:
    site.execute(site.source, f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    try:
        over_tcp = site.server.tcp_conninfo(dbname(site.replicas[0]))
        as_guest = make_conninfo(over_tcp, user="guest")
        done = run("copy", "--from", site.source, "--to", as_guest, "--table", "t")
    finally:
        site.execute(site.source, "DROP ROLE guest")
    assert_one_sentence(done, 1, "role guest may not INSERT on table public.t")
    assert PASSWORD not in done.stdout + done.stderr


def test_the_source_cannot_be_its_own_destination(site: Site) -> None:
    before = site.content(site.source)
    done = run("copy", "--from", site.source, "--to", site.source, "--table", "t", "--truncate")
    assert_one_sentence(done, 1, "is the source itself")
    assert site.content(site.source) == before


def test_one_table_cannot_be_two_destinations(site: Site) -> None:
    site.replicas = [site.replicas[0], site.replicas[0]]
    done = site.copy()
    assert_one_sentence(done, 3, "is a destination of this run already")
    assert site.content(site.replicas[0]) == site.content(site.source)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("nowhere", "there is no table nowhere"),
        ("a.b.c.d", "write it as SCHEMA.TABLE"),
        ("", "no table name"),
    ],
)
def test_a_wrong_table_is_one_sentence(site: Site, table: str, words: str) -> None:
    assert_one_sentence(site.copy(table=table), 1, words)


def test_a_column_that_a_destination_lacks_is_named(site: Site) -> None:
    site.execute(site.source, "ALTER TABLE t ADD COLUMN fresh int")
    assert_one_sentence(site.copy(), 1, "has no column fresh")


def test_an_unreachable_source_is_one_sentence(site: Site) -> None:
    nobody = f"host=127.0.0.1 port={free_port()} dbname=shop"
    done = run("copy", "--from", nobody, "--to", site.replicas[0], "--table", "t")
    assert_one_sentence(done, 1, "cannot connect to shop@127.0.0.1", "refused")


def test_a_wrong_password_is_one_sentence_that_does_not_hold_it(site: Site) -> None:
    wrong = make_conninfo(site.server.tcp_conninfo(), password="tops3cret")
    done = run("copy", "--from", wrong, "--to", site.replicas[0], "--table", "t")
    assert_one_sentence(done, 1, "password authentication failed")
    assert "tops3cret" not in done.stdout + done.stderr


def test_a_report_that_cannot_be_written_does_not_undo_the_copy(site: Site) -> None:
    targets = [word for replica in site.replicas for word in ("--to", replica)]
    words = ["copy", "--from", site.source, *targets, "--table", "t"]
    for more in ([], ["--truncate", "--json"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*PROGRAM, *words, *more],
                check=False, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(),
            )  # fmt: skip
        assert done.returncode == 0
        assert "the report could not be written" in done.stderr
        assert "Traceback" not in done.stderr
    assert site.content(site.replicas[2]) == site.content(site.source)


def test_a_query_cannot_smuggle_in_another_statement(site: Site) -> None:
    before = site.content(site.source)
    query = "SELECT 1 AS id) AS a; DELETE FROM t; COMMIT; SELECT * FROM (SELECT 1 AS id"
    done = run(
        "copy", "--from", site.source, "--to", site.replicas[0], "--query", query, "--into", "t"
    )
    assert_one_sentence(done, 1, "multiple commands")
    assert site.content(site.source) == before


def test_a_query_that_reads_its_own_destination_is_refused(site: Site) -> None:
    query = ["--query", "SELECT id + 5000 AS id, x FROM t", "--into", "t", "--truncate"]
    before = site.content(site.source)
    done = run("copy", "--from", site.source, "--to", site.source, *query)
    assert_one_sentence(done, 1, "is the source itself")
    assert site.content(site.source) == before


def test_a_lost_destination_is_fed_again_where_that_is_asked_for(site: Site) -> None:
    site.fill(400_000)
    with site.started_copy("--reintroduce", "2") as program:
        site.in_mid_copy(program, "pg_terminate_backend(pid)", at=site.replicas[1])
        said, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    assert "reintroduced" in said
    assert site.content(site.replicas[1]) == site.content(site.source)


def test_an_unreachable_source_is_an_object_for_machines(site: Site) -> None:
    nobody = f"host=127.0.0.1 port={free_port()} dbname=shop"
    done = run("copy", "--from", nobody, "--to", site.replicas[0], "--table", "t", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["verdict"] == "failed"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--from", "dbname=a", "--to", "dbname=b"],
        ["--from", "dbname=a", "--to", "dbname=b", "--table", "t", "--query", "SELECT 1"],
        ["--from", "dbname=a", "--to", "dbname=b", "--query", "SELECT 1"],
        ["--from", "dbname=a", "--table", "t"],
        ["--from", "dbname=a hush", "--to", "dbname=b", "--table", "t"],
        ["--from", "dbname=a", "--to", "dbname=b", "--table", "t", "--format", "xml"],
        ["--from", "dbname=a", "--to", "dbname=b", "--table", "t", "--stall-timeout", "nan"],
        ["--from", "dbname=a", "--to", "dbname=b", "--table", "\udcff"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    done = run("copy", *arguments)
    assert done.returncode == 2
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_destination_whose_backend_is_terminated_is_named_and_the_others_commit(
    site: Site,
) -> None:
    site.fill(400_000)
    with site.started_copy() as program:
        site.in_mid_copy(program, "pg_terminate_backend(pid)", at=site.replicas[1])
        said, _ = program.communicate(timeout=60)
    assert program.returncode == 3
    assert f"{dbname(site.replicas[1])}@" in said
    assert "terminating connection" in said
    assert site.content(site.replicas[1]) == (0, None)
    assert site.content(site.replicas[0]) == site.content(site.source)
    assert site.content(site.replicas[2]) == site.content(site.source)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupted_copy_keeps_nothing_anywhere(
    site: Site, number: signal.Signals, code: int
) -> None:
    site.fill(400_000)
    with site.started_copy() as program:
        site.in_mid_copy(program, "1", at=site.replicas[0])
        program.send_signal(number)
        _, errors = program.communicate(timeout=60)
    assert program.returncode == code
    assert "Traceback" not in errors
    for replica in site.replicas:
        assert site.content(replica) == (0, None)
