"""What a plan says is what a run sends; and a plan itself sends look-ups only."""

from __future__ import annotations

import itertools
import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from copyd.cluster.poll import wait_for
from copyd.errors import CopydError
from copyd.transfers import Loading, RejectPolicy, Replica, Server, Tables, Transfer, Verdict, run
from copyd.transfers.plan import Script, plan
from tests.support.fanout import SOURCE, Fanout
from tests.support.servers import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from copyd.cluster import Installation
    from tests.support import servers

DDL = (
    "CREATE TABLE parents (id int PRIMARY KEY, name text, at timestamptz DEFAULT now());"
    "CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents DEFERRABLE);"
    "CREATE TABLE notes (text text)"
)
FILL = (
    "INSERT INTO parents SELECT i, 'p' FROM generate_series(1, 10) i;"
    "INSERT INTO children SELECT i, i FROM generate_series(1, 10) i"
)
KEYED = Tables(("public.children", "public.parents"))
_NUMBER = re.compile(r"\d+")
_LOGGED = re.compile(
    r"(?m)^(?P<database>\S+) (?P<session>\d+) "
    r"(?P<kind>LOG|DETAIL):  (?:statement: |execute [^:]*: |parameters: )"
)
_LOOK_UP = re.compile(
    r"(?s)SELECT$|(?!SELECT pg_catalog\.pg_(export_snapshot|current_xact_id))(SELECT|WITH)\b.*"
    r'(\bpg_catalog\.(pg_|to_regclass|clock_timestamp)|FROM "copyd"\."ledger")'
)
"""It reads catalogs, the ledger, or whether a table is empty, before anything is decided."""


@dataclass
class LoggedFanout(Fanout):
    """On a server that writes down what is sent to it."""

    markers: ClassVar[Iterator[int]] = itertools.count()

    @property
    def log(self) -> Path:
        return self.server.cluster.data_directory / "log" / "all.log"

    def family(self, loading: Loading, **options: Any) -> Transfer:
        return self.transfer(loading=loading, **{"what": KEYED, "overlap": "all", **options})

    def length(self) -> int:
        """How long the log is once all that was sent until now is in it."""
        marker = f"SELECT 'marker {next(self.markers)}!'"
        self.do(SOURCE, marker)
        assert wait_for(lambda: marker in self.log.read_text(), timeout=30.0)
        return self.log.read_text().index(marker)

    def sessions(self, name: str, offset: int) -> list[list[str]]:
        """The statements that reached the database since the log was so long, by session."""
        end = self.length()
        text = self.log.read_text()[offset:end]
        found = list(_LOGGED.finditer(text))
        ends = [each.start() for each in found[1:]] + [len(text)]
        sessions: dict[str, list[str]] = {}
        for each, end in zip(found, ends, strict=True):
            said = text[each.end() : end].strip().replace("\n\t", "\n")
            if said and each["database"] == self.databases[name] and each["kind"] != "DETAIL":
                sessions.setdefault(each["session"], []).append(said)
        return list(sessions.values())

    def sent(self, name: str, offset: int) -> list[str]:
        return [each for session in self.sessions(name, offset) for each in session]


@pytest.fixture(scope="module")
def telling_server(installation: Installation) -> Iterator[servers.Server]:
    settings = {
        "logging_collector": "on",
        "log_directory": "log",
        "log_filename": "all.log",
        "log_statement": "all",
        "log_line_prefix": "%d %p ",
        "autovacuum": "off",
    }
    with running_server(installation, **settings) as running:
        yield running


@pytest.fixture
def site(telling_server: servers.Server) -> Iterator[LoggedFanout]:
    with ExitStack() as stack:
        names = {name: stack.enter_context(telling_server.database()) for name in (SOURCE, "eu")}
        made = LoggedFanout(telling_server, stack, names)
        made.create(DDL, fill=FILL)
        yield made


def heads(statements: Sequence[str]) -> list[str]:
    """The beginning of each statement, up to the first value; look-ups and settings left out."""
    kept = [each for each in statements if each and not each.startswith(("SET LOCAL", "SELECT"))]
    kept = [each for each in kept if not re.match(r"WITH (RECURSIVE|asked)\b", each)]
    while '"_pg3_1"' in "".join(each for each in kept if each.startswith("ROLLBACK TO")):
        tried = next(n for n, each in enumerate(kept) if each.startswith("ROLLBACK TO"))
        del kept[tried - 1 : tried + 2]  # with its SAVEPOINT and RELEASE
    return [re.split(r"[$'(:]", each)[0].strip() for each in kept]


def acts(statements: Sequence[str]) -> list[str]:
    """All but look-ups, and what was tried in a savepoint and undone."""
    kept = [each for each in statements if not _LOOK_UP.match(each)]
    kept = [
        each for each in kept if "SAVEPOINT copyd_copy" not in each
    ]  # around each batch of rows
    while undone := [n for n, each in enumerate(kept) if each.startswith("ROLLBACK TO")]:
        start = kept.index(kept[undone[0]].replace("ROLLBACK TO", "SAVEPOINT"))
        del kept[start : undone[0] + 2]  # with its RELEASE
    return [re.sub(r"(?s)(pg_export_snapshot\(\)).*", r"\1", each) for each in kept]


