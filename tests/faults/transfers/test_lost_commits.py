"""A COMMIT whose answer is lost: the ledger decides, and it decides right.

Rows are appended without a key, so a wrong decision doubles them or loses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd.cluster.poll import wait_for
from tests.support.chaos import IS_LONG, QUICK
from tests.support.once_command import Once, kill
from tests.support.sql import ask, content, end_backends, execute
from tests.support.wiretap import PLACES, Blow, Plan, Wiretap
from tests.support.writers import TABLES, fill_books

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.faults.transfers.conftest import Rig
    from tests.support.servers import Server
    from tests.support.wiretap import Place, Way

DEADLINE = 20.0

WAITING_COMMITS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event = 'SyncRep'
"""
WAITING_FOR_LOCKS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


WAYS: tuple[Way, ...] = ("to_server", "to_client")
EVERY_LOSS = [
    (way, place, blow) for way in WAYS for place in PLACES for blow in (Blow.CUT, Blow.RESET)
]
LOSSES = EVERY_LOSS if IS_LONG else [loss for i, loss in enumerate(EVERY_LOSS) if i % 4 in (0, 3)]
"""Where a connection is lost, and how; in the short form one way at a place is enough."""


class Street:
    """One source and one destination behind a wiretap, on a server of which no other test knows."""

    def __init__(self, rig: Rig) -> None:
        self.server = rig.mortal
        self.source = rig.source_server.conninfo(rig.books(rig.source_server, has_key=False))
        name = rig.books(rig.mortal, has_key=False)
        self.end = rig.mortal.conninfo(name)
        self.tap: Wiretap = rig.tap(rig.mortal)
        self.once = Once(
            rig.folder,
            {"shop": self.source, "far": rig.plain(rig.mortal, name, self.tap.port)},
            {
                "source": "shop",
                "destinations": ["far"],
                "tables": [*TABLES],
                "mode": "append",
                **QUICK,
            },
        )
        execute(self.source, *fill_books(200))
        first = self.once.run()
        assert first.code == 0, first.said
        self.add_rows("first")

    def add_rows(self, note: str) -> None:
        execute(
            self.source,
            *(
                f"INSERT INTO {name} SELECT i, i, i, '{note}', now() FROM generate_series(1, 100) i"
                for name in TABLES
            ),
        )

    @property
    def is_equal(self) -> bool:
        return content(self.source, TABLES) == content(self.end, TABLES)

    def wait_for(self, query: str, started: subprocess.Popen[str]) -> None:
        """Wait until a session at the destination is in that state, or the program has ended."""
        assert wait_for(
            lambda: ask(self.end, query) != [(0,)] or started.poll() is not None,
            timeout=DEADLINE,
        )

    def start_and_hang(self) -> subprocess.Popen[str]:
        """Start a run whose COMMIT waits for a standby that does not exist."""
        started = self.once.start()
        self.wait_for(WAITING_COMMITS, started)
        assert started.poll() is None, self.once.finish(started).said
        return started

    def assert_next_runs_are_exact(self) -> None:
        """The next run makes it equal; rows that come later, and nothing else, come with another."""
        self.tap.arm()
        for note in ("second", "third"):
            ended = self.once.run()
            assert ended.code == 0, ended.said
            assert self.is_equal
            self.add_rows(note)
        assert self.once.run().code == 0
        assert self.is_equal


def wait_for_standbys(server: Server, names: str) -> None:
    """Let commits wait for these standbys from now on; those that wait for others go on."""
    server.cluster.settings.update({"synchronous_standby_names": names})
    server.cluster.reload()
    query = "SHOW synchronous_standby_names"
    assert wait_for(lambda: ask(server.conninfo(), query) == [(names,)], timeout=DEADLINE)


@pytest.fixture
def street(rig: Rig) -> Iterator[Street]:
    street = Street(rig)
    yield street
    wait_for_standbys(rig.mortal, "")


def test_a_run_killed_while_its_commit_waits_has_committed(street: Street) -> None:
    wait_for_standbys(street.server, "nobody")
    kill(street.start_and_hang())
    wait_for_standbys(street.server, "")
    street.assert_next_runs_are_exact()


def test_a_run_started_while_the_commit_of_a_killed_one_still_waits_adds_nothing(
    street: Street,
) -> None:
    wait_for_standbys(street.server, "nobody")
    kill(street.start_and_hang())
    street.once.transfer["deadline"] = "4s"
    street.add_rows("meanwhile")
    started = street.once.start()
    street.wait_for(WAITING_FOR_LOCKS, started)
    wait_for_standbys(street.server, "")
    street.once.finish(started)
    street.assert_next_runs_are_exact()


@pytest.mark.parametrize("blow", ["terminate", "cut"])
@pytest.mark.parametrize("is_relieved", [True, False], ids=["relieved", "waiting on"])
def test_a_commit_cut_off_while_it_waits_is_decided_by_the_ledger(
    street: Street, blow: str, is_relieved: bool
) -> None:
    """The same run decides; what it says must be true."""
    wait_for_standbys(street.server, "nobody")
    started = street.start_and_hang()
    if blow == "terminate":
        end_backends(street.end)
    else:
        street.tap.cut()
    if is_relieved:
        wait_for_standbys(street.server, "")
    ended = street.once.finish(started)
    verdict = ended.destinations["far"].verdict
    assert verdict in ("succeeded", "unknown"), ended.said
    assert street.is_equal or verdict == "unknown"
    wait_for_standbys(street.server, "")
    street.assert_next_runs_are_exact()


@pytest.mark.parametrize(("way", "place", "blow"), LOSSES)
def test_a_connection_lost_around_the_commit_is_decided_by_the_ledger(
    street: Street, way: Way, place: Place, blow: Blow
) -> None:
    street.tap.arm(Plan(way, place, blow, text=b"COMMIT"))
    ended = street.once.run()
    assert street.tap.struck.is_set(), "no COMMIT passed by"
    verdict = ended.destinations["far"].verdict
    assert verdict == "succeeded", ended.said
    assert street.is_equal
    street.assert_next_runs_are_exact()


@pytest.mark.parametrize("is_delivered", [True, False], ids=["delivered", "lost"])
def test_a_commit_on_its_way_while_the_next_run_begins_is_counted_once(
    street: Street, is_delivered: bool
) -> None:
    """The network holds the COMMIT of a killed run until the next one has come to the tables."""
    street.tap.arm(Plan("to_server", "before", Blow.HOLD, text=b"COMMIT"))
    started = street.once.start()
    assert street.tap.wait_until_struck(started), street.once.finish(started).said
    kill(started)
    street.add_rows("meanwhile")
    again = street.once.start()
    street.wait_for(WAITING_FOR_LOCKS, again)
    if is_delivered:
        street.tap.release()
    else:
        street.tap.cut()
    street.once.finish(again)
    street.assert_next_runs_are_exact()
