from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.catalog.keys import ForeignKey
from copyd.catalog.order import Order, load_order
from copyd.errors import CopydError


def key(child: int, parent: int, action: str = "a", *, is_deferrable: bool = False) -> ForeignKey:
    return ForeignKey(child, parent, action, is_deferrable, f"fk{child}{parent}", f"s.t{child}")


pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)
orders = st.permutations(range(10))


@given(pairs, orders, orders)
def test_parents_come_first_in_every_graph_without_circles(
    edges: list[tuple[int, int]], ranks: list[int], tables: list[int]
) -> None:
    downwards = [sorted(edge, key=ranks.index, reverse=True) for edge in edges]
    keys = [key(child, parent) for child, parent in downwards]
    order = load_order(tables, keys)
    assert sorted(order.order) == sorted(tables)
    assert order.circles == ()
    for each in keys:
        if each.referencing != each.referenced:
            assert order.order.index(each.referenced) < order.order.index(each.referencing)


@given(pairs, orders)
def test_deferrable_circles_are_reported_and_all_else_is_in_order(
    edges: list[tuple[int, int]], tables: list[int]
) -> None:
    keys = [key(*edge, is_deferrable=True) for edge in edges]
    order = load_order(tables, keys)
    assert sorted(order.order) == sorted(tables)
    circle_of = {table: circle for circle in order.circles for table in circle}
    for child, parent in edges:
        if child != parent and parent not in circle_of.get(child, ()):
            assert order.order.index(parent) < order.order.index(child)


@given(pairs, orders)
def test_an_order_is_refused_only_where_there_is_none(
    edges: list[tuple[int, int]], tables: list[int]
) -> None:
    keys = [key(*edge) for edge in edges]
    try:
        order = load_order(tables, keys)
    except CopydError:
        assert load_order(tables, keys, triggers_are_skipped=True).circles != ()
    else:
        assert order.circles == ()


def test_tables_without_references_keep_their_order() -> None:
    assert load_order([3, 1, 2], []) == Order((3, 1, 2))


def test_only_what_must_moves() -> None:
    assert load_order([1, 2, 3, 4], [key(2, 4)]).order == (1, 3, 4, 2)


def test_references_to_itself_and_to_other_tables_count_for_nothing() -> None:
    assert load_order([1, 2], [key(1, 1), key(1, 7), key(7, 1)]) == Order((1, 2))


def test_a_circle_that_cannot_be_deferred_is_refused_by_name() -> None:
    keys = [key(1, 2), key(2, 1), key(3, 1)]
    with pytest.raises(CopydError) as caught:
        load_order([1, 2, 3], keys)
    assert str(caught.value).startswith("tables s.t1, s.t2 reference one another in a circle")
    assert "fk12 of s.t1, fk21 of s.t2" in str(caught.value)
    assert "t3" not in str(caught.value)
    assert load_order([1, 2, 3], keys, triggers_are_skipped=True).circles == ((1, 2),)


def test_one_deferrable_key_opens_a_circle() -> None:
    keys = [key(1, 2), key(2, 1, is_deferrable=True)]
    assert load_order([1, 2], keys) == Order((2, 1), ((1, 2),))


def test_on_delete_restrict_is_never_deferred() -> None:
    keys = [key(1, 2), key(2, 1, "r", is_deferrable=True)]
    with pytest.raises(CopydError, match="without ON DELETE RESTRICT"):
        load_order([1, 2], keys)


def test_two_circles_are_told_apart() -> None:
    keys = [key(a, b, is_deferrable=True) for a, b in [(1, 2), (2, 1), (3, 4), (4, 3), (2, 3)]]
    assert load_order([1, 2, 3, 4], keys).circles == ((1, 2), (3, 4))


def test_long_chains_are_no_problem() -> None:
    tables = range(1_000)
    keys = [key(child, child + 1) for child in tables[:-1]]
    assert load_order(tables, keys).order == tuple(reversed(tables))
