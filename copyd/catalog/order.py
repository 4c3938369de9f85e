"""The order in which tables are loaded so that foreign keys hold; pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from copyd.catalog.keys import ForeignKey


@dataclass(frozen=True, slots=True)
class Order:
    """Tables, each after the tables it references.

    ``circles``: groups of tables with circular references; their constraints must be deferred.
    """

    order: tuple[int, ...]
    circles: tuple[tuple[int, ...], ...] = ()


def load_order(
    tables: Sequence[int], keys: Iterable[ForeignKey], *, triggers_are_skipped: bool = False
) -> Order:
    """Sort `tables` so that `keys` hold, keeping the given order as far as possible.

    Tables are emptied in the opposite order. References to other tables, and from a table to
    itself, do not matter.

    Raises CopydError if foreign keys form a circle and cannot be deferred, unless triggers, which
    check them, are skipped.
    """
    inside = [
        key
        for key in keys
        if key.referencing != key.referenced and {key.referencing, key.referenced} <= {*tables}
    ]
    circles = _circles(tables, inside)
    circle_of = {table: circle for circle in circles for table in circle}
    binding = [
        key for key in inside
        if key.referenced not in circle_of.get(key.referencing, ())
        or not (_waits(key) or triggers_are_skipped)
    ]  # fmt: skip
    order = _sorted(tables, binding)
    if len(order) < len(tables):
        stuck = [key for key in binding if not {key.referencing, key.referenced} & {*order}]
        raise _refused(_circles(tables, stuck)[0], stuck)
    return Order(order, circles)


def _waits(key: ForeignKey) -> bool:
    return key.is_deferrable and key.action != "r"  # ON DELETE RESTRICT never waits


def _circles(tables: Sequence[int], keys: Iterable[ForeignKey]) -> tuple[tuple[int, ...], ...]:
    parents = _parents(keys)
    above = {table: _reached(table, parents) for table in tables}
    groups = {
        tuple(other for other in tables if other in above[table] and table in above[other])
        for table in tables
    }
    return tuple(sorted(filter(None, groups), key=lambda group: tables.index(group[0])))


def _reached(table: int, parents: Mapping[int, Collection[int]]) -> set[int]:
    reached: set[int] = set()
    waiting = [table]
    while waiting:
        new = set(parents.get(waiting.pop(), ())) - reached
        reached |= new
        waiting += new
    return reached


def _parents(keys: Iterable[ForeignKey]) -> Mapping[int, Collection[int]]:
    parents = defaultdict(set)
    for key in keys:
        parents[key.referencing].add(key.referenced)
    return parents


def _sorted(tables: Sequence[int], keys: Sequence[ForeignKey]) -> tuple[int, ...]:
    rank = {table: position for position, table in enumerate(tables)}
    parents = _parents(keys)
    sorter = TopologicalSorter({table: parents.get(table, ()) for table in tables})
    with suppress(CycleError):  # the sorter still yields the tables outside circles
        sorter.prepare()
    ready: list[int] = []
    order = []
    while sorter.is_active():
        for table in sorter.get_ready():
            heapq.heappush(ready, rank[table])
        order.append(tables[heapq.heappop(ready)])
        sorter.done(order[-1])
    return tuple(order)


def _refused(circle: Collection[int], keys: Iterable[ForeignKey]) -> CopydError:
    bound = [key for key in keys if {key.referencing, key.referenced} <= {*circle}]
    tables = sorted({key.referencing_table for key in bound})
    names = ", ".join(sorted({f"{key.name} of {key.referencing_table}" for key in bound}))
    return CopydError(
        f"tables {', '.join(tables)} reference one another in a circle of foreign keys that "
        f"cannot be deferred ({names}): make one DEFERRABLE, without ON DELETE RESTRICT, or use "
        'triggers = "skip"'
    )
