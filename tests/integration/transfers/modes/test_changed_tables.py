"""Tables that were emptied, made again, swapped or altered between two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.loadings import ALL_WAYS, APPEND, INCREMENTAL, KEYED, KEYLESS, MERGE, TEN, ids

if TYPE_CHECKING:
    from copyd.transfers import Loading
    from tests.support.fanout import Fanout


@pytest.mark.parametrize(("way", "table"), [(APPEND, KEYLESS), (APPEND, KEYED), (MERGE, KEYED)])
def test_a_table_that_was_emptied_by_hand_is_filled_again(
    fanout: Fanout, way: Loading, table: str
) -> None:
    fanout.create(table, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "DELETE FROM t")
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    assert fanout.succeed(loading=way)[0].counts.rows == 11
    fanout.assert_equal()


@ALL_WAYS
def test_a_table_that_was_dropped_and_made_again_is_filled_again(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "DROP TABLE t", KEYED)
    fanout.succeed(loading=way)
    fanout.assert_equal()


@INCREMENTAL
def test_rows_of_a_table_that_was_made_again_are_compared_by_key(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "DROP TABLE t", KEYED, "INSERT INTO t VALUES (1, 'first'), (2, 'of old')")
    assert fanout.succeed(loading=way)[0].counts.rows == 9
    fanout.assert_equal()


def test_rows_of_a_table_that_was_made_again_cannot_be_compared_without_a_key(
    fanout: Fanout,
) -> None:
    fanout.create(KEYLESS, fill=TEN)
    fanout.succeed(loading=APPEND)
    fanout.do("eu", "DROP TABLE t", KEYLESS, "INSERT INTO t VALUES (1, 'first')")
    assert "--full" in fanout.fail(loading=APPEND)
    assert ids(fanout) == [1]
    fanout.succeed(loading=APPEND, is_full=True)
    fanout.assert_equal()


@INCREMENTAL
def test_a_full_run_loads_every_row_anew(fanout: Fanout, way: Loading) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("eu", "UPDATE t SET note = 'by hand' WHERE id = 5", "DELETE FROM t WHERE id = 6")
    fanout.do("eu", "INSERT INTO t VALUES (99, 'stray')")
    assert fanout.succeed(loading=way)[0].counts.rows == 0  # what was there is not looked at
    assert fanout.succeed(loading=way, is_full=True)[0].counts.rows == 10
    fanout.assert_equal()
    fanout.do("source", "INSERT INTO t VALUES (11, 'new')")
    assert fanout.succeed(loading=way)[0].counts.rows == 1
    fanout.assert_equal()


@INCREMENTAL
def test_a_column_that_was_dropped_and_added_again_takes_a_full_run(
    fanout: Fanout, way: Loading
) -> None:
    fanout.create(KEYED, fill=TEN)
    fanout.succeed(loading=way)
    fanout.do("source", "ALTER TABLE t DROP COLUMN note, ADD COLUMN note text DEFAULT 'new'")
    assert "--full" in fanout.fail(loading=way)
    assert fanout.run(loading=way, is_full=True).verdict.value == "succeeded"
    fanout.assert_equal()
