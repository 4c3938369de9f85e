"""Merges that other constraints than the key could stop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from psycopg.errors import UniqueViolation

from copyd.errors import CopydError
from copyd.loading import strategies
from copyd.loading.strategies import Applied
from tests.support.loaded_tables import result_of

if TYPE_CHECKING:
    from copyd.loading.target import Target
    from tests.support.loaded_tables import LoadedTables


@pytest.fixture
def traded(tables: LoadedTables) -> LoadedTables:
    """Names that are unique, and about to be traded between rows."""
    for table in ("here", "there"):
        tables.make(
            f"CREATE TABLE {table} (id int PRIMARY KEY, name text NOT NULL UNIQUE, boss int,"
            f" seat int4range, EXCLUDE USING gist (seat WITH &&))"
        )
    tables.make("ALTER TABLE there ADD note text DEFAULT 'new'")
    tables.make(
        "INSERT INTO there VALUES (1, 'a', 1, '[1,2)', 'one'), (2, 'b', 1, '[2,3)', 'two'),"
        " (3, 'c', 3, '[3,4)', 'three');"
        "INSERT INTO here SELECT id, name, boss, seat FROM there"
    )
    return tables


def loaded(tables: LoadedTables) -> Target:
    target = tables.target()
    return replace(target, columns=tuple(c for c in target.columns if c.name != "note"))


def same(tables: LoadedTables) -> bool:
    tables.make("CREATE OR REPLACE VIEW loaded AS SELECT id, name, boss, seat FROM there")
    query = "SELECT v::text FROM loaded v ORDER BY id"
    there = [row[0] for row in tables.admin.execute(query.encode())]
    return there == tables.rows("here")


def test_rows_may_trade_a_value_that_is_unique(traded: LoadedTables) -> None:
    traded.make(
        "UPDATE here SET name = 'tmp' WHERE id = 1; UPDATE here SET name = 'a' WHERE id = 2;"
        "UPDATE here SET name = 'b' WHERE id = 1; INSERT INTO here VALUES (4, 'd', 4)"
    )
    assert traded.merge(loaded(traded)) == Applied(1, 2)
    assert same(traded)
    notes = [row[0] for row in traded.admin.execute("SELECT note FROM there ORDER BY id")]
    assert notes == ["one", "two", "three", "new"]


def test_rows_may_trade_what_an_exclusion_constraint_keeps_apart(traded: LoadedTables) -> None:
    traded.make("UPDATE here SET seat = NULL; UPDATE here SET seat = int4range(4 - id, 5 - id)")
    assert traded.merge(loaded(traded)) == Applied(0, 2)
    assert same(traded)


def test_a_new_row_may_take_a_value_that_another_gives_up(traded: LoadedTables) -> None:
    traded.make(
        "UPDATE here SET name = 'z' WHERE id = 1; INSERT INTO here VALUES (0, 'a', 1);"
        # no row is deleted for it: this would be refused
        "CREATE TABLE pets (owner int REFERENCES there ON DELETE CASCADE)"
    )
    assert traded.merge(loaded(traded)) == Applied(1, 1)
    assert same(traded)


def test_a_new_row_may_take_the_value_of_one_that_is_missing(traded: LoadedTables) -> None:
    traded.make("DELETE FROM here WHERE id = 3; INSERT INTO here VALUES (9, 'c', 1, '[3,4)')")
    assert traded.merge_all(loaded(traded)) == (Applied(1, 0, removed=1), 0)
    assert same(traded)
    traded.make("DELETE FROM here WHERE id = 9; INSERT INTO here VALUES (3, 'c', 1)")
    with pytest.raises(UniqueViolation):  # nobody said that what is missing may go
        traded.merge(loaded(traded))


def test_rows_may_trade_values_while_others_reference_them(traded: LoadedTables) -> None:
    traded.make(
        "ALTER TABLE there ADD FOREIGN KEY (boss) REFERENCES there;"
        "CREATE TABLE pets (owner int REFERENCES there); INSERT INTO pets VALUES (1), (2);"
        "UPDATE here SET name = name || '!'; UPDATE here SET name = 'b' WHERE id = 1;"
        "UPDATE here SET name = 'a' WHERE id = 2"
    )
    assert traded.merge(loaded(traded)) == Applied(0, 3)
    assert same(traded)
    assert traded.rows("pets") == ["(1)", "(2)"]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_rows_that_reference_a_traded_one_do_not_vanish(traded: LoadedTables, action: str) -> None:
    traded.make(
        f"CREATE TABLE pets (owner int REFERENCES there ON DELETE {action});"
        "INSERT INTO pets VALUES (1), (2);"
        "UPDATE here SET name = name || '!'; UPDATE here SET name = 'b' WHERE id = 1;"
        "UPDATE here SET name = 'a' WHERE id = 2"
    )
    with pytest.raises(
        CopydError, match=r"^table public\.there: two rows swap a unique value.*public\.pets"
    ):
        traded.merge(loaded(traded))
    traded.here.rollback()
    traded.make("UPDATE here SET name = 'x' || id")  # no trade, no need
    assert traded.merge(loaded(traded)) == Applied(0, 3)
    assert traded.rows("pets") == ["(1)", "(2)"]


def test_a_row_may_come_to_reference_one_that_comes_with_it(tables: LoadedTables) -> None:
    for table in ("here", "there"):
        tables.make(f"CREATE TABLE {table} (id int PRIMARY KEY, boss int REFERENCES {table})")
    tables.make(
        "INSERT INTO there VALUES (1, NULL), (2, 1);"
        "INSERT INTO here VALUES (1, NULL), (9, 1), (2, 9), (8, 9)"
    )
    assert tables.merge_all(tables.target()) == (Applied(2, 1), 0)
    assert tables.rows("there") == tables.rows("here")
    tables.make("UPDATE here SET boss = 8; DELETE FROM here WHERE id = 1")
    assert tables.merge_all(tables.target()) == (Applied(0, 3), 1)
    assert tables.rows("there") == tables.rows("here")


def test_tables_that_reference_one_another_are_merged_parents_first(tables: LoadedTables) -> None:
    for table in ("here", "there"):
        tables.make(
            f"CREATE TABLE {table} (id int PRIMARY KEY);"
            f"CREATE TABLE {table}_child (id int PRIMARY KEY, parent int REFERENCES {table})"
        )
    tables.make(
        "INSERT INTO there VALUES (1), (2); INSERT INTO there_child VALUES (1, 1), (2, 2), (3, 1);"
        "INSERT INTO here VALUES (2), (3); INSERT INTO here_child VALUES (1, 3), (2, 2), (4, 3)"
    )
    parents, children = tables.target(), tables.target("there_child", 1)
    tables.stage(parents, keys=True)
    tables.stage(children, "FROM here_child", keys=True)
    assert strategies.apply(tables.here, strategies.merge(parents, delete_missing=True)) == Applied(
        1, 0
    )
    assert strategies.apply(
        tables.here, strategies.merge(children, delete_missing=True)
    ) == Applied(1, 1)
    assert result_of(tables.here, *strategies.remove_missing(children)) == 1
    assert result_of(tables.here, *strategies.remove_missing(parents)) == 1
    tables.here.commit()
    assert tables.rows("there") == tables.rows("here")
    assert tables.rows("there_child") == tables.rows("here_child")
