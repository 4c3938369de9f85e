"""The choice among waiting transfers, within the limits of workers and connections: pure.

The longest wait comes first. A server at its limit delays only its own transfers; others overtake
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Connections = Mapping[str, int]  # numbers of connections, by server

AT_SOURCE, AT_DESTINATION = 2, 1
"""Connections of a run: one holds the snapshot and one reads under it; one writes."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A transfer due ``since`` (ticks), and the connections for its run."""

    transfer: str
    since: float
    needs: Connections


@dataclass(frozen=True, slots=True)
class Choice:
    """Transfers to start, in order; for the others, the reason to wait."""

    starting: tuple[str, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)


def needs(source: str, destinations: Iterable[str]) -> Connections:
    """Return the connections of a run from `source` to `destinations`."""
    return Counter({source: AT_SOURCE}) + Counter(dict.fromkeys(destinations, AT_DESTINATION))


def choose(
    waiting: Iterable[Waiting],
    running: Iterable[Connections],
    *,
    workers: int,
    limits: Connections,
) -> Choice:
    """Choose transfers to start beside the `running` ones.

    `workers` limits the number of runs; a server missing from `limits` has no limit.
    """
    held: Counter[str] = Counter()
    number = 0
    for connections in running:
        held.update(connections)
        number += 1
    starting: list[str] = []
    reasons: dict[str, str] = {}
    for each in sorted(waiting, key=lambda each: (each.since, each.transfer)):
        short = sorted(
            name for name, count in each.needs.items()
            if name in limits and held[name] + count > limits[name]
        )  # fmt: skip
        if number >= workers:
            reasons[each.transfer] = f"all workers ({workers}) are busy"
        elif short:
            limit = f"max_connections = {limits[short[0]]}"
            reasons[each.transfer] = f"server {short[0]} has too few free connections ({limit})"
            # Its last connections are reserved: later transfers must not overtake for ever.
            # Decision: A waiting transfer keeps its place
            held.update({name: limits[name] - held[name] for name in short})
        else:
            starting.append(each.transfer)
            held.update(each.needs)
            number += 1
    return Choice(tuple(starting), reasons)
