"""Runs of ``copyd once`` that are killed, and whose servers and connections are struck, at random.

The last run is left alone; whatever came before, it must make every destination equal.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.once_command import Ended, Once, kill
from tests.support.sql import ask, content, end_backends, execute
from tests.support.standby import crash, start_again
from tests.support.wiretap import PLACES, Blow, Plan, Wiretap
from tests.support.writers import IMBALANCES, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.servers import Server
    from tests.support.wiretap import Step

KILLS = int(os.environ.get("COPYD_TEST_KILLS", "33"))
"""How many kills there are in all the tests of the folder together; 200 is the long form."""

CASES = 11
IS_LONG = KILLS >= 200
SEED = os.environ.get("COPYD_TEST_SEED") or f"{random.SystemRandom().getrandbits(32):08x}"
"""Printed by a test that fails; the same seed takes the same decisions."""

KILLS_A_CASE = max(1, KILLS // CASES)

QUICK: dict[str, object] = {
    "deadline": "20s",
    "prepare_timeout": "5s",
    "stall_timeout": "3s",
    "max_wait": "5s",
    "lock_timeout": "1s",
    "reintroduce": {"attempts": 5, "backoff": "100ms", "max_backoff": "1s"},
    "every": "1h",
}
"""A transfer that neither waits long nor gives up at once."""


@dataclass
class Chaos:
    """One transfer under fire.

    ``ends`` are the destinations by name, as the tests reach them; the one named ``tapped`` is
    reached by the program through ``tap``, the one named ``mortal`` lives on ``mortal``. ``source``
    is where the writers write; the program may read elsewhere.
    """

    once: Once
    source: str
    ends: dict[str, str]
    tap: Wiretap
    mortal: Server
    case: str
    counts: Counter[str] = field(default_factory=Counter)
    typical: float = 1.5
    steps: Sequence[Step] = ()

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{SEED} {self.case}")
        print(f"COPYD_TEST_SEED={SEED} ({self.case})")

    def rage(self, kills: int, *, between: Callable[[int], None] | None = None) -> None:
        """Start the program again and again until it was killed so many times.

        After each kill every destination must show one snapshot; ``between`` is called with the
        number of the kill.
        """
        for number in range(kills):
            while not self._is_killed():
                self.counts["runs that ended by themselves"] += 1
                self.assert_balanced()
            self.counts["kills"] += 1
            self.assert_balanced()
            if between is not None:
                between(number)

    def settle(self, *more: str) -> Ended:
        """Do the last run: it must succeed everywhere, and so must another that has nothing to do."""
        self.tap.arm()
        ended = self.once.run(*more)
        print(f"{self.case}: {dict(self.counts)}")
        assert ended.code == 0, ended.said
        self.assert_equal()
        again = self.once.run()
        assert again.code == 0, again.said
        self.assert_equal()
        return ended

    def rehearse(self) -> Ended:
        """Run undisturbed, to know how long that takes and which messages there are."""
        self.tap.arm()
        ended = self.once.run()
        if ended.is_clean:
            self.typical = ended.seconds
            self.steps = self.tap.steps
        return ended

    def assert_equal(self) -> None:
        expected = content(self.source, TABLES)
        for name, conninfo in self.ends.items():
            assert content(conninfo, TABLES) == expected, f"{name} differs; {dict(self.counts)}"

    def assert_balanced(self) -> None:
        """No destination shows a group in part."""
        for name, conninfo in self.ends.items():
            found = ask(conninfo, IMBALANCES)[0][0]
            assert found == 0, f"{name} shows {found} groups in part; {dict(self.counts)}"

    def _is_killed(self) -> bool:
        """Do one run, harmed or not; returns whether it was alive when it was killed."""
        strike = self.chance.choice([
            self._kill_at_a_moment, self._kill_at_a_moment,
            self._kill_at_a_message, self._kill_at_a_message,
            self._harm_and_kill, self._harm_and_let_be,
        ])  # fmt: skip
        self.tap.arm()
        return strike()

    def _kill_at_a_moment(self) -> bool:
        return self._killed_after(self.once.start(), self.chance.uniform(0.0, self.typical))

    def _kill_at_a_message(self) -> bool:
        """Kill it while a message is on the way, which then arrives, or does not."""
        plan = self._somewhere(Blow.HOLD)
        self.tap.arm(plan)
        started = self.once.start()
        if not self.tap.wait_until_struck(started):
            self._ended(started)
            return False
        kill(started)
        self.counts[f"killed {plan.place} a message"] += 1
        if self.chance.random() < 0.5:
            self.tap.release()
        else:
            self.tap.cut()
        return True

    def _harm_and_kill(self) -> bool:
        return self._killed_after(self._harmed(), self.chance.uniform(0.0, self.typical / 2))

    def _harm_and_let_be(self) -> bool:
        self._ended(self._harmed())
        return False

    def _harmed(self) -> subprocess.Popen[str]:
        """Start a run and hurt one of its servers or connections at a random moment."""
        harm = self.chance.choice([self._end_backends, self._crash, self._cut])
        if harm == self._cut:
            self.tap.arm(self._somewhere(self.chance.choice([Blow.CUT, Blow.RESET])))
        started = self.once.start()
        try:
            started.wait(self.chance.uniform(0.2, self.typical))
        except subprocess.TimeoutExpired:
            harm()
        return started

    def _end_backends(self) -> None:
        """At one destination, or at the source."""
        places = [*self.ends, "source"]
        place = self.chance.choice(places)
        conninfo = self.ends.get(place) or self.once.servers["shop"]
        self.counts["backends ended"] += end_backends(conninfo)

    def _crash(self) -> None:
        crash(self.mortal)
        start_again(self.mortal)
        self.counts["servers killed"] += 1

    def _cut(self) -> None:
        """The wiretap does it by itself."""
        self.counts["connections cut"] += 1

    def _killed_after(self, started: subprocess.Popen[str], seconds: float) -> bool:
        try:
            started.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(started)
            self.counts["killed at a moment"] += 1
            return True
        self._ended(started)
        return False

    def _ended(self, started: subprocess.Popen[str]) -> None:
        self.counts[f"exit code {self.once.finish(started).code}"] += 1

    def _somewhere(self, blow: Blow) -> Plan:
        """A message of the last clean run; where there was none, any early one."""
        place = self.chance.choice(PLACES)
        if not self.steps:
            number = self.chance.randrange(30)
            return Plan("to_server", place, blow, connection=0, number=number)
        step = self.chance.choice(self.steps)
        skip = self.chance.randrange(step.count)
        return Plan(step.way, place, blow, step.connection, step.number, skip=skip)


def alter_books(conninfo: str, amount: str) -> None:
    """Rewrite both tables, waiting as long as it takes for those who read and write them."""
    for name in TABLES:
        execute(conninfo, f"ALTER TABLE {name} ALTER COLUMN amount TYPE {amount}")
