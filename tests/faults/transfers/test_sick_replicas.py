"""One sick replica never hurts another: all of them at once, beside a healthy one.

No time is asserted more sharply than by several seconds.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from copyd.cluster.poll import wait_for
from tests.support.chaos import IS_LONG
from tests.support.network_faults import Drip, black_hole, silent_listener
from tests.support.once_command import Once
from tests.support.sql import ask, content, execute
from tests.support.standby import crash, start_again
from tests.support.wiretap import Blow, Plan, Wiretap
from tests.support.writers import TABLES, fill_books

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.faults.transfers.conftest import Rig

ROWS = 60_000
PREPARE_TIMEOUT, MAX_WAIT, MARGIN = 1.0, 2.0, 5.0
DEADLINE = 40.0
TRANSFER: dict[str, object] = {
    "source": "shop",
    "tables": [*TABLES],
    "mode": "append",
    "key": ["id"],
    "deadline": "30s",
    "prepare_timeout": f"{PREPARE_TIMEOUT:g}s",
    "stall_timeout": "1s",
    "max_wait": f"{MAX_WAIT:g}s",
    "reintroduce": {"attempts": 3, "backoff": "500ms", "max_backoff": "1s"},
}
STALL = Plan("to_server", "before", Blow.HOLD, skip=50, is_lasting=True)
"""Nothing passes after fifty rows, whoever connects."""

COPYING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'COPY%FROM STDIN%' AND state = 'active'
"""


class Ward:
    """A source, a healthy destination, and sick ones."""

    def __init__(self, rig: Rig, stack: ExitStack, hole: AbstractContextManager[int]) -> None:
        self.mortal = rig.mortal
        self.source = rig.source_server.conninfo(rig.books(rig.source_server))
        execute(self.source, *fill_books(ROWS))
        calm = rig.calm_server
        homes = {"healthy": calm, "alone": calm, "dripping": calm, "stalled": calm}
        names = {name: rig.books(home) for name, home in homes.items()}
        names["killed"] = rig.books(rig.mortal)
        self.ends = {name: calm.conninfo(names[name]) for name in homes}
        self.ends["killed"] = rig.mortal.conninfo(names["killed"])
        self.tap = stack.enter_context(Wiretap(calm.port))
        drip = stack.enter_context(Drip(calm.port, bytes_a_second=10_000))
        hole_port = stack.enter_context(hole)
        servers = {
            **self.ends,
            "shop": self.source,
            "stalled": rig.plain(calm, names["stalled"], self.tap.port),
            "dripping": rig.plain(calm, names["dripping"], drip.port),
            "lost": rig.plain(calm, "nowhere", hole_port),
        }
        self.once = Once(rig.folder, servers, dict(TRANSFER))

    def start(self, *destinations: str) -> subprocess.Popen[str]:
        self.once.transfer["destinations"] = [*destinations]
        return self.once.start()

    def seconds_until_full(self, name: str, started: subprocess.Popen[str]) -> float:
        """How long after the start of the program a destination shows rows."""
        query = "SELECT count(*) FROM (SELECT 1 FROM credits LIMIT 1) x"
        assert wait_for(
            lambda: ask(self.ends[name], query) == [(1,)] or started.poll() not in (None, 0),
            timeout=DEADLINE,
        ), f"{name} got nothing"
        return time.monotonic() - self.once.began[started.pid]


HOLES: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "full queue": black_hole,
    "silence": silent_listener,
}


@pytest.mark.parametrize("hole", HOLES if IS_LONG else ["full queue"])
def test_a_healthy_replica_is_hardly_held_back_by_four_sick_ones(rig: Rig, hole: str) -> None:
    with ExitStack() as stack:
        check_a_sick_ward(Ward(rig, stack, HOLES[hole]()))


def check_a_sick_ward(ward: Ward) -> None:
    started = ward.start("alone")
    alone = ward.seconds_until_full("alone", started)
    assert ward.once.finish(started).code == 0
    expected = content(ward.source, TABLES)
    ward.tap.arm(STALL)

    started = ward.start("stalled", "dripping", "lost", "killed", "healthy")
    assert wait_for(lambda: ask(ward.ends["killed"], COPYING) != [(0,)], timeout=DEADLINE)
    crash(ward.mortal)
    add_late_rows(ward)
    start_again(ward.mortal)
    together = ward.seconds_until_full("healthy", started)
    ended = ward.once.finish(started)

    assert together - alone < PREPARE_TIMEOUT + MAX_WAIT + MARGIN
    verdicts = {name: said.verdict for name, said in ended.destinations.items()}
    assert ended.code == 3, ended.said
    assert {name for name, verdict in verdicts.items() if verdict == "succeeded"} == {
        "healthy",
        "killed",
    }, ended.said
    assert content(ward.ends["healthy"], TABLES) == expected
    assert content(ward.ends["killed"], TABLES) == expected, "not the snapshot of this run"
    assert ended.destinations["killed"].passes > 1
    for name in ("stalled", "dripping"):
        assert ask(ward.ends[name], "SELECT count(*) FROM debits") == [(0,)]


def add_late_rows(ward: Ward) -> None:
    """Rows that the snapshot of a run that copies already cannot hold."""
    for name in TABLES:
        execute(ward.source, f"INSERT INTO {name} VALUES (1, 1, 1, 'late', now())")


def test_replicas_that_were_sick_catch_up_at_the_next_run(rig: Rig) -> None:
    with ExitStack() as stack:
        ward = Ward(rig, stack, silent_listener())
        ward.once.transfer["reintroduce"] = {"attempts": 1, "backoff": "100ms"}
        ward.tap.arm(STALL)
        ended = ward.once.finish(ward.start("stalled", "lost", "healthy"))
        verdicts = {name: said.verdict for name, said in ended.destinations.items()}
        assert verdicts == {"stalled": "failed", "lost": "failed", "healthy": "succeeded"}
        ward.tap.release()
        ward.tap.arm()
        ended = ward.once.finish(ward.start("stalled", "healthy"))
        assert ended.code == 0, ended.said
        expected = content(ward.source, TABLES)
        assert content(ward.ends["stalled"], TABLES) == expected
        assert content(ward.ends["healthy"], TABLES) == expected
