"""Everything that a table can hold arrives as it was, in every mode and format; judged by psql."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from copyd import transfers
from copyd.transfers import Replica, Tables, Transfer, Verdict, run
from copyd.transfers.transfer import TableOptions
from tests.support import zoo
from tests.support.once_command import Once
from tests.support.sql import ask, execute
from tests.support.zoo_fanout import CASES, KEYLESS, NAMES, follow, open_zoo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.cluster import Installation
    from copyd.transfers.transfer import Format
    from tests.support.servers import Server
    from tests.support.zoo_fanout import ZooFanout, ZooServers


@pytest.fixture(scope="module")
def zoo_servers(quiet_server: Server, installation: Installation) -> Iterator[ZooServers]:
    with open_zoo(quiet_server, quiet_server, zoo.psql_of(installation)) as made:
        yield made


@pytest.fixture
def fanout(zoo_servers: ZooServers) -> Iterator[ZooFanout]:
    with zoo_servers.fanout() as made:
        yield made


@pytest.fixture(scope="module")
def kept_fanout(zoo_servers: ZooServers) -> Iterator[ZooFanout]:
    """One for tests that load nothing."""
    with zoo_servers.fanout() as made:
        yield made


@pytest.mark.parametrize("format_", ["text", "binary"])
@pytest.mark.parametrize("name", CASES)
def test_every_type_and_table_arrives_as_it_was_and_follows_its_source(
    fanout: ZooFanout, name: str, format_: Format
) -> None:
    follow(fanout, CASES[name], format_)


def fan_out(source: str, end: str) -> Transfer:
    """A transfer of one table to one destination."""
    return Transfer(
        name="t",
        source=transfers.Server("source", source),
        replicas=(Replica(transfers.Server("end", end)),),
        what=Tables(("public.t",)),
    )


SETTINGS = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "xmloption": "document",
    "array_nulls": "off",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "default_transaction_isolation": "serializable",
    "search_path": "zoo",
}
"""What an administrator may have set for whole databases, each the worst for a copy."""


def test_what_databases_are_set_to_changes_no_value(fanout: ZooFanout) -> None:
    for conninfo in (fanout.source, *fanout.ends):
        (dbname,) = ask(conninfo, "SELECT current_database()")[0]
        for setting, value in SETTINGS.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(dbname), sql.Identifier(setting), value
            )
            execute(conninfo, statement.as_string())
    follow(fanout, CASES["merge"], "text")


def test_no_setting_makes_a_table_look_empty_that_was_emptied_and_filled_before_the_lock(
    quiet_server: Server,
) -> None:
    with quiet_server.database() as here, quiet_server.database() as there:
        source, end = map(quiet_server.conninfo, (here, there))
        for conninfo in (source, end):
            execute(conninfo, "CREATE TABLE public.t (i int PRIMARY KEY)")
        execute(source, f"ALTER DATABASE {here} SET default_transaction_isolation = serializable")
        with ThreadPoolExecutor() as pool, quiet_server.connect(here, autocommit=False) as writer:
            writer.execute("TRUNCATE public.t; INSERT INTO public.t VALUES (1), (2)")
            running = pool.submit(run, fan_out(source, end))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.t'::regclass"
            deadline = monotonic() + 30
            while ask(source, waiting) != [(1,)]:
                assert monotonic() < deadline, "nobody waits for the table"
            writer.commit()
            assert running.result(30).outcomes[0].counts.rows == 2


@pytest.mark.parametrize("kind", zoo.ODD)
def test_a_type_that_must_not_travel_in_binary_is_refused_with_a_sentence(
    kept_fanout: ZooFanout, kind: str
) -> None:
    what = Tables(("zoo.odd",), {"zoo.odd": TableOptions(columns=("id", kind))})
    rows = [ask(end, "SELECT count(*) FROM zoo.odd") for end in kept_fanout.ends]
    report = run(kept_fanout.transfer(what=what, format="binary"))
    assert report.verdict is Verdict.FAILED
    for outcome in report.outcomes:
        assert f"column {kind} {zoo.NEVER_BINARY[kind]}" in (outcome.cause or "")
        assert (outcome.cause or "").endswith(": use the text format")
        assert (outcome.counts.rows, outcome.passes) == (0, 0)
    assert [ask(end, "SELECT count(*) FROM zoo.odd") for end in kept_fanout.ends] == rows


def test_what_a_bad_value_holds_is_not_taken_for_the_line_that_it_is_on(
    quiet_server: Server,
) -> None:
    with quiet_server.database() as here, quiet_server.database() as there:
        source, end = map(quiet_server.conninfo, (here, there))
        execute(source, "CREATE TABLE public.t (i int PRIMARY KEY, x text)")
        execute(source, "INSERT INTO public.t VALUES (1, 'a, card 4111111111111111, b')")
        execute(end, "CREATE TABLE public.t (i int PRIMARY KEY, x uuid)")
        (outcome,) = run(fan_out(source, end)).outcomes
        assert outcome.verdict is Verdict.FAILED
        assert "4111111111111111" not in (outcome.cause or "")
        assert "line 1" in (outcome.cause or "")


def test_the_program_loads_each_destination_in_a_mode_of_its_own(
    fanout: ZooFanout, folder: Path
) -> None:
    fanout = replace(fanout, zoo=fanout.zoo.without(*KEYLESS))
    once = Once(
        folder,
        {"source": fanout.source, **dict(zip(NAMES, fanout.ends, strict=True))},
        {
            "source": "source",
            "destinations": list(NAMES),
            "tables": ["zoo.????*", "zoo.o??", zoo.STRANGE],  # all but zoo.log
            "destination": {"us": {"mode": "merge"}, "asia": {"mode": "append"}},
        },
        name="zoo",
    )
    for kinds in (None, ("inserts",)):
        if kinds is not None:
            zoo.execute(fanout.source, fanout.zoo.change(*kinds))
        ended = once.run()
        assert ended.code == 0, ended.said
        assert {name: each.verdict for name, each in ended.destinations.items()} == dict.fromkeys(
            NAMES, "succeeded"
        )
        fanout.assert_equal()
