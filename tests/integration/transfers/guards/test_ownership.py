"""Whose table it is: another transfer's, another source's, the source itself."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from copyd.cluster import Cluster
from copyd.transfers import Loading, Replica, Server, Tables, Transfer, Verdict, run
from tests.support import servers
from tests.support.loadings import (
    ALL_WAYS,
    APPEND,
    BY_HAND,
    INCREMENTAL,
    KEYED,
    KEYLESS,
    MERGE,
    ROWS,
    TEN,
    adopting,
    note_of_five,
)
from tests.support.sql import ask, execute
from tests.support.standby import shut_down, start_again

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.cluster import Installation
    from tests.support.fanout import Fanout


@ALL_WAYS
def test_a_table_with_rows_that_no_run_has_loaded_must_be_adopted(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.do("eu", "INSERT INTO t VALUES (5, 'of old')")
    assert "adopt = true" in fanout.fail(loading=way)
    assert fanout.ask("eu", ROWS) == [(5, "of old")]
    fanout.succeed(loading=adopting(way))
    fanout.assert_equal()


@INCREMENTAL
def test_what_is_adopted_is_compared_by_key_once(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.do("eu", "INSERT INTO t VALUES (5, 'of old'), (6, 'first')")
    assert fanout.succeed(loading=adopting(way))[0].counts.rows == 9
    fanout.assert_equal()
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    fanout.succeed(loading=adopting(way))
    assert fanout.relayed == 1
    fanout.assert_equal()


def test_without_a_key_nothing_can_be_adopted_but_anew(fanout: Fanout) -> None:
    fanout.create(KEYLESS, fill=TEN)
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
    fanout.create(KEYED, fill=TEN)
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
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "UPDATE copyd.ledger SET system_identifier = 7", BY_HAND)
    assert "from another source server" in fanout.fail(loading=way)
    assert note_of_five(fanout) == "by hand"
    fanout.succeed(loading=adopting(way))
    fanout.assert_equal()
    fanout.succeed(loading=way)


@ALL_WAYS
def test_nothing_is_copied_onto_itself_by_whatever_way_it_is_reached(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED, fill=TEN)
    before = fanout.ask("source", "SELECT * FROM t ORDER BY id")
    forced = replace(way, adopt=True, physical_clone=True)
    over_tcp = fanout.server.tcp_conninfo(fanout.databases["source"])
    for conninfo in (fanout.conninfos["source"], over_tcp):
        said = fanout.fail(loading=forced, conninfos={"eu": conninfo}, is_full=True, max_shrink=1.0)
        assert "is the source itself" in said
    assert fanout.ask("source", "SELECT * FROM t ORDER BY id") == before


def test_another_table_of_the_sources_database_can_be_a_destination(fanout: Fanout) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.do("source", "CREATE TABLE u (LIKE t INCLUDING ALL)")
    mapped = Loading(tables={"public.t": "public.u"})
    fanout.succeed(loading=mapped, conninfos={"eu": fanout.conninfos["source"]})
    assert fanout.ask("source", "TABLE u EXCEPT TABLE t") == []
    assert len(fanout.ask("source", "TABLE u")) == 10


def test_a_table_that_another_destination_of_the_run_loads_is_refused(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=2, fill=TEN)
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
