"""Several destinations share a scan of the source where they can."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from copyd.cluster.poll import wait_for
from tests.support.loadings import ALL_WAYS, APPEND, INCREMENTAL, KEYED, MERGE, TEN, TRUNCATE

if TYPE_CHECKING:
    from copyd.transfers import Loading
    from tests.support.fanout import Fanout


def seq_scans(fanout: Fanout, table: str) -> int:
    query = f"SELECT seq_scan FROM pg_stat_user_tables WHERE relname = '{table}'"
    return int(fanout.ask("source", query)[0][0])


@ALL_WAYS
def test_the_source_is_scanned_once_for_three_destinations(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, "CREATE TABLE sentinel ()", replicas=3, fill=TEN)
    for runs in (1, 2):
        fanout.succeed(loading=way)
        assert list(fanout.passes()) == [{"eu", "us", "ap"}]
        fanout.do("source", "SELECT FROM sentinel", f"INSERT INTO t VALUES ({runs + 10}, 'new')")
        # What is counted can be seen a little later; what came before it then as well.
        seen = partial(lambda runs: seq_scans(fanout, "sentinel") >= runs, runs)
        assert wait_for(seen, timeout=20)
        assert seq_scans(fanout, "t") == 1 + runs  # the first made the index


def test_destinations_with_other_modes_share_what_they_can(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=3, fill=TEN)
    ways = {"eu": TRUNCATE, "us": MERGE, "ap": APPEND}
    fanout.succeed(at=ways)
    assert list(fanout.passes()) == [{"eu", "us", "ap"}]
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    outcomes = fanout.succeed(at=ways)
    assert list(fanout.passes()) == [{"us", "ap"}, {"eu"}]
    assert [outcome.counts.rows for outcome in outcomes] == [11, 1, 1]
    fanout.assert_equal()


@INCREMENTAL
def test_a_laggard_catches_up_in_a_scan_of_its_own(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, replicas=3, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "INSERT INTO t SELECT i, 'second' FROM generate_series(11, 30) i")
    fanout.succeed(loading=way, to=("eu", "us"))
    fanout.do("source", "INSERT INTO t VALUES (31, 'third')")
    outcomes = fanout.succeed(loading=way)
    assert set(fanout.passes()) == {frozenset({"eu", "us"}), frozenset({"ap"})}
    assert [outcome.counts.rows for outcome in outcomes] == [1, 1, 21]
    fanout.assert_equal()
    fanout.succeed(loading=way)
    assert list(fanout.passes()) == [{"eu", "us", "ap"}]


def test_one_that_is_refused_does_not_keep_the_others_from_their_rows(fanout: Fanout) -> None:
    fanout.create(KEYED, replicas=3, fill=TEN)
    fanout.do("us", "DROP TABLE t")
    report = fanout.run(loading=MERGE)
    assert [outcome.verdict.value for outcome in report.outcomes] == [
        "succeeded", "failed", "succeeded",
    ]  # fmt: skip
    assert report.verdict.value == "partial"
    fanout.assert_equal(to=("eu", "ap"))
    fanout.do("us", KEYED)
    fanout.succeed(loading=MERGE)
    fanout.assert_equal()
