"""A connection of a run lost at every message: what the report says of it is true.

The short form takes a few messages by chance, the long form (``COPYD_TEST_KILLS=200``) all.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.support.chaos import IS_LONG, QUICK, SEED
from tests.support.once_command import Ended, Once
from tests.support.sql import content, execute
from tests.support.wiretap import PLACES, Blow, Plan, Step, Wiretap
from tests.support.writers import TABLES, fill_books

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.faults.transfers.conftest import Rig

pytestmark = pytest.mark.slow

BLOWS = (Blow.CUT, Blow.RESET)
A_FEW = 5


class Road:
    """A source and two destinations; what the program says to one of them all is read."""

    def __init__(self, rig: Rig, tapped: str, **transfer: object) -> None:
        self.tapped = tapped
        has_key = "key" in transfer
        homes = {"shop": rig.source_server, "near": rig.calm_server, "far": rig.mortal}
        names = {name: rig.books(home, has_key=has_key) for name, home in homes.items()}
        self.direct = {name: homes[name].conninfo(names[name]) for name in homes}
        self.tap: Wiretap = rig.tap(homes[tapped])
        servers = {
            **self.direct,
            tapped: rig.plain(homes[tapped], names[tapped], self.tap.port),
        }
        options = {"source": "shop", "destinations": ["near", "far"], "tables": [*TABLES]}
        self.once = Once(rig.folder, servers, {**options, **QUICK, **transfer})
        self.added = 0
        execute(self.direct["shop"], *fill_books(300))

    def add_rows(self) -> None:
        """As many each time, so that each run says the same."""
        self.added += 1
        first = self.added * 1000
        for name in TABLES:
            execute(
                self.direct["shop"],
                f"INSERT INTO {name} SELECT i, i, i, 'later', now()"
                f" FROM generate_series({first + 1}, {first + 10}) i",
            )

    def content(self, name: str) -> object:
        return content(self.direct[name], TABLES)

    def steps(self) -> list[Step]:
        """What is said in a clean run that has ten rows to copy."""
        assert self.once.run().code == 0
        self.add_rows()
        self.tap.arm()
        ended = self.once.run()
        assert ended.code == 0, ended.said
        return self.tap.steps

    def run_with(self, plan: Plan) -> Ended:
        self.add_rows()
        before = {name: self.content(name) for name in ("near", "far")}
        self.tap.arm(plan)
        ended = self.once.run()
        for name, said in ended.destinations.items():
            self.assert_true(name, said.verdict, before[name], plan)
        return ended

    def assert_true(self, name: str, verdict: str, before: object, plan: Plan) -> None:
        found, wanted = self.content(name), self.content("shop")
        legal = {"succeeded": [wanted], "failed": [before]}.get(verdict, [before, wanted])
        assert found in legal, f"{name} is said to have {verdict} after {plan}"

    def assert_next_run_is_exact(self) -> None:
        self.tap.arm()
        ended = self.once.run()
        assert ended.code == 0, ended.said
        assert self.content("near") == self.content("far") == self.content("shop")


def plans(steps: Sequence[Step], chance: random.Random) -> Iterator[Plan]:
    """Everywhere, or a few."""
    every = [(step, place) for step in steps for place in PLACES]
    chosen = every if IS_LONG else sorted(chance.sample(every, A_FEW), key=every.index)
    for step, place in chosen:
        skip = chance.randrange(step.count)
        yield Plan(step.way, place, chance.choice(BLOWS), step.connection, step.number, skip=skip)


@pytest.mark.timeout(3600 if IS_LONG else 120)
@pytest.mark.parametrize(
    "transfer",
    [
        {"mode": "append"},
        {"mode": "merge", "key": ["id"], "delete_missing": True},
        {"mode": "replace"},
    ],
    ids=["append", "merge", "replace"],
)
def test_a_destination_lost_at_any_message_never_hurts_the_other(
    rig: Rig, transfer: dict[str, object]
) -> None:
    road = Road(rig, "far", **transfer)
    chance = random.Random(f"{SEED} {transfer['mode']}")
    print(f"COPYD_TEST_SEED={SEED}")
    for plan in plans(road.steps(), chance):
        ended = road.run_with(plan)
        assert ended.destinations["near"].verdict == "succeeded", ended.said
    road.assert_next_run_is_exact()


@pytest.mark.timeout(3600 if IS_LONG else 120)
@pytest.mark.parametrize("mode", ["append", "replace"])
def test_a_source_lost_at_any_message_leaves_what_the_report_says(rig: Rig, mode: str) -> None:
    road = Road(rig, "shop", mode=mode)
    chance = random.Random(f"{SEED} source {mode}")
    print(f"COPYD_TEST_SEED={SEED}")
    for plan in plans(road.steps(), chance):
        road.run_with(plan)
    road.assert_next_run_is_exact()
