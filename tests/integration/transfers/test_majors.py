"""What a source of one major version sends, a destination of another must hold or refuse.

The installations are those in COPYD_TEST_BINDIRS: folders of programs, with colons between them.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from copyd.cluster import Installation
from copyd.transfers import Tables, Verdict, run
from tests.support import zoo
from tests.support.servers import running_server
from tests.support.sql import ask, execute
from tests.support.zoo_fanout import CASES, copied, follow, open_zoo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copyd.transfers.transfer import Format
    from tests.support.servers import Server
    from tests.support.zoo_fanout import ZooServers

BINDIRS = os.environ.get("COPYD_TEST_BINDIRS", "")
INSTALLATIONS = {
    found.version_info.major: found
    for found in map(Installation.at, filter(None, BINDIRS.split(":")))
}
PAIRS: list[tuple[int, int] | None] = [*permutations(INSTALLATIONS, 2)]


@pytest.fixture(scope="module")
def running() -> Iterator[Mapping[int, Server]]:
    """A server of each major; autovacuum would hold back what is appended without a key."""
    with ExitStack() as stack:
        yield {
            major: stack.enter_context(running_server(found, autovacuum="off"))
            for major, found in INSTALLATIONS.items()
        }


@pytest.fixture(
    scope="module", params=PAIRS or [None], ids=lambda each: each and f"{each[0]}-to-{each[1]}"
)
def zoo_servers(
    request: pytest.FixtureRequest, running: Mapping[int, Server], installation: Installation
) -> Iterator[ZooServers]:
    if request.param is None:
        pytest.skip("COPYD_TEST_BINDIRS does not name installations of two major versions")
    source, destination = (running[major] for major in request.param)
    with open_zoo(source, destination, zoo.psql_of(installation)) as made:
        yield made


@pytest.mark.parametrize("format_", ["text", "binary"])
@pytest.mark.parametrize("name", CASES)
def test_every_type_and_table_arrives_at_another_major(
    zoo_servers: ZooServers, name: str, format_: Format
) -> None:
    with zoo_servers.fanout() as fanout:
        follow(fanout, CASES[name], format_)


@pytest.mark.parametrize("table", ["compounds", "intervals"])
def test_what_another_major_reads_otherwise_in_binary_is_refused_there(
    zoo_servers: ZooServers, table: str
) -> None:
    (whole,) = (each for each in zoo_servers.zoo.tables if each.names == ("zoo", table))
    with zoo_servers.fanout() as fanout:
        report = run(fanout.transfer(what=Tables((whole.name,)), format="binary"))
        if whole.travels_in_binary(zoo_servers.majors):
            assert report.verdict is Verdict.SUCCEEDED, report
            return
        assert report.verdict is Verdict.FAILED
        named = {"compounds": "PostgreSQL 13", "intervals": "PostgreSQL 17"}[table]
        for outcome in report.outcomes:
            assert named in (outcome.cause or "")
            assert (outcome.counts.rows, outcome.passes) == (0, 0)


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (None, "there is no table extra.many"),
        ("int4range", "its column i is int4range, the source's is int4multirange"),
    ],
)
def test_a_type_that_another_major_lacks_is_refused_before_data_moves(
    zoo_servers: ZooServers, there: str | None, sentence: str
) -> None:
    if not min(zoo_servers.majors) < 14 <= zoo_servers.majors[0]:
        pytest.skip("both have multiranges, or there are none to copy")
    with zoo_servers.fanout() as fanout:
        execute(
            fanout.source,
            "CREATE SCHEMA extra; CREATE TABLE extra.many (id int PRIMARY KEY, i int4multirange)",
        )
        for end in fanout.ends if there else ():
            execute(
                end, f"CREATE SCHEMA extra; CREATE TABLE extra.many (id int PRIMARY KEY, i {there})"
            )
        report = run(fanout.transfer(what=Tables(("zoo.beasts", "extra.many"))))
        assert report.verdict is Verdict.FAILED
        for outcome in report.outcomes:
            assert sentence in (outcome.cause or "")
            assert (outcome.counts.rows, outcome.passes) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "since", "format_"),
    [("numeric", 14, "text"), ("numeric", 14, "binary"), ("interval", 17, "text")],
)
def test_a_value_that_another_major_lacks_leaves_the_old_data(
    zoo_servers: ZooServers, kind: str, since: int, format_: Format
) -> None:
    if not zoo_servers.majors[1] < since <= zoo_servers.majors[0]:
        pytest.skip("the destination knows infinity, or there is none to copy")
    with zoo_servers.fanout() as fanout:
        for conninfo in (fanout.source, *fanout.ends):
            execute(
                conninfo,
                f"CREATE SCHEMA extra; CREATE TABLE extra.values (id int PRIMARY KEY, v {kind})",
            )
        execute(fanout.source, "INSERT INTO extra.values VALUES (1, '1')")
        transfer = fanout.transfer(what=Tables(('extra."values"',)), format=format_)
        copied(transfer)
        execute(fanout.source, "INSERT INTO extra.values VALUES (2, 'infinity')")
        report = run(transfer)
        assert report.verdict is Verdict.FAILED
        assert all("line 2" in (outcome.cause or "") for outcome in report.outcomes)
        assert all(ask(end, "SELECT id FROM extra.values") == [(1,)] for end in fanout.ends)
