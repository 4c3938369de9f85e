"""Partitioned tables, children, staging tables, and the locks on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.errors import LockNotAvailable

from copyd.loading import strategies
from copyd.loading.strategies import Applied
from tests.support.loaded_tables import result_of

if TYPE_CHECKING:
    from tests.support.loaded_tables import LoadedTables
    from tests.support.servers import Server

PARTITIONED = """
CREATE TABLE there (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE there_eu PARTITION OF there FOR VALUES IN ('eu');
CREATE TABLE there_us PARTITION OF there FOR VALUES IN ('us') PARTITION BY RANGE (id);
CREATE TABLE there_us_low PARTITION OF there_us FOR VALUES FROM (0) TO (10);
CREATE TABLE there_us_rest PARTITION OF there_us DEFAULT;
CREATE TABLE here (id int, region text, v text, PRIMARY KEY (id, region));
INSERT INTO there VALUES (1, 'eu', 'x'), (1, 'us', 'b'), (2, 'us', 'gone');
INSERT INTO here VALUES (1, 'eu', 'a'), (1, 'us', 'b'), (50, 'us', 'c');
"""


def test_partitioned_tables_are_merged_through_their_root(tables: LoadedTables) -> None:
    tables.make(PARTITIONED)
    target = tables.target()
    assert tables.merge_all(target) == (Applied(1, 1), 1)
    assert tables.rows("there", only="") == tables.rows("here")
    assert tables.rows("there_us_rest") == ["(50,us,c)"]
    tables.make("DELETE FROM there WHERE id = 50")
    assert tables.append(target) == Applied(1, 0)
    assert result_of(tables.here, strategies.count(target)) == 3
    tables.here.rollback()
    tables.begin()
    tables.here.execute(strategies.lock([target]))
    assert tables.here.execute(strategies.delete(target)).rowcount == 3
    tables.feed(strategies.copy_rows(target, format="text"), "SELECT * FROM here")
    tables.here.commit()
    assert tables.rows("there_us_rest") == ["(50,us,c)"]


INHERITED = """
CREATE TABLE there (id int PRIMARY KEY, v text);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (there);
CREATE TABLE here (id int PRIMARY KEY, v text);
INSERT INTO there VALUES (1, 'x'), (2, 'gone');
INSERT INTO child VALUES (1, 'child'), (3, 'child');
INSERT INTO here VALUES (1, 'a'), (3, 'c');
"""


def test_children_of_a_table_are_other_tables(tables: LoadedTables) -> None:
    tables.make(INHERITED)
    target = tables.target()
    assert tables.append(target) == Applied(1, 0)
    assert tables.merge_all(target) == (Applied(0, 1), 1)
    assert tables.rows("there") == tables.rows("here")
    assert result_of(tables.here, strategies.count(target)) == 2
    tables.here.rollback()
    tables.begin()
    assert tables.here.execute(strategies.delete(target)).rowcount == 2
    tables.here.rollback()
    tables.here.execute(strategies.truncate([target]))
    tables.here.commit()
    assert tables.rows("there") == []
    assert tables.rows("child") == ["(1,child)", "(3,child)"]


def test_parents_and_children_are_truncated_in_one_statement(tables: LoadedTables) -> None:
    tables.make(INHERITED)
    tables.make(
        "CREATE TABLE lines (id int PRIMARY KEY, there int REFERENCES there);"
        "INSERT INTO lines VALUES (1, 1)"
    )
    targets = [tables.target(name, n) for n, name in enumerate(["there", "child", "lines"])]
    tables.begin()
    with pytest.raises(psycopg.errors.FeatureNotSupported), tables.here.transaction():
        tables.here.execute(
            strategies.truncate(targets[:2])
        )  # what references it is not cascaded to
    tables.here.rollback()
    tables.begin()
    tables.here.execute(strategies.truncate(targets))
    copy = strategies.copy_rows(targets[0], format="text", freeze=True)
    tables.feed(copy, "SELECT * FROM here")
    tables.here.commit()
    assert tables.rows("there") == tables.rows("here")
    assert tables.rows("child") == tables.rows("lines") == []


def test_while_rows_are_deleted_readers_go_on_and_writers_wait(
    tables: LoadedTables, server: Server
) -> None:
    tables.make(PARTITIONED + "CREATE TABLE more (id int PRIMARY KEY); INSERT INTO more VALUES (1)")
    targets = [tables.target(), tables.target("more", 1)]
    tables.begin()
    tables.here.execute(strategies.lock(targets))
    for target in targets:
        tables.here.execute(strategies.delete(target))
    with server.connect(tables.admin.info.dbname) as other:
        other.execute("SET lock_timeout = '100ms'")
        assert other.execute("SELECT count(*) FROM there").fetchone() == (3,)
        assert other.execute("SELECT count(*) FROM more").fetchone() == (1,)
        for write in (
            "DELETE FROM more",
            "INSERT INTO there VALUES (7, 'eu', '')",
            "INSERT INTO there_us_low VALUES (7, 'us', '')",
        ):
            with pytest.raises(LockNotAvailable):
                other.execute(write)


def test_staging_tables_are_gone_after_commit(tables: LoadedTables) -> None:
    tables.make("CREATE TABLE here (id int PRIMARY KEY); CREATE TABLE there (id int PRIMARY KEY)")
    left = "SELECT relname FROM pg_class WHERE relname LIKE 'copyd%' ORDER BY 1"
    tables.stage(tables.target(), keys=True)
    held = [row[0] for row in tables.here.execute(left)]
    assert held == ["copyd_keys_0", "copyd_rows_0"]
    tables.here.commit()
    assert tables.here.execute(left).fetchall() == []
    tables.here.rollback()
    tables.merge_all(tables.target())  # on the same connection, under the same name
