"""Rows that a destination refuses are rejected: exactly those, each with its reason, in files."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from copyd import events
from copyd.transfers import (
    Loading,
    Outcome,
    Reintroduce,
    RejectPolicy,
    Report,
    Transfer,
    Verdict,
)
from tests.support.fanout import Fanout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support import servers

Facts = dict[str, Any]


@dataclass
class RejectingFanout(Fanout):
    """The replicas keep rejects; ``state`` is where rejects go."""

    state: Path = field(kw_only=True)

    def transfer(self, *tables: str, mode: str = "replace", **options: Any) -> Transfer:
        policy = {"batch_rows": 100, "max_reject_ratio": 1.0, **options.pop("policy", {})}
        rejects = RejectPolicy(directory=self.state, **policy)
        loading = Loading(mode=mode)  # type: ignore[arg-type]
        return super().transfer(
            *tables, loading=loading, on_error="resume_next", rejects=rejects, **options
        )

    def facts(self, report: Report, name: str, table: str = "public.t") -> list[Facts]:
        """What is known of each reject, with the ``row`` itself; every one in its place."""
        folder = self.state / "books" / name / report.run
        if not folder.exists():
            return []
        data = (folder / f"{table}.dat").read_bytes()
        lines = (folder / f"{table}.jsonl").read_bytes().splitlines()
        found = [json.loads(line) for line in lines]
        for each in found:
            each["row"] = data[each["offset"] : each["offset"] + each["length"]]
        assert b"".join(each["row"] for each in found) == data
        return found


@pytest.fixture
def fanout(
    quiet_server: servers.Server, databases: Mapping[str, str], tmp_path: Path
) -> Iterator[RejectingFanout]:
    with ExitStack() as stack:
        made = RejectingFanout(quiet_server, stack, databases, state=tmp_path)
        made.create(replicas=3)
        yield made


def outcome(report: Report, name: str) -> Outcome:
    return next(each for each in report.outcomes if each.destination == name)


def test_each_destination_rejects_what_it_refuses_and_has_all_else(
    fanout: RejectingFanout,
) -> None:
    fanout.everywhere("CREATE TABLE t (i int PRIMARY KEY, x int)")
    fanout.do("source", "INSERT INTO t SELECT i, i % 10 FROM generate_series(1, 1000) i")
    fanout.do("us", "ALTER TABLE t ADD CONSTRAINT small CHECK (i NOT IN (1, 500))")
    fanout.do("ap", "ALTER TABLE t ADD CONSTRAINT one CHECK (x <> 3)")
    report = fanout.run()
    assert report.verdict is Verdict.SUCCEEDED, report.outcomes
    fared = {
        each.destination: (each.counts.read, each.counts.loaded, each.counts.rejected)
        for each in report.outcomes
    }
    assert fared == {"eu": (1000, 1000, 0), "us": (1000, 998, 2), "ap": (1000, 900, 100)}
    ended = [each for each in fanout.seen if isinstance(each, events.DestinationEnded)]
    assert {
        each.destination: (each.counts.read, each.counts.loaded, each.counts.rejected)
        for each in ended
    } == fared
    assert fanout.facts(report, "eu") == []
    assert [each["row"] for each in fanout.facts(report, "us")] == [b"1\t1\n", b"500\t0\n"]
    assert [each["ordinal"] for each in fanout.facts(report, "us")] == [1, 500]
    assert {each["constraint"] for each in fanout.facts(report, "ap")} == {"one"}
    for name, good in (("eu", "true"), ("us", "i NOT IN (1, 500)"), ("ap", "x <> 3")):
        assert fanout.ask(name, "SELECT count(*), sum(i) FROM t") == fanout.ask(
            "source", f"SELECT count(*), sum(i) FROM t WHERE {good}"
        )


def test_children_before_their_parents_are_no_rejects(fanout: RejectingFanout) -> None:
    fanout.everywhere("CREATE TABLE t (i int PRIMARY KEY, parent int)")
    fanout.do(
        "source",
        "INSERT INTO t SELECT i, NULLIF(i + 1, 501) FROM generate_series(1, 500) i",
        "INSERT INTO t VALUES (1000, 999), (1001, 1000), (1002, 2)",
    )
    fanout.everywhere("ALTER TABLE t ADD FOREIGN KEY (parent) REFERENCES t", at=fanout.replicas)
    report = fanout.run()
    assert report.verdict is Verdict.SUCCEEDED, report.outcomes
    for name in fanout.replicas:
        assert sorted(each["row"] for each in fanout.facts(report, name)) == [
            b"1000\t999\n",
            b"1001\t1000\n",
        ]
        assert {each["sqlstate"] for each in fanout.facts(report, name)} == {"23503"}
        assert fanout.ask(name, "SELECT count(*) FROM t") == [(501,)]


def test_tables_that_reference_one_another_are_checked_as_a_whole(
    fanout: RejectingFanout,
) -> None:
    fanout.everywhere(
        "CREATE TABLE t (i int PRIMARY KEY, other int)",
        "CREATE TABLE u (i int PRIMARY KEY, other int)",
    )
    for table in "tu":
        fanout.do("source", f"INSERT INTO {table} SELECT i, i FROM generate_series(1, 300) i")
    for name in fanout.replicas:
        fanout.do(
            name,
            "ALTER TABLE t ADD FOREIGN KEY (other) REFERENCES u DEFERRABLE INITIALLY DEFERRED",
            "ALTER TABLE u ADD FOREIGN KEY (other) REFERENCES t DEFERRABLE",
        )
    assert fanout.run("public.t", "public.u").verdict is Verdict.SUCCEEDED
    fanout.do("us", "ALTER TABLE t ADD CHECK (i <> 1) NOT VALID")
    fanout.do("source", "INSERT INTO t VALUES (301, NULL)")
    report = fanout.run("public.t", "public.u")
    assert report.verdict is Verdict.PARTIAL
    assert "23503" in str(outcome(report, "us").cause)
    assert fanout.ask("eu", "SELECT count(*) FROM t JOIN u USING (i)") == [(300,)]
    assert fanout.ask("us", "SELECT count(*) FROM t") == [(300,)]  # as it was


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_staged_rows_are_rejected_as_well(fanout: RejectingFanout, mode: str) -> None:
    fanout.everywhere("CREATE TABLE t (i int PRIMARY KEY, x text, at timestamptz DEFAULT now())")
    fanout.do("source", "INSERT INTO t SELECT i, i FROM generate_series(1, 200) i")
    for name in fanout.replicas:
        fanout.do(name, "ALTER TABLE t ADD CONSTRAINT no CHECK (x NOT IN ('7', '250', '299'))")
    fanout.do("us", "ALTER TABLE t ALTER x TYPE varchar(3)")
    first = fanout.run(mode=mode, key=("i",))
    assert [outcome(first, name).counts.rejected for name in fanout.replicas] == [1, 1, 1]
    fanout.do(
        "source",
        "INSERT INTO t SELECT i, i FROM generate_series(201, 300) i",
        "UPDATE t SET x = 'long' WHERE i = 260",
    )
    second = fanout.run(mode=mode, key=("i",))
    assert second.verdict is Verdict.SUCCEEDED, second
    sent = [*(str(i) for i in range(201, 301) if i != 260), "long"]
    for name in fanout.replicas:
        refused = ["250", "299"] + (["long"] if name == "us" else [])
        found = fanout.facts(second, name)
        rows = {each["row"].split(b"\t")[1].decode(): each["ordinal"] for each in found}
        assert rows == {value: sent.index(value) + 1 for value in refused}, name
        left = 300 - 3 - (name == "us")
        assert fanout.ask(name, "SELECT count(*) FROM t") == [(left,)]


def test_rows_that_vanish_are_removed_beside_those_that_are_rejected(
    fanout: RejectingFanout,
) -> None:
    fanout.everywhere("CREATE TABLE t (i int PRIMARY KEY, x text)")
    fanout.everywhere("ALTER TABLE t ADD CONSTRAINT no CHECK (x <> 'bad')", at=fanout.replicas)
    transfer = fanout.transfer(mode="merge", delete_missing=True)
    fanout.do("source", "INSERT INTO t SELECT i, i FROM generate_series(1, 200) i")
    assert fanout.carry_out(transfer).verdict is Verdict.SUCCEEDED
    fanout.do(
        "source",
        "INSERT INTO t SELECT i, i FROM generate_series(201, 300) i",
        "UPDATE t SET x = 'bad' WHERE i IN (220, 221, 260)",
        "DELETE FROM t WHERE i % 50 = 0",
    )
    report = fanout.carry_out(transfer)
    assert report.verdict is Verdict.SUCCEEDED, report
    expected = fanout.ask("source", "SELECT * FROM t WHERE x <> 'bad' ORDER BY i")
    for name in fanout.replicas:
        assert fanout.ask(name, "SELECT * FROM t ORDER BY i") == expected
        assert len(fanout.facts(report, name)) == 3


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"max_rejects": 9}, "max_rejects"),
        ({"max_reject_ratio": 0.009}, "max_reject_ratio = 0.009"),
    ],
)
def test_too_many_rejects_leave_the_old_data(
    fanout: RejectingFanout, policy: dict[str, Any], said: str
) -> None:
    fanout.everywhere("CREATE TABLE t (i int PRIMARY KEY)")
    fanout.do("source", "INSERT INTO t VALUES (-1)")
    assert fanout.run().verdict is Verdict.SUCCEEDED
    fanout.do("source", "INSERT INTO t SELECT generate_series(1, 999)")
    fanout.do("eu", "ALTER TABLE t ADD CHECK (i % 90 <> 0)")
    report = fanout.run(policy=policy)
    assert report.verdict is Verdict.PARTIAL
    failed = outcome(report, "eu")
    assert failed.verdict is Verdict.FAILED
    assert said in str(failed.cause)
    assert fanout.ask("eu", "SELECT i FROM t") == [(-1,)]  # as it was
    assert not list(fanout.state.glob("books/eu/*"))
    assert fanout.ask("us", "SELECT count(*) FROM t") == [(1000,)]


def test_a_row_that_cannot_be_read_is_rejected_in_one_pass(fanout: RejectingFanout) -> None:
    fanout.do("source", "CREATE TABLE t (i int PRIMARY KEY, x text)")
    fanout.do(
        "source",
        "INSERT INTO t SELECT i, CASE WHEN i % 50 = 0 THEN 'too long' ELSE i::text END"
        " FROM generate_series(1, 1000) i",
    )
    fanout.everywhere("CREATE TABLE t (i int PRIMARY KEY, x varchar(5))", at=fanout.replicas)
    report = fanout.run()
    assert report.verdict is Verdict.SUCCEEDED, report.outcomes
    for name in fanout.replicas:
        found = fanout.facts(report, name)
        assert [each["ordinal"] for each in found] == list(range(50, 1001, 50))
        assert {each["sqlstate"] for each in found} == {"22001"}
        assert {"(5)" in each["message"] for each in found} == {True}


def test_what_is_pending_is_settled_where_its_destination_answers(
    fanout: RejectingFanout,
) -> None:
    """However long another one does not: a ledger knows of two runs only."""
    fanout.everywhere("CREATE TABLE t (i int PRIMARY KEY)")
    fanout.do("source", "INSERT INTO t SELECT generate_series(1, 10)")
    fanout.everywhere("ALTER TABLE t ADD CHECK (i <> 3)", at=fanout.replicas)
    first = fanout.run()
    for name in fanout.replicas:  # as if killed between COMMIT and that
        published = fanout.state / "books" / name / first.run
        published.rename(published.with_name(f"{first.run}.pending"))
    fanout.conninfos["eu"] = "host=127.0.0.1 port=1 dbname=x"
    reintroduce = Reintroduce(attempts=0, backoff=0.01, max_backoff=0.01)
    for _ in range(3):
        report = fanout.run(reintroduce=reintroduce)
        assert report.verdict is Verdict.PARTIAL
        assert [each["row"] for each in fanout.facts(first, "us")] == [b"3\n"]
        told = [each for each in fanout.seen if isinstance(each, events.RejectsPending)]
        assert [(each.destination, each.run) for each in told] == [("eu", first.run)]
        assert "eu" in "".join(report.pending)
    assert [each.name for each in fanout.state.glob("books/eu/*")] == [f"{first.run}.pending"]


REFUSES_COMMIT = """
    CREATE TABLE tries (i int);
    CREATE SEQUENCE tried;
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('public.tried') <= {times} THEN RAISE EXCEPTION 'not yet' USING ERRCODE = '{state}'; END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON tries DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse();
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.tries VALUES (1); RETURN NULL; END $$;
    CREATE TRIGGER notes AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION note()
