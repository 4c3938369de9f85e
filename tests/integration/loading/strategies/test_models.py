"""Any rows end as a model says, and those that a bound left out are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from copyd.loading import strategies
from copyd.loading.strategies import Applied
from tests.support.loaded_tables import result_of

if TYPE_CHECKING:
    from tests.support.loaded_tables import LoadedTables


def test_rows_that_a_bound_left_out_are_counted(tables: LoadedTables) -> None:
    columns = "(id int PRIMARY KEY, at timestamptz, v text)"
    tables.make(
        f"CREATE TABLE here {columns}; CREATE TABLE there {columns};"
        "INSERT INTO here VALUES (1, '2024-01-01', 'same'), (2, '2024-01-01', 'changed'),"
        " (3, '2024-01-01', 'absent'), (4, NULL, 'absent'), (5, '2024-06-01', 'absent'),"
        " (6, '2024-03-01', 'changed'), (7, NULL, 'same');"
        "INSERT INTO there VALUES (1, '2024-01-01', 'same'), (2, '2024-01-01', ''),"
        " (6, '2023-01-01', ''), (7, NULL, 'same'), (8, '2020-01-01', 'only there')"
    )
    target = tables.target()
    tables.stage(target)
    assert result_of(tables.here, strategies.missed(target, "at"), bound="2024-03-01") == 3
    assert result_of(tables.here, strategies.missed(target, "at"), bound="2024-03-01 00:00:01") == 4
    assert result_of(tables.here, strategies.missed(target, "at"), bound=None) == 1
    assert result_of(tables.here, strategies.missed(target, "id"), bound=3) == 1


Rows = dict[tuple[int, str], tuple[str, ...]]
KEY = st.tuples(st.integers(0, 3), st.sampled_from(["", "a", "A"]))
VALUE = st.sampled_from(["1.0", "1.00", "NaN", ""])
ROWS = st.dictionaries(KEY, st.tuples(VALUE, st.sampled_from(["", "x", "y"])), max_size=8)


@pytest.fixture
def bare(tables: LoadedTables) -> LoadedTables:
    for table in ("here", "there"):
        tables.make(
            f"CREATE TABLE {table} (a int, b text, v numeric, w text NOT NULL, PRIMARY KEY (b, a))"
        )
    return tables


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(here=ROWS, there=ROWS, how=st.sampled_from(["append", "merge", "merge all"]))
def test_any_rows_end_as_the_model_says(
    bare: LoadedTables, here: Rows, there: Rows, how: str
) -> None:
    bare.make("TRUNCATE here, there")
    for table, rows in (("here", here), ("there", there)):
        for key, values in rows.items():
            bare.admin.execute(
                sql.SQL("INSERT INTO {} VALUES (%s, %s, NULLIF(%s, '')::numeric, %s)").format(
                    sql.Identifier(table)
                ),
                [*key, *values],
            )
    inserted = len(here.keys() - there.keys())
    updated = sum(there[key] != here[key] for key in here.keys() & there.keys())
    target = bare.target()
    if how == "append":
        wanted = here | there
        assert bare.append(target) == Applied(inserted, 0)
    elif how == "merge":
        wanted = there | here
        assert bare.merge(target) == Applied(inserted, updated)
    else:
        wanted = here
        removed = len(there.keys() - here.keys())
        assert bare.merge_all(target) == (Applied(inserted, updated), removed)
    found = bare.admin.execute("SELECT a, b, coalesce(v::text, ''), w FROM there").fetchall()
    assert {(a, b): (v, w) for a, b, v, w in found} == wanted


NAMED = st.dictionaries(st.integers(0, 4), st.sampled_from("abcde"), max_size=5).filter(
    lambda rows: len(set(rows.values())) == len(rows)
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(here=NAMED, there=NAMED)
def test_unique_values_move_between_any_rows(
    tables: LoadedTables, here: dict[int, str], there: dict[int, str]
) -> None:
    for table, rows in (("here", here), ("there", there)):
        columns = "(id int PRIMARY KEY, v text UNIQUE)"
        tables.make(f"CREATE TABLE IF NOT EXISTS {table} {columns}; TRUNCATE {table}")
        for key, value in rows.items():
            tables.make(f"INSERT INTO {table} VALUES ({key}, '{value}')")
    applied, removed = tables.merge_all(tables.target())
    assert tables.rows("there") == tables.rows("here")
    assert applied.removed + removed == len(there.keys() - here.keys())
    assert applied.inserted == len(here.keys() - there.keys())
    assert applied.updated == sum(there[key] != here[key] for key in here.keys() & there.keys())
