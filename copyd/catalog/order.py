"""The order in which tables are loaded, so that foreign keys hold; pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from copyd.catalog.keys import ForeignKey


@dataclass(frozen=True, slots=True)
class Order:
    """The tables, each after those that it references.

    ``circles``: tables that reference one another; their constraints must be deferred.
    """

    order: tuple[int, ...]
    circles: tuple[tuple[int, ...], ...] = ()


def load_order(
    tables: Sequence[int], keys: Iterable[ForeignKey], *, triggers_are_skipped: bool = False
) -> Order:
    """Sort `tables` so that `keys` hold; otherwise they keep the given order.

    Tables are emptied in the opposite order. References from and to other tables, and of a table
    to itself, do not matter.

    Raises CopydError where tables reference one another in a circle of foreign keys that cannot
    be deferred, unless triggers, which check them, are skipped.
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
    """Whether the check of `key` can wait for COMMIT; that of ON DELETE RESTRICT cannot."""
    return key.is_deferrable and key.action != "r"


def _circles(tables: Sequence[int], keys: Iterable[ForeignKey]) -> tuple[tuple[int, ...], ...]:
    """Return the groups of `tables` that reach one another, in the given order."""
    parents = _parents(keys)
    above = {table: _reached(table, parents) for table in tables}
    groups = {
        tuple(other for other in tables if other in above[table] and table in above[other])
        for table in tables
    }
    return tuple(sorted(filter(None, groups), key=lambda group: tables.index(group[0])))


def _reached(table: int, parents: Mapping[int, Collection[int]]) -> set[int]:
    """Return the tables that `table` references, directly or through others."""
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
    """Sort the tables that are in no circle, keeping the given order where possible."""
    rank = {table: position for position, table in enumerate(tables)}
    parents = {table: set(above) for table, above in _parents(keys).items()}
    children = defaultdict(set)
    for key in keys:
        children[key.referenced].add(key.referencing)
    ready = [rank[table] for table in tables if table not in parents]  # a heap, being sorted
    order = []
    while ready:
        table = tables[heapq.heappop(ready)]
        order.append(table)
        for child in children[table]:
            parents[child].discard(table)
            if not parents[child]:
                heapq.heappush(ready, rank[child])
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
