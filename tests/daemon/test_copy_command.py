"""``copyd copy`` as a person runs it, on real servers."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support.program import PROGRAM, environment, run, start
from tests.support.servers import PASSWORD, free_port

if TYPE_CHECKING:
    from tests.support.fanout import Fanout


@pytest.fixture
def site(fanout: Fanout) -> Fanout:
    """A source with a table, and three replicas with an empty one."""
    fanout.create("CREATE TABLE t (id int PRIMARY KEY, x text)", replicas=3)
    fill(fanout, 1_000)
    return fanout


def fill(site: Fanout, rows: int) -> None:
    site.do(
        "source",
        f"INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, {rows}) i"
        " ON CONFLICT DO NOTHING",
    )


def content(site: Fanout, name: str, table: str = "t") -> object:
    query = f"SELECT count(*), md5(string_agg(r::text, '/' ORDER BY id)) FROM {table} r"
    return site.ask(name, query)[0]


def words(site: Fanout, *more: str) -> list[str]:
    """The arguments of a copy to all replicas."""
    targets = [word for name in site.replicas for word in ("--to", site.conninfos[name])]
    return ["copy", "--from", site.conninfos["source"], *targets, *more]


def copy(site: Fanout, *more: str, table: str = "t") -> subprocess.CompletedProcess[str]:
    return run(*words(site, "--table", table, *more))


def copy_one(source: str, to: str, *more: str) -> subprocess.CompletedProcess[str]:
    return run("copy", "--from", source, "--to", to, *more)


def in_mid_copy(site: Fanout, program: subprocess.Popen[str], action: str, *, at: str) -> None:
    """Wait until COPY runs `at` a replica, and take an SQL action on that backend."""
    query = (
        f"SELECT {action} FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'active'"
        " AND query LIKE 'COPY % FROM STDIN %'"
    )
    while not site.ask(at, query):
        assert program.poll() is None


def assert_one_sentence(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize("format_", ["text", "binary", "csv"])
@pytest.mark.parametrize("link", ["wire", "libpq"])
def test_every_destination_ends_with_the_sources_rows(
    site: Fanout, format_: str, link: str
) -> None:
    done = copy(site, "--format", format_, "--link", link)
    assert done.returncode == 0, done.stderr
    contents = {content(site, conninfo) for conninfo in site.conninfos}
    assert len(contents) == 1


def test_existing_rows_stay_unless_truncate_is_asked_for(site: Fanout) -> None:
    site.do("eu", "INSERT INTO t VALUES (-1, 'old')")
    assert copy(site).returncode == 0
    with psycopg.connect(site.conninfos["eu"]) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1_001,)
    assert copy(site, "--truncate").returncode == 0
    assert content(site, "eu") == content(site, "source")


def test_a_query_goes_into_the_table_that_is_named(site: Fanout) -> None:
    for replica in site.replicas:
        site.do(replica, 'CREATE TABLE "Odd" (id int, x text, more int DEFAULT 7)')
    arguments = ["--query", "SELECT x, id FROM t WHERE id <= 10;", "--into", 'public."Odd"']
    done = run(*words(site, *arguments))
    assert done.returncode == 0, done.stderr
    with psycopg.connect(site.conninfos["eu"]) as connection:
        query = 'SELECT count(*), min(x), sum(more) FROM "Odd"'
        assert connection.execute(query).fetchone() == (10, "row 1", 70)


def test_a_view_a_partitioned_table_and_generated_columns_can_be_sources(site: Fanout) -> None:
    site.do("source", "CREATE VIEW v AS SELECT * FROM t")
    site.do(
        "source",
        "CREATE TABLE p (id int, half int GENERATED ALWAYS AS (id / 2) STORED) PARTITION BY RANGE (id)",
    )
    site.do("source", "CREATE TABLE p1 PARTITION OF p DEFAULT")
    site.do("source", "INSERT INTO p SELECT generate_series(1, 9)")
    for replica in site.replicas:
        site.do(replica, "CREATE TABLE v (id int, x text)")
        site.do(replica, "CREATE TABLE p (id int, half int GENERATED ALWAYS AS (id / 2) STORED)")
    for name in ("v", "p"):
        assert copy(site, table=name).returncode == 0
        contents = {content(site, where, name) for where in site.conninfos}
        assert len(contents) == 1


def test_a_destination_that_refuses_is_named_and_the_others_commit(site: Fanout) -> None:
    site.do("us", "ALTER TABLE t ADD CHECK (id < 500)")
    done = copy(site, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 3
    assert report["verdict"] == "partial"
    verdicts = [outcome["verdict"] for outcome in report["destinations"]]
    assert verdicts == ["succeeded", "failed", "succeeded"]
    assert "t_id_check" in report["destinations"][1]["cause"]
    assert content(site, "eu") == content(site, "source")
    assert content(site, "us") == (0, None)


def test_a_destination_that_lost_its_table_is_named_and_the_others_commit(site: Fanout) -> None:
    site.do("ap", "DROP TABLE t")
    done = copy(site)
    assert_one_sentence(done, 3, "there is no table t")
    assert content(site, "us") == content(site, "source")


def test_a_locked_destination_does_not_keep_the_others_from_committing(site: Fanout) -> None:
    with psycopg.connect(site.conninfos["eu"]) as locker:
        locker.execute("LOCK TABLE t IN SHARE MODE")
        done = copy(site, "--stall-timeout", "1")
    assert_one_sentence(done, 3, f"{site.databases['eu']}@", "no progress for 1 s")
    assert content(site, "eu") == (0, None)
    assert content(site, "us") == content(site, "source")


def test_a_missing_privilege_is_named(site: Fanout) -> None:
    site.do("source", f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    try:
        over_tcp = site.server.tcp_conninfo(site.databases["eu"])
        as_guest = make_conninfo(over_tcp, user="guest")
        done = copy_one(site.conninfos["source"], as_guest, "--table", "t")
    finally:
        site.do("source", "DROP ROLE guest")
    assert_one_sentence(done, 1, "role guest may not INSERT on table public.t")
    assert PASSWORD not in done.stdout + done.stderr


def test_the_source_cannot_be_its_own_destination(site: Fanout) -> None:
    before = content(site, "source")
    done = copy_one(
        site.conninfos["source"],
        site.conninfos["source"],
        "--table",
        "t",
        "--truncate",
    )
    assert_one_sentence(done, 1, "is the source itself")
    assert content(site, "source") == before


def test_one_table_cannot_be_two_destinations(site: Fanout) -> None:
    site.conninfos = {name: site.conninfos[name] for name in ("source", "eu")}
    site.conninfos["again"] = site.conninfos["eu"]
    done = copy(site)
    assert_one_sentence(done, 3, "is a destination of this run already")
    assert content(site, "eu") == content(site, "source")


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("nowhere", "there is no table nowhere"),
        ("a.b.c.d", "write it as SCHEMA.TABLE"),
        ("", "no table name"),
    ],
)
def test_a_wrong_table_is_one_sentence(site: Fanout, table: str, sentence: str) -> None:
    assert_one_sentence(copy(site, table=table), 1, sentence)


def test_a_column_that_a_destination_lacks_is_named(site: Fanout) -> None:
    site.do("source", "ALTER TABLE t ADD COLUMN fresh int")
    assert_one_sentence(copy(site), 1, "has no column fresh")


def test_an_unreachable_source_is_one_sentence(site: Fanout) -> None:
    nobody = f"host=127.0.0.1 port={free_port()} dbname=shop"
    done = copy_one(nobody, site.conninfos["eu"], "--table", "t")
    assert_one_sentence(done, 1, "cannot connect to shop@127.0.0.1", "refused")


def test_a_wrong_password_is_one_sentence_that_does_not_hold_it(site: Fanout) -> None:
    wrong = make_conninfo(site.server.tcp_conninfo(), password="tops3cret")
    done = copy_one(wrong, site.conninfos["eu"], "--table", "t")
    assert_one_sentence(done, 1, "password authentication failed")
    assert "tops3cret" not in done.stdout + done.stderr


def test_a_report_that_cannot_be_written_does_not_undo_the_copy(site: Fanout) -> None:
    for more in ([], ["--truncate", "--json"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*PROGRAM, *words(site, "--table", "t", *more)],
                check=False, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(),
            )  # fmt: skip
        assert done.returncode == 0
        assert "the report could not be written" in done.stderr
        assert "Traceback" not in done.stderr
    assert content(site, "ap") == content(site, "source")


def test_a_query_cannot_smuggle_in_another_statement(site: Fanout) -> None:
    before = content(site, "source")
    query = "SELECT 1 AS id) AS a; DELETE FROM t; COMMIT; SELECT * FROM (SELECT 1 AS id"
    done = copy_one(
        site.conninfos["source"],
        site.conninfos["eu"],
        "--query",
        query,
        "--into",
        "t",
    )
    assert_one_sentence(done, 1, "multiple commands")
    assert content(site, "source") == before


def test_a_query_that_reads_its_own_destination_is_refused(site: Fanout) -> None:
    query = ["--query", "SELECT id + 5000 AS id, x FROM t", "--into", "t", "--truncate"]
    before = content(site, "source")
    done = copy_one(site.conninfos["source"], site.conninfos["source"], *query)
    assert_one_sentence(done, 1, "is the source itself")
    assert content(site, "source") == before


def test_a_lost_destination_is_fed_again_where_that_is_asked_for(site: Fanout) -> None:
    fill(site, 400_000)
    with start(*words(site, "--table", "t", "--reintroduce", "2")) as program:
        in_mid_copy(site, program, "pg_terminate_backend(pid)", at="us")
        said, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    assert "reintroduced" in said
    assert content(site, "us") == content(site, "source")


def test_an_unreachable_source_is_an_object_for_machines(site: Fanout) -> None:
    nobody = f"host=127.0.0.1 port={free_port()} dbname=shop"
    done = copy_one(nobody, site.conninfos["eu"], "--table", "t", "--json")
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
    site: Fanout,
) -> None:
    fill(site, 400_000)
    with start(*words(site, "--table", "t")) as program:
        in_mid_copy(site, program, "pg_terminate_backend(pid)", at="us")
        said, _ = program.communicate(timeout=60)
    assert program.returncode == 3
    assert f"{site.databases['us']}@" in said
    assert "terminating connection" in said
    assert content(site, "us") == (0, None)
    assert content(site, "eu") == content(site, "source")
    assert content(site, "ap") == content(site, "source")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupted_copy_keeps_nothing_anywhere(
    site: Fanout, number: signal.Signals, code: int
) -> None:
    fill(site, 400_000)
    with start(*words(site, "--table", "t")) as program:
        in_mid_copy(site, program, "1", at="eu")
        program.send_signal(number)
        _, errors = program.communicate(timeout=60)
    assert program.returncode == code
    assert "Traceback" not in errors
    for replica in site.replicas:
        assert content(site, replica) == (0, None)
