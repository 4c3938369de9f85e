"""Which of the transfers that are due begin now: pure.

Who has waited longest comes first. A server without a free connection keeps back only those that
need it: others overtake, unless they would take what it has left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Connections = Mapping[str, int]
"""How many connections, by the name of a server."""

AT_SOURCE, AT_DESTINATION = 2, 1
"""Connections that a run holds: one keeps the snapshot and one reads it; one writes."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A transfer that is due: ``since`` when (ticks), and what its run would take."""

    transfer: str
    since: float
    needs: Connections


@dataclass(frozen=True, slots=True)
class Choice:
    """Who begins, in this order, and for everybody else what he waits for."""

    starting: tuple[str, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)


def needs(source: str, destinations: Iterable[str]) -> Connections:
    """Return what a run from `source` to `destinations` takes."""
    return Counter({source: AT_SOURCE}) + Counter(dict.fromkeys(destinations, AT_DESTINATION))


def choose(
    waiting: Iterable[Waiting],
    running: Iterable[Connections],
    *,
    workers: int,
    limits: Connections,
) -> Choice:
    """Choose who begins beside those that are `running`.

    `workers`: how many runs there may be; `limits`: the connections that a server lends, where it
    does not lend any number.
    """
    held: Counter[str] = Counter()
    number = 0
    for each in running:
        held.update(each)
        number += 1
    starting: list[str] = []
    reasons: dict[str, str] = {}
    for one in sorted(waiting, key=lambda one: (one.since, one.transfer)):
        short = sorted(
            name for name, count in one.needs.items()
            if name in limits and held[name] + count > limits[name]
        )  # fmt: skip
        if number >= workers:
            reasons[one.transfer] = f"all workers ({workers}) are busy"
        elif short:
            lent = f"{limits[short[0]]} connections"
            reasons[one.transfer] = f"server {short[0]} lends no more than {lent}"
            # What is left there is kept for it: who came later must not overtake it for ever.
            held.update({name: limits[name] - held[name] for name in short})
        else:
            starting.append(one.transfer)
            held.update(one.needs)
            number += 1
    return Choice(tuple(starting), reasons)
