"""Code that others have planted at a destination does not run."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from copyd import events
from copyd.transfers import Loading, Reintroduce
from tests.support.loadings import ALL_WAYS, APPEND, DELETE, KEYED, MERGE, ROWS, TEN, TRUNCATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.events import Event
    from tests.support.fanout import Fanout

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
    fanout.create(KEYED, fill=TEN)
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


@pytest.mark.parametrize("where", ["eu", "source"])
def test_what_is_planted_in_the_roles_own_search_path_is_not_used(
    fanout: Fanout, where: str
) -> None:
    fanout.create()
    fanout.do(where, PLANTED)
    for way in (DELETE, TRUNCATE, APPEND, MERGE):
        fanout.everywhere("DROP TABLE IF EXISTS t", "DROP SCHEMA IF EXISTS copyd CASCADE", TIMED)
        fanout.do("source", TEN)
        load_four_times(fanout, way, where)


def load_four_times(fanout: Fanout, way: Loading, where: str) -> None:
    """What is planted comes first in the search path there."""
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
