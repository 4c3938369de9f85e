"""The daemon killed at random moments, while its clusters run and its sources change.

Equality is computed by the servers. It is killed a quarter as often as ``COPYD_TEST_KILLS`` says.
"""

from __future__ import annotations

import random
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from copyd.cluster import ClusterError
from tests.support.chaos import KILLS, SEED
from tests.support.fleet import OWN, Fleet, open_fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.cluster import Installation

KILLS_HERE = max(3, KILLS // 4)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 20 * KILLS_HERE)]


@pytest.fixture
def fleet(installation: Installation) -> Iterator[Fleet]:
    print(f"COPYD_TEST_SEED={SEED}")
    with open_fleet(installation, transfers=20, every="2s") as made:
        yield made


def write(fleet: Fleet, chance: random.Random) -> None:
    """Write to every source; a managed cluster may be down just then."""
    for way in fleet.ways:
        with suppress(psycopg.Error, ClusterError):
            fleet.write(way, chance.randint(1, 50))


def test_a_daemon_that_is_killed_at_any_moment_loses_nothing_and_leaves_nothing(
    fleet: Fleet,
) -> None:
    daemon, chance = fleet.daemon, random.Random(SEED)
    daemon.start()
    for name in OWN:
        daemon.await_event("cluster.up", cluster=name)
    fleet.furnish()
    for _ in range(KILLS_HERE):
        write(fleet, chance)
        assert daemon.process is not None
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(chance.uniform(0.0, 2.5))
        assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
        daemon.launch()
    daemon.await_event("daemon.ready")
    fleet.await_fresh()
    fleet.assert_equal()
    assert all(fleet.cluster(name).running() for name in OWN)
    assert daemon.end() == 0
    assert [fleet.cluster(name).running() for name in OWN] == [False, False], "a server was left"
    assert not daemon.socket.exists()
