"""What a run refuses to do, and what others may do to it without harm."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from copyd import events
from copyd.cluster import Cluster
from copyd.transfers import Loading, Reintroduce, Replica, Server, Tables, Transfer, Verdict, run
from copyd.transfers.transfer import TableOptions
from tests.support import servers
from tests.support.sql import ask, execute
from tests.support.standby import shut_down, standby_of, start_again, wait_until_caught_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.cluster import Installation
    from copyd.events import Event
    from tests.support.fanout import Fanout

DELETE, TRUNCATE = Loading(), Loading(replace_with="truncate")
APPEND, MERGE = Loading(mode="append"), Loading(mode="merge")
ALL_WAYS = pytest.mark.parametrize(
    "way", [DELETE, TRUNCATE, APPEND, MERGE], ids=["delete", "truncate", "append", "merge"]
)
INCREMENTAL = pytest.mark.parametrize("way", [APPEND, MERGE], ids=["append", "merge"])

KEYED = "CREATE TABLE t (id int PRIMARY KEY, note text)"
KEYLESS = "CREATE TABLE t (id int, note text)"
TEN = "INSERT INTO t SELECT i, 'first' FROM generate_series(1, 10) i"
BY_HAND = "UPDATE t SET note = 'by hand' WHERE id = 5"
ROWS = "SELECT id, note FROM t ORDER BY id"


def adopting(way: Loading) -> Loading:
    return replace(way, adopt=True)


def note_of_five(fanout: Fanout) -> str:
    return str(fanout.ask("eu", "SELECT note FROM t WHERE id = 5")[0][0])


# -- whose table it is --------------------------------------------------------------------------


@ALL_WAYS
def test_a_table_with_rows_that_no_run_has_loaded_must_be_adopted(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.do("eu", "INSERT INTO t VALUES (5, 'of old')")
    assert "adopt = true" in fanout.fail(loading=way)
    assert fanout.ask("eu", ROWS) == [(5, "of old")]
    fanout.succeed(loading=adopting(way))
    fanout.assert_equal()


@INCREMENTAL
def test_what_is_adopted_is_compared_by_key_once(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.do("eu", "INSERT INTO t VALUES (5, 'of old'), (6, 'first')")
    assert fanout.succeed(loading=adopting(way))[0].rows == 9
    fanout.assert_equal()
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    fanout.succeed(loading=adopting(way))
    assert fanout.relayed == 1
    fanout.assert_equal()


def test_without_a_key_nothing_can_be_adopted_but_anew(fanout: Fanout) -> None:
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
    fanout.do("eu", "INSERT INTO t VALUES (5, 'first')")
    assert "--full" in fanout.fail(loading=adopting(APPEND))
    assert fanout.ask("eu", ROWS) == [(5, "first")]
    fanout.succeed(loading=adopting(APPEND), is_full=True)
    fanout.assert_equal()


@ALL_WAYS
@pytest.mark.parametrize("is_full", [False, True], ids=["", "full"])
def test_a_table_of_another_transfer_must_be_adopted(
    fanout: Fanout, way: Loading, is_full: bool
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(name="films")
    fanout.do("eu", BY_HAND)
    assert "is loaded by transfer films" in fanout.fail(loading=way, is_full=is_full)
    assert note_of_five(fanout) == "by hand"
    fanout.succeed(loading=adopting(way), is_full=is_full)
    fanout.assert_equal()
    assert fanout.ask("eu", "SELECT transfer FROM copyd.ledger") == [("books",)]


@ALL_WAYS
def test_a_table_that_was_loaded_from_another_source_must_be_adopted(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "UPDATE copyd.ledger SET system_identifier = 7", BY_HAND)
    assert "from another source server" in fanout.fail(loading=way)
    assert note_of_five(fanout) == "by hand"
    fanout.succeed(loading=adopting(way))
    fanout.assert_equal()
    fanout.succeed(loading=way)


# -- the source itself --------------------------------------------------------------------------


@ALL_WAYS
def test_nothing_is_copied_onto_itself_by_whatever_way_it_is_reached(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    before = fanout.ask("source", "SELECT * FROM t ORDER BY id")
    forced = replace(way, adopt=True, physical_clone=True)
    over_tcp = fanout.server.tcp_conninfo(fanout.databases["source"])
    for conninfo in (fanout.conninfos["source"], over_tcp):
        said = fanout.fail(loading=forced, conninfos={"eu": conninfo}, is_full=True, max_shrink=1.0)
        assert "is the source itself" in said
    assert fanout.ask("source", "SELECT * FROM t ORDER BY id") == before


def test_another_table_of_the_sources_database_can_be_a_destination(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN, "CREATE TABLE u (LIKE t INCLUDING ALL)")
    mapped = Loading(tables={"public.t": "public.u"})
    fanout.succeed(loading=mapped, conninfos={"eu": fanout.conninfos["source"]})
    assert fanout.ask("source", "TABLE u EXCEPT TABLE t") == []
    assert len(fanout.ask("source", "TABLE u")) == 10


def test_a_table_that_another_destination_of_the_run_loads_is_refused(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2)
    fanout.do("source", TEN)
    report = fanout.run(loading=MERGE, conninfos={"us": fanout.conninfos["eu"]})
    verdicts = sorted(outcome.verdict.value for outcome in report.outcomes)
    assert verdicts == ["failed", "succeeded"]
    (said,) = [outcome.cause for outcome in report.outcomes if outcome.cause]
    assert "is a destination of this run already" in said
    assert len(fanout.ask("eu", ROWS)) == 10


@dataclass
class Clone:
    """A server, and one that was started from a copy of its files."""

    source: servers.Server
    clone: servers.Server

    def transfer(self, **loading: Any) -> Transfer:
        replica = Replica(Server("clone", self.clone.conninfo()), Loading(**loading))
        source = Server("source", self.source.conninfo())
        return Transfer(
            name="books", source=source, replicas=(replica,), what=Tables(("public.t",))
        )


@pytest.fixture
def clone(installation: Installation) -> Iterator[Clone]:
    with servers.running_server(installation) as source, servers.private_folder() as folder:
        execute(source.conninfo(), KEYED, TEN)
        shut_down(source)
        cluster = Cluster(installation, folder / "data")
        files = [source.cluster.data_directory, cluster.data_directory]
        subprocess.run(["/bin/cp", "-a", *files], check=True)
        start_again(source)
        port = servers.free_port()
        cluster.settings.update({"port": str(port)})
        with cluster:
            yield Clone(source, servers.Server(cluster, port, source.has_tls))


def test_a_physical_copy_of_the_source_is_loaded_only_where_that_is_said(clone: Clone) -> None:
    execute(clone.clone.conninfo(), BY_HAND)
    execute(clone.source.conninfo(), "INSERT INTO t VALUES (11, 'new')")
    for adopt in (False, True):
        (outcome,) = run(clone.transfer(adopt=adopt)).outcomes
        assert outcome.verdict is Verdict.FAILED
        assert "physical_clone = true" in (outcome.cause or "")
    (outcome,) = run(clone.transfer(adopt=True, physical_clone=True)).outcomes
    assert outcome.verdict is Verdict.SUCCEEDED, outcome
    assert ask(clone.clone.conninfo(), ROWS) == ask(clone.source.conninfo(), ROWS)
    # A table or database of another name is nothing that a copy of the source would have.
    execute(clone.clone.conninfo(), "CREATE TABLE u (LIKE t INCLUDING ALL)")
    (outcome,) = run(clone.transfer(tables={"public.t": "public.u"})).outcomes
    assert outcome.verdict is Verdict.SUCCEEDED, outcome


# -- older data, another history, another meaning -----------------------------------------------

ON_A_LATER_TIMELINE = "UPDATE copyd.ledger SET timeline = timeline + 1, lsn = '0/0'"
NEWER = "UPDATE copyd.ledger SET lsn = 'FFFFFFF/0'"


@pytest.mark.parametrize("newer", [NEWER, ON_A_LATER_TIMELINE], ids=["lsn", "timeline"])
@pytest.mark.parametrize("way", [DELETE, TRUNCATE, MERGE], ids=["delete", "truncate", "merge"])
def test_newer_data_is_replaced_by_an_older_snapshot_in_a_full_run_only(
    fanout: Fanout, way: Loading, newer: str
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", newer, BY_HAND)
    assert "holds newer data than this source shows" in fanout.fail(loading=way)
    assert note_of_five(fanout) == "by hand"
    fanout.succeed(loading=way, is_full=True)
    fanout.assert_equal()
    fanout.succeed(loading=way)


def test_rows_of_an_older_snapshot_are_appended_without_touching_those_there(
    fanout: Fanout,
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("eu", NEWER, BY_HAND)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    assert fanout.succeed(loading=APPEND)[0].rows == 1
    assert note_of_five(fanout) == "by hand"


def test_rows_of_an_older_snapshot_cannot_be_appended_without_a_key(fanout: Fanout) -> None:
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("eu", NEWER)
    assert "--full" in fanout.fail(loading=APPEND)
    assert len(fanout.ask("eu", ROWS)) == 10


def test_a_standby_that_lags_does_not_set_a_replica_back(
    fanout: Fanout, installation: Installation
) -> None:
    fanout.create(KEYED)
    durable = servers.running_server(installation, synchronous_commit="on")
    with durable as primary, standby_of(primary) as standby:
        execute(primary.conninfo(), KEYED, TEN)
        wait_until_caught_up(primary, standby)
        execute(standby.conninfo(), "SELECT pg_wal_replay_pause()")
        execute(primary.conninfo(), "UPDATE t SET note = 'second'")
        fanout.succeed(loading=MERGE, conninfos={"source": primary.conninfo()})
        there = {"source": standby.conninfo()}
        for way in (DELETE, MERGE):
            said = fanout.run(loading=way, conninfos=there).outcomes[0].cause
            assert "newer data" in (said or ""), said
    assert fanout.ask("eu", "SELECT DISTINCT note FROM t") == [("second",)]


@INCREMENTAL
def test_a_new_timeline_makes_everything_be_compared_by_key(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    # On the old timeline it was at an LSN that the new one has not reached.
    fanout.do("eu", "UPDATE copyd.ledger SET timeline = timeline - 1", NEWER, BY_HAND)
    assert fanout.succeed(loading=way)[0].rows == 1
    assert fanout.relayed == 10
    fanout.assert_equal()
    fanout.succeed(loading=way)
    assert fanout.relayed == 0


def test_on_a_new_timeline_rows_without_a_key_cannot_be_compared(fanout: Fanout) -> None:
    fanout.create(KEYLESS)
    fanout.do("source", TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("eu", "UPDATE copyd.ledger SET timeline = timeline - 1")
    assert "--full" in fanout.fail(loading=APPEND)
    assert len(fanout.ask("eu", ROWS)) == 10
    fanout.succeed(loading=APPEND, is_full=True)
    fanout.assert_equal()


MEANINGS = {
    "where": TableOptions(where="id > 0"),
    "columns": TableOptions(columns=("id",)),
    "key": TableOptions(key=("code",)),
}


@INCREMENTAL
@pytest.mark.parametrize("what", MEANINGS)
def test_another_meaning_of_the_rows_takes_a_full_run(
    fanout: Fanout, way: Loading, what: str
) -> None:
    fanout.create(
        "CREATE TABLE t (id int PRIMARY KEY, note text, code int UNIQUE NOT NULL DEFAULT 0)"
    )
    fanout.do("source", "INSERT INTO t SELECT i, 'first', i FROM generate_series(1, 10) i")
    fanout.do("eu", "ALTER TABLE t ALTER code SET DEFAULT (random() * 1e9)::int")
    fanout.succeed(loading=way)
    fanout.do("eu", BY_HAND)
    other = Tables(("public.t",), {"public.t": MEANINGS[what]})
    assert "run copyd once books --full" in fanout.fail(loading=way, what=other)
    assert note_of_five(fanout) == "by hand"
    fanout.succeed(loading=way, what=other, is_full=True)
    assert fanout.succeed(loading=way, what=other)[0].rows == 0
    assert fanout.ask("eu", "SELECT id FROM t") == fanout.ask("source", "SELECT id FROM t")


def test_a_column_that_is_added_takes_a_full_run_but_for_replace(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2)
    fanout.do("source", TEN)
    ways = {"eu": MERGE, "us": DELETE}
    fanout.succeed(at=ways)
    for name in ("eu", "us", "source"):
        fanout.do(name, "ALTER TABLE t ADD more int DEFAULT 1")
    eu, us = fanout.run(at=ways).outcomes
    assert (eu.verdict, us.verdict) == (Verdict.FAILED, Verdict.SUCCEEDED)
    assert "--full" in (eu.cause or "")
    fanout.succeed(at=ways, is_full=True)
    fanout.assert_equal()


# -- tables that are not fit --------------------------------------------------------------------


@ALL_WAYS
def test_unlogged_tables_are_replaced_but_not_appended_to(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, more="ALTER TABLE t SET UNLOGGED")
    fanout.do("source", TEN)
    if way.mode == "replace":
        fanout.succeed(loading=way)
        fanout.assert_equal()
    else:
        assert "UNLOGGED" in fanout.fail(loading=way)


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
@pytest.mark.parametrize("way", [DELETE, TRUNCATE], ids=["delete", "truncate"])
def test_a_replace_reaches_no_table_outside_the_transfer(
    fanout: Fanout, way: Loading, action: str
) -> None:
    fanout.create(KEYED, f"CREATE TABLE u (t int DEFAULT 1 REFERENCES t ON DELETE {action})")
    fanout.do("source", TEN)
    fanout.do("eu", TEN, "INSERT INTO u VALUES (5)")
    assert f"public.u (ON DELETE {action})" in fanout.fail(loading=adopting(way))
    assert fanout.ask("eu", "SELECT t FROM u") == [(5,)]


BROKEN = {
    "no such table": ("DROP TABLE t", "there is no table"),
    "no such column": ("ALTER TABLE t DROP note", "it has no column note"),
    "another type": ("ALTER TABLE t ALTER note TYPE date USING NULL", "its column note is date"),
    "a generated column": (
        "ALTER TABLE t DROP note, ADD note text GENERATED ALWAYS AS ('x') STORED",
        "note is generated",
    ),
    "a column that must be given": ("ALTER TABLE t ADD more int NOT NULL", "more must not be null"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_refused_before_any_data_moves(fanout: Fanout, what: str) -> None:
    fanout.create(KEYED, replicas=2)
    fanout.do("source", TEN)
    statement, said = BROKEN[what]
    fanout.do("us", statement)
    for way in (DELETE, MERGE):
        eu, us = fanout.run(loading=way).outcomes
        assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
        assert said in (us.cause or "")
        assert list(fanout.passes()) == [{"eu"}]


@pytest.mark.parametrize(("minimum", "verdict"), [(1, "partial"), (2, "partial"), (3, "failed")])
def test_a_run_with_too_few_successes_has_failed(
    fanout: Fanout, minimum: int, verdict: str
) -> None:
    fanout.create(KEYED, replicas=3)
    fanout.do("source", TEN)
    fanout.do("us", "DROP TABLE t")
    report = fanout.run(minimum_destinations=minimum)
    assert report.verdict.value == verdict
    assert isinstance(fanout.seen[-1], events.RunEnded)
    assert fanout.seen[-1].verdict == verdict
    fanout.assert_equal(to=("eu", "ap"))  # what succeeded stays


# -- what others plant --------------------------------------------------------------------------

TRAP = """
CREATE TABLE public.caught (who text);
GRANT ALL ON public.caught TO PUBLIC;
CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.caught VALUES (current_user); RETURN NEW; END'
"""
SET_TRAP = """
CREATE TRIGGER trap BEFORE INSERT OR UPDATE ON copyd.ledger
FOR EACH ROW EXECUTE FUNCTION public.trap()
"""


@pytest.fixture
def mallory(fanout: Fanout) -> Iterator[str]:
    """A role that may create in the destination's database, and nothing else."""
    fanout.create(KEYED)
    fanout.do("source", TEN)
    database = fanout.databases["eu"]
    fanout.do("eu", "CREATE ROLE mallory", f"GRANT CREATE ON DATABASE {database} TO mallory")
    yield "mallory"
    fanout.do("eu", "DROP OWNED BY mallory CASCADE", "DROP ROLE mallory")