"""


@pytest.mark.parametrize("state", ["23514", "40001"])
def test_a_commit_that_is_refused_takes_its_rejects_along(
    fanout: RejectingFanout, state: str
) -> None:
    """And where that passes by itself, the next try of the same run has rejects of its own."""
    fanout.everywhere("CREATE TABLE t (i int PRIMARY KEY)")
    fanout.do("source", "INSERT INTO t SELECT generate_series(1, 10)")
    fanout.do("us", "ALTER TABLE t ADD CHECK (i <> 3)")
    fanout.do("us", REFUSES_COMMIT.format(times=2, state=state))
    reintroduce = Reintroduce(attempts=5, backoff=0.01, max_backoff=0.01)
    report = fanout.run(reintroduce=reintroduce)
    folders = [each.name for each in (fanout.state / "books").glob("us/*")]
    if state == "40001":
        assert report.verdict is Verdict.SUCCEEDED, report.outcomes
        assert outcome(report, "us").faults > 0
        assert [each["row"] for each in fanout.facts(report, "us")] == [b"3\n"]
        assert folders == [report.run]
    else:
        assert outcome(report, "us").verdict is Verdict.FAILED
        assert "23514" in str(outcome(report, "us").cause)
        assert folders == []


@pytest.mark.parametrize("mode", ["replace", "merge"])
def test_a_statement_that_is_refused_whatever_its_rows_makes_no_rejects(
    fanout: RejectingFanout, mode: str
) -> None:
    fanout.everywhere("CREATE TABLE t (i int PRIMARY KEY)")
    fanout.do("source", "INSERT INTO t VALUES (1)")
    transfer = fanout.transfer(mode=mode, key=("i",), policy={"max_rejects": 100_000})
    assert fanout.carry_out(transfer).verdict is Verdict.SUCCEEDED
    fanout.do("source", "INSERT INTO t SELECT generate_series(2, 500)")
    fanout.do(
        "eu",
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'closed'; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION no()",
    )
    report = fanout.carry_out(transfer)
    assert report.verdict is Verdict.PARTIAL
    assert "P0001" in str(outcome(report, "eu").cause)
    assert not list(fanout.state.glob("books/eu/*"))
    assert fanout.ask("eu", "SELECT i FROM t") == [(1,)]