def assert_sent(sent: Sequence[str], planned: Sequence[str]) -> None:
    """Compare every statement; of values, those that a later snapshot and another time change differ."""
    for did, said in itertools.zip_longest(acts(sent), planned, fillvalue="nothing"):
        pattern = re.sub(r"(\\')?:(run|mark|bound|unknown)\b", "\\\\S.*?", re.escape(vague(said)))
        assert re.fullmatch(pattern, vague(did), re.DOTALL), (did, said)


def vague(statement: str) -> str:
    return re.sub(r"\d+", "N", re.sub(r"'[0-9A-F]+([-/])[0-9A-F]+(-\d+)?'", r"'N\1N'", statement))


def at(sections: Sequence[Script], purpose: str) -> list[str]:
    (found,) = (each for each in sections if each.purpose.startswith(purpose))
    assert found.refusal is None
    return list(found.statements)


def beginnings(statements: Sequence[str], *words: str) -> list[str]:
    return [each for each in statements if each.startswith(words)]


HOW: dict[str, tuple[Loading, dict[str, Any]]] = {
    "delete": (Loading(before=("SET LOCAL work_mem = '1MB'", "TRUNCATE notes")), {}),
    "truncate": (Loading(replace_with="truncate", after=("DELETE FROM notes",)), {}),
    "append": (Loading(mode="append", triggers="skip"), {}),
    "append below a horizon": (Loading(mode="append"), {"what": Tables(("public.notes",))}),
    "merge": (Loading(mode="merge", after_commit=("ANALYZE notes",)), {"delete_missing": True}),
    "merge with a bound": (
        Loading(mode="merge"),
        {"cursor": "at", "overlap": timedelta(hours=1), "what": Tables(("public.parents",))},
    ),
    "a full look after bounds": (
        Loading(mode="merge"),
        {
            "cursor": "at",
            "overlap": timedelta(hours=1),
            "full_every": 0.0,
            "what": Tables(("public.parents",)),
        },
    ),
    "merge with rejects": (
        Loading(mode="merge"),
        {"delete_missing": True, "on_error": "resume_next"},
    ),
    "append with rejects": (Loading(mode="append"), {"on_error": "resume_next"}),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("times", [0, 1], ids=["the first run", "a later run"])
def test_a_run_sends_what_its_plan_says(
    site: LoggedFanout, tmp_path: Path, how: str, times: int
) -> None:
    loading, options = HOW[how]
    transfer = site.family(loading, rejects=RejectPolicy(directory=tmp_path), **options)
    for _ in range(times):
        assert run(transfer).verdict is Verdict.SUCCEEDED
        site.do("source", "INSERT INTO parents VALUES (11, 'new')")
    scripts = plan(transfer)
    before = site.length()
    assert run(transfer).verdict is Verdict.SUCCEEDED
    for name, purpose in (("source", "source"), ("eu", "destination")):
        planned = [each for each in scripts if each.purpose.startswith(purpose)]
        sessions = site.sessions(name, before)
        assert len(sessions) == len(planned)
        for sent, script in zip(sessions, planned, strict=True):
            assert_sent(sent, script.statements)


@pytest.mark.parametrize("how", HOW)
def test_a_plan_sends_nothing_that_writes_or_locks_at_a_destination(
    site: LoggedFanout, how: str
) -> None:
    loading, options = HOW[how]
    before = site.length()
    plan(site.family(loading, **options))
    sent = site.sent("eu", before)
    assert re.fullmatch("BEGIN.* READ ONLY", sent[0])
    assert set(heads(sent[1:])) <= {"ROLLBACK"}
    assert site.value("eu", "SELECT to_regnamespace('copyd')") is None
    site.everywhere("SET lock_timeout = '1ms'; ALTER TABLE parents ADD more int")


def test_a_first_run_makes_the_ledger_and_loads_without_staging(site: LoggedFanout) -> None:
    sections = plan(site.family(Loading(mode="merge"), delete_missing=True))
    there = at(sections, "destination")
    assert heads(there)[:5] == [there[0], 'CREATE SCHEMA "copyd"', 'CREATE TABLE "copyd"."ledger"',
                               'COMMENT ON TABLE "copyd"."ledger" IS', "COMMIT"]  # fmt: skip
    assert beginnings(there, "COPY", "LOCK") == [
        'LOCK TABLE ONLY "public"."children", ONLY "public"."parents" IN SHARE ROW EXCLUSIVE MODE',
        'COPY "public"."parents" ("id", "name", "at") FROM STDIN (FORMAT "text")',
        'COPY "public"."children" ("id", "parent") FROM STDIN (FORMAT "text")',
    ]
    assert beginnings(at(sections, "source, pass 1 for eu"), "COPY") == [
        'COPY "public"."parents" ("id", "name", "at") TO STDOUT (FORMAT "text")',
        'COPY "public"."children" ("id", "parent") TO STDOUT (FORMAT "text")',
    ]


def test_replace_deletes_children_first_or_truncates_all_at_once(site: LoggedFanout) -> None:
    there = at(plan(site.family(Loading())), "destination")
    assert beginnings(there, "DELETE", "TRUNCATE") == [
        'DELETE FROM ONLY "public"."children"',
        'DELETE FROM ONLY "public"."parents"',
    ]
    there = at(plan(site.family(Loading(replace_with="truncate"))), "destination")
    assert beginnings(there, "DELETE", "TRUNCATE", "COPY") == [
        'TRUNCATE TABLE ONLY "public"."parents", ONLY "public"."children" CONTINUE IDENTITY RESTRICT',
        'COPY "public"."parents" ("id", "name", "at") FROM STDIN (FORMAT "text", FREEZE)',
        'COPY "public"."children" ("id", "parent") FROM STDIN (FORMAT "text", FREEZE)',
    ]


def test_an_append_reads_from_the_horizon_that_the_ledger_has(site: LoggedFanout) -> None:
    transfer = site.family(Loading(mode="append"))
    assert run(transfer).verdict is Verdict.SUCCEEDED
    horizon = site.value("eu", "SELECT full_horizon FROM copyd.ledger WHERE name = 'parents'")
    sections = plan(transfer)
    parents, children = beginnings(at(sections, "source, pass"), "COPY")
    assert f">=) {horizon})" in parents
    assert f">=) {horizon})" in children
    there = at(sections, "destination")
    assert [re.split(r" \(| AS", each)[0] for each in beginnings(there, "CREATE", "COPY")] == [
        'CREATE TEMPORARY TABLE "pg_temp"."copyd_rows_1" ON COMMIT DROP',
        'CREATE TEMPORARY TABLE "pg_temp"."copyd_rows_0" ON COMMIT DROP',
        'COPY "pg_temp"."copyd_rows_1"',
        'COPY "pg_temp"."copyd_rows_0"',
    ]
    assert len(beginnings(there, 'INSERT INTO "public".')) == 2


def test_a_full_run_replaces_what_is_appended(site: LoggedFanout) -> None:
    transfer = site.family(Loading(mode="append"))
    assert run(transfer).verdict is Verdict.SUCCEEDED
    sections = plan(transfer, is_full=True)
    assert len(beginnings(at(sections, "destination"), "DELETE FROM ONLY")) == 2
    assert " TO STDOUT" in beginnings(at(sections, "source, pass"), 'COPY "public"."parents"')[0]


def test_a_merge_that_deletes_what_is_missing_reads_all_keys(site: LoggedFanout) -> None:
    transfer = site.family(Loading(mode="merge"), delete_missing=True)
    assert run(transfer).verdict is Verdict.SUCCEEDED
    sections = plan(transfer)
    assert beginnings(at(sections, "source, pass"), 'COPY "public"') == [
        'COPY "public"."parents" ("id") TO STDOUT (FORMAT "text")',
        'COPY "public"."children" ("id") TO STDOUT (FORMAT "text")',
    ]
    there = at(sections, "destination")
    assert [each.split(" AS ")[0] for each in beginnings(there, "DELETE")] == [
        'DELETE FROM ONLY "public"."children"',
        'DELETE FROM ONLY "public"."parents"',
    ]
    assert len(beginnings(there, "WITH updated")) == 2
    assert there.index("COMMIT") > there.index(beginnings(there, "DELETE")[-1])


def test_what_only_the_run_knows_has_a_name_instead_of_a_value(site: LoggedFanout) -> None:
    there = at(plan(site.family(Loading())), "destination")
    (written,) = (
        each for each in beginnings(there, "INSERT") if "'parents'::" in each and "lsn" in each
    )
    assert ":run::pg_catalog.text" in written
    assert written.count(":unknown::pg_catalog.int8") == 2


def test_a_refusal_at_one_destination_leaves_the_others_plans(site: LoggedFanout) -> None:
    site.do("source", "DROP TABLE children")
    transfer = site.family(Loading(), what=Tables(("public.parents",)))
    broken = Replica(
        Server("us", site.conninfos["eu"]), Loading(tables={"public.parents": "public.no"})
    )
    both = replace(transfer, replicas=(*transfer.replicas, broken))
    *_, eu, us = plan(both)
    assert (eu.refusal, us.statements) == (None, ())
    assert us.refusal == "there is no table public.no"


def test_a_source_that_lacks_the_table_has_no_plan(site: LoggedFanout) -> None:
    with pytest.raises(CopydError, match=r"there is no table public\.gone"):
        plan(site.family(Loading(), what=Tables(("public.gone",))))