@ALL_WAYS
def test_a_ledger_that_somebody_else_made_in_advance_is_not_used(
    fanout: Fanout, mallory: str, way: Loading
) -> None:
    fanout.do(
        "eu",
        TRAP,
        f"SET ROLE {mallory}",
        "CREATE SCHEMA copyd",
        "CREATE TABLE copyd.ledger (schema text, name text, run text)",
        SET_TRAP,
    )
    said = fanout.fail(loading=way)
    assert f"it belongs to role {mallory}" in said
    assert fanout.ask("eu", "SELECT who FROM caught") == []
    assert fanout.ask("eu", ROWS) == []


def test_a_trigger_that_was_planted_in_our_own_ledger_does_not_run(
    fanout: Fanout, mallory: str
) -> None:
    fanout.succeed(loading=MERGE)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    fanout.do("eu", f"GRANT USAGE ON SCHEMA copyd TO {mallory}")
    fanout.do("eu", f"GRANT TRIGGER ON copyd.ledger TO {mallory}", TRAP)
    assert "others can change it" in fanout.fail(loading=MERGE)
    fanout.do("eu", f"SET ROLE {mallory}", SET_TRAP)
    fanout.do("eu", f"REVOKE ALL ON copyd.ledger FROM {mallory}")
    assert "trigger" in fanout.fail(loading=MERGE)
    assert fanout.ask("eu", "SELECT who FROM caught") == []
    fanout.do("eu", "DROP TRIGGER trap ON copyd.ledger")
    fanout.succeed(loading=MERGE)
    fanout.assert_equal()


