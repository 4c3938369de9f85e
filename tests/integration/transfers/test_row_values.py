"""What a row holds is told to nobody but the one who runs the command, on a terminal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from copyd.cli.console import make_console
from copyd.cli.views.report import document, table
from copyd.errors import CopydError
from copyd.transfers import Loading, Query, Reintroduce

if TYPE_CHECKING:
    from copyd.transfers import Report
    from tests.support.fanout import Fanout

MARKER = "hunter2-5e1f"
"""A value of a row that must not be told, and what is left of it in a message that cuts it."""

KEYED = "CREATE TABLE t (id int PRIMARY KEY, note text)"
BAD_ROW = f"INSERT INTO t VALUES (1, 'good'), (2, '{MARKER}')"
FIRST_PARTITION = "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (2)"
PARENTS = "CREATE TABLE p (note text PRIMARY KEY); ALTER TABLE t ADD FOREIGN KEY (note)"
RAISING = (
    "CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN IF NEW.note <> ''good'' THEN {}; END IF; RETURN NEW; END'; "
)
BEFORE = "CREATE TRIGGER say BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION say()"
AT_COMMIT = (
    "CREATE CONSTRAINT TRIGGER say AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION say()"
)

AT_THE_DESTINATION = {
    "unique": ("CREATE UNIQUE INDEX u ON t (left(note, 0))", "23505"),
    "unique value": (
        f"ALTER TABLE t ADD UNIQUE (note); INSERT INTO t VALUES (9, '{MARKER}')",
        "23505",
    ),
    "exclusion": ("ALTER TABLE t ADD EXCLUDE USING hash (left(note, 0) WITH =)", "23P01"),
    "check": ("ALTER TABLE t ADD CHECK (note = 'good')", "23514"),
    "not null": ("ALTER TABLE t ADD more int, ALTER more SET NOT NULL", None),
    "foreign key": (
        f"{PARENTS} REFERENCES p",
        "23503",
    ),
    "deferred foreign key": (
        f"{PARENTS} REFERENCES p DEFERRABLE INITIALLY DEFERRED",
        "23503",
    ),
    "length": ("ALTER TABLE t ALTER note TYPE varchar(8)", "22001"),
    "cast": ("ALTER TABLE t ALTER note TYPE uuid USING NULL", "22P02"),
    "json": ("ALTER TABLE t ALTER note TYPE json USING NULL", "22P02"),
    "domain": (
        "CREATE DOMAIN d AS text CHECK (VALUE = 'good'); ALTER TABLE t ALTER note TYPE d",
        "23514",
    ),
    "enum": (
        "CREATE TYPE e AS ENUM ('good'); ALTER TABLE t ALTER note TYPE e USING NULL",
        "22P02",
    ),
    "partition": (
        f"DROP TABLE t; {KEYED} PARTITION BY RANGE (id); {FIRST_PARTITION}",
        "23514",
    ),
    "raise": (RAISING.format("RAISE ''no %, please'', NEW.note") + BEFORE, "P0001"),
    "raise at commit": (RAISING.format("RAISE ''no %, please'', NEW.note") + AT_COMMIT, "P0001"),
    "raise as another": (
        RAISING.format("RAISE insufficient_privilege USING MESSAGE = NEW.note") + BEFORE,
        "42501",
    ),
    "raise as a busy table": (
        RAISING.format("RAISE lock_not_available USING MESSAGE = NEW.note") + BEFORE,
        "55P03",
    ),
    "dynamic SQL": (
        RAISING.format("EXECUTE ''SELECT '' || quote_ident(NEW.note)") + BEFORE,
        "42703",
    ),
}


def everything_told(fanout: Fanout, report: Report | None, more: str = "") -> str:
    """Events, the report and its parts, its JSON, and its table where nobody watches."""
    told = [repr(fanout.seen), more]
    if report is not None:
        console = make_console()
        with console.capture() as captured:
            console.print(table(report))
        told += [repr(report), json.dumps(document(report)), captured.get()]
    return "\n".join(told)


@pytest.mark.parametrize("mode", ["replace", "merge"])
@pytest.mark.parametrize("what", AT_THE_DESTINATION)
def test_a_row_that_a_destination_refuses_is_not_quoted(
    fanout: Fanout, what: str, mode: Any
) -> None:
    statement, state = AT_THE_DESTINATION[what]
    fanout.create(KEYED, more=statement)
    fanout.do("source", BAD_ROW)
    report = fanout.run(loading=Loading(mode=mode, adopt=True), key=("id",))
    told = everything_told(fanout, report)
    if (mode, what) != ("replace", "unique value"):  # what is in its way goes first
        assert {outcome.verdict.value for outcome in report.outcomes} == {"failed"}
        assert state is None or state in (report.outcomes[0].cause or "")
    assert MARKER not in told
    assert MARKER[:6] not in told


AT_THE_SOURCE = {
    "cast": "SELECT id, (note::int)::text AS note FROM t",
    "function": "SELECT id, say(note) AS note FROM t",
    "json": "SELECT id, (note::json ->> 0) AS note FROM t",
    "subquery": f"SELECT id, '{MARKER}'::text::date::text AS note FROM t",
}


@pytest.mark.parametrize("what", AT_THE_SOURCE)
def test_a_row_that_the_source_cannot_read_is_not_quoted(fanout: Fanout, what: str) -> None:
    fanout.create(KEYED)
    fanout.do(
        "source",
        BAD_ROW,
        "CREATE FUNCTION say(text) RETURNS text LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''no %, please'', $1; END'",
    )
    report, said = None, ""
    try:
        report = fanout.run(
            query=Query(AT_THE_SOURCE[what], "public.t"),
            reintroduce=Reintroduce(attempts=1, backoff=0.01),
        )
    except CopydError as error:  # where the source fails before the run begins
        said = str(error)
    assert report is None or report.verdict.value == "failed"
    told = everything_told(fanout, report, said)
    assert MARKER not in told
    assert MARKER[:6] not in told


@pytest.mark.parametrize("way", ["before", "after", "after_commit"])
def test_what_the_operators_own_sql_says_of_rows_is_not_quoted(fanout: Fanout, way: str) -> None:
    fanout.create(KEYED)
    fanout.do("source", BAD_ROW)
    fanout.do("eu", BAD_ROW)
    own: dict[str, Any] = {way: ("SELECT note::int FROM public.t",)}
    report = fanout.run(loading=replace(Loading(adopt=True), **own))
    (outcome,) = report.outcomes
    assert "22P02" in " ".join([outcome.cause or "", *outcome.notes])
    told = everything_told(fanout, report)
    assert MARKER not in told
    assert MARKER[:6] not in told


def test_what_is_told_of_a_refused_row_is_where_it_is(fanout: Fanout) -> None:
    fanout.create(KEYED, more="ALTER TABLE t ADD CONSTRAINT is_good CHECK (note = 'good')")
    fanout.do("source", BAD_ROW)
    said = fanout.fail()
    for fact in ("23514", "check_violation", "public.t", "is_good", "line 2"):
        assert fact in said