TYPES = "int int8 text name oid timestamptz timestamp bool date interval int2 xid pg_lsn numeric"
PLANTED = f"""
CREATE SCHEMA planted;
DO $do$
DECLARE kind text; other text; mark text; arguments text;
BEGIN
  FOR kind, other IN SELECT a, b FROM unnest(string_to_array('{TYPES}', ' ')) a,
                                     unnest(string_to_array('{TYPES}', ' ')) b
  LOOP
    EXECUTE format('CREATE FUNCTION planted.op(%1$s, %2$s) RETURNS bool LANGUAGE plpgsql AS'
                   ' ''BEGIN RAISE EXCEPTION ''''planted''''; END''', kind, other);
    FOREACH mark IN ARRAY '{{=,<>,<,<=,>,>=,-,&,+,~,||}}'::text[]
    LOOP
      EXECUTE format('CREATE OPERATOR planted.%s (LEFTARG = %s, RIGHTARG = %s,'
                     ' FUNCTION = planted.op)', mark, kind, other);
    END LOOP;
  END LOOP;
  FOREACH mark IN ARRAY ARRAY['pg_export_snapshot', 'pg_current_snapshot', 'pg_backend_pid',
      'clock_timestamp', 'statement_timestamp', 'now', 'current_database', 'current_setting',
      'pg_is_in_recovery', 'pg_current_wal_lsn', 'pg_control_system', 'version']
  LOOP
    EXECUTE format('CREATE FUNCTION planted.%I() RETURNS text LANGUAGE plpgsql AS'
                   ' ''BEGIN RAISE EXCEPTION ''''planted''''; END''', mark);
  END LOOP;
  FOREACH mark IN ARRAY ARRAY['current_setting(text)', 'to_regclass(text)', 'unnest(text[])',
      'set_config(text, text, bool)', 'pg_terminate_backend(int)', 'isfinite(timestamptz)',
      'pg_try_advisory_xact_lock(bigint)', 'pg_advisory_xact_lock(bigint)']
  LOOP
    EXECUTE format('CREATE FUNCTION planted.%s RETURNS bool LANGUAGE plpgsql AS'
                   ' ''BEGIN RAISE EXCEPTION ''''planted''''; END''', mark);
  END LOOP;
END $do$;
CREATE AGGREGATE planted.max(timestamptz) (SFUNC = timestamptz_larger, STYPE = timestamptz);
CREATE TABLE planted.pg_class (oid int); CREATE TABLE planted.pg_stat_activity (pid int);
CREATE TABLE planted.pg_namespace (oid int); CREATE TABLE planted.ledger (run text)
"""
OUR_BACKENDS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'copyd'
"""
TIMED = "CREATE TABLE t (id int PRIMARY KEY, note text, at timestamptz DEFAULT now())"


@ALL_WAYS
@pytest.mark.parametrize("where", ["eu", "source"])
def test_what_is_planted_in_the_roles_own_search_path_is_not_used(
    fanout: Fanout, way: Loading, where: str
) -> None:
    fanout.create(TIMED)
    fanout.do("source", TEN)
    fanout.do(where, PLANTED)
    conninfo = f"{fanout.conninfos[where]} options='-c search_path=planted,pg_catalog,public'"

    def lose_once(event: Event) -> None:
        """The second try has a backend of the first to end."""
        if event == events.PassStarted(1, ("eu",)):
            fanout.do("eu", OUR_BACKENDS)

    options: dict[str, Any] = {
        "conninfos": {where: conninfo},
        "loading": replace(way, after_commit=("SELECT",)),
        "cursor": "at",
        "overlap": timedelta(hours=1),
        "delete_missing": way is MERGE,
        "reintroduce": Reintroduce(attempts=2, backoff=0.01),
        "observe": lose_once,
    }
    for number in (11, 12, 13):
        (outcome,) = fanout.succeed(**options, full_every=0.0 if number == 13 else 1e6)
        assert outcome.faults == 1
        assert outcome.notes == ()
        fanout.assert_equal()
        fanout.do("source", f"INSERT INTO t VALUES ({number}, 'new')")
    fanout.succeed(**options, is_full=True)
    fanout.assert_equal()


# -- what somebody else holds -------------------------------------------------------------------


def test_nobody_waits_for_a_destination_whose_ledger_row_is_held(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2)
    fanout.do("source", TEN)
    fanout.succeed(loading=MERGE)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    other = fanout.open("eu", "SELECT FROM copyd.ledger FOR UPDATE")

    def leave(event: Event) -> None:
        """The other run goes only when the neighbour has committed."""
        if isinstance(event, events.DestinationEnded) and event.destination == "us":
            other.rollback()

    eu, us = fanout.succeed(
        loading=MERGE,
        lock_timeout=0.2,
        reintroduce=Reintroduce(attempts=20, backoff=0.1, max_backoff=0.2),
        observe=leave,
    )
    assert (us.faults, us.passes) == (0, 1)
    assert eu.faults > 0
    dropped = fanout.of(events.DestinationDropped)
    assert {getattr(event, "destination", None) for event in dropped} == {"eu"}
    fanout.assert_equal()


HOLDING = {
    "the ledger's row": "SELECT FROM copyd.ledger FOR UPDATE",
    "the table": "LOCK TABLE t IN ROW EXCLUSIVE MODE",
}


@pytest.mark.parametrize("what", HOLDING)
@pytest.mark.parametrize("way", [DELETE, MERGE, APPEND], ids=["delete", "merge", "append"])
def test_a_lock_is_waited_for_no_longer_than_lock_timeout(
    fanout: Fanout, way: Loading, what: str
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    other = fanout.open("eu", HOLDING[what])
    began = time.monotonic()
    said = fanout.fail(loading=way, lock_timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 5.0
    assert "waited 0.3 s" in said
    other.rollback()
    fanout.succeed(loading=way)
    fanout.assert_equal()


def test_a_run_that_holds_its_tables_makes_another_of_the_same_transfer_give_up(
    fanout: Fanout,
) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    seen: list[str] = []

    def run_another(event: Event) -> None:
        if isinstance(event, events.PassStarted):
            report = run(fanout.transfer(loading=MERGE, lock_timeout=0.2))
            seen.extend(outcome.cause or "" for outcome in report.outcomes)

    fanout.succeed(loading=MERGE, observe=run_another)
    (said,) = seen
    assert said.startswith("another run has the ledger's row of table public.t: waited 0.2 s")
    fanout.assert_equal()


# -- what keeps rows from being deleted ---------------------------------------------------------

SOFT = (
    "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN UPDATE public.t SET note = ''gone'' WHERE id = OLD.id; RETURN NULL; END';"
    "CREATE TRIGGER soft BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION keep()"
)


def test_rows_that_a_trigger_keeps_are_not_mixed_with_the_sources(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int, note text)")
    fanout.do("source", TEN)
    fanout.succeed(loading=DELETE)
    fanout.do("eu", SOFT)
    said = fanout.fail(loading=DELETE)
    assert "stayed after DELETE, which a trigger of it keeps (soft)" in said
    fanout.assert_equal()
    fanout.succeed(loading=TRUNCATE)
    fanout.succeed(loading=replace(DELETE, triggers="skip"))
    fanout.assert_equal()


def test_a_trigger_that_lets_rows_go_does_no_harm(fanout: Fanout) -> None:
    fanout.create(KEYED)
    fanout.do("source", TEN)
    fanout.succeed(loading=DELETE)
    fanout.do("eu", SOFT.replace("RETURN NULL", "RETURN OLD").replace("= OLD.id", "IS NULL"))
    fanout.succeed(loading=DELETE)
    fanout.assert_equal()


def test_a_rule_that_keeps_rows_is_refused_where_rows_are_deleted(fanout: Fanout) -> None:
    fanout.create("CREATE TABLE t (id int, note text)")
    fanout.do("source", TEN)
    fanout.succeed(loading=DELETE)
    fanout.do("eu", "CREATE RULE keep AS ON DELETE TO t DO INSTEAD NOTHING")
    assert "DISABLE RULE keep" in fanout.fail(loading=DELETE)
    fanout.assert_equal()
    fanout.succeed(loading=TRUNCATE)
    fanout.assert_equal()


def test_a_view_at_a_destination_is_no_table(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2)
    fanout.do("us", "ALTER TABLE t RENAME TO u", "CREATE VIEW t AS SELECT * FROM u")
    eu, us = fanout.run().outcomes
    assert (eu.verdict, us.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED)
    assert "public.t is a view" in (us.cause or "")
