"""Rejects and their rows share one fate, whatever is struck: no reject without its COMMIT, no COMMIT
without its rejects. At every message between copyd and a destination.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.chaos import IS_LONG, QUICK
from tests.support.once_command import Once, kill
from tests.support.sql import ask, end_backends, execute
from tests.support.wiretap import Blow, Plan, Wiretap

if TYPE_CHECKING:
    from tests.faults.transfers.conftest import Rig
    from tests.support.wiretap import Step

pytestmark = pytest.mark.slow

BAD = "(3, 'bad', NULL), (11, 'once', NULL), (12, 'once', NULL), (23, 'lost', 99)"
"""Of these rows the second is good; what the last one references is nowhere."""
SHORT = 12
"""Steps that are struck in the short form, spread over all of them."""


class Street:
    """A source whose every run is to be told from the one before, and a destination behind a tap."""

    def __init__(self, rig: Rig) -> None:
        source, name = (rig.database(server) for server in (rig.source_server, rig.mortal))
        self.source = rig.source_server.conninfo(source)
        self.end = rig.mortal.conninfo(name)
        self.tap: Wiretap = rig.tap(rig.mortal)
        self.version = 0
        self.state = rig.folder / "state/rejects/books/far"
        far = rig.plain(rig.mortal, name, self.tap.port)
        self.once = Once(
            rig.folder,
            {"shop": self.source, "far": far},
            {
                "source": "shop",
                "destinations": ["far"],
                "tables": ["public.t"],
                "on_error": "resume_next",
                "batch_rows": 7,
                "max_reject_ratio": 0.5,
                **QUICK,
            },
        )
        table = "CREATE TABLE t (i int PRIMARY KEY, x text, parent int, version int DEFAULT 0)"
        execute(self.source, table)
        execute(
            self.source,
            "INSERT INTO t SELECT i, i, NULLIF(i + 1, 26) FROM generate_series(1, 25) i"
            " WHERE i NOT IN (3, 11, 12, 23)",
            f"INSERT INTO t VALUES {BAD}",
        )
        # What references a row that is refused is refused as well.
        execute(self.source, "UPDATE t SET parent = NULL WHERE parent IN (3, 12, 23)")
        execute(
            self.end,
            table,
            "ALTER TABLE t ADD CHECK (x <> 'bad')",
            "ALTER TABLE t ADD UNIQUE (x)",
            "ALTER TABLE t ADD FOREIGN KEY (parent) REFERENCES t DEFERRABLE",
        )
        self.run_cleanly()

    def renew(self) -> None:
        self.version += 1
        execute(self.source, f"UPDATE t SET version = {self.version}")

    def run_cleanly(self) -> None:
        self.tap.arm()
        self.renew()
        ended = self.once.run()
        assert ended.code == 3, ended.said

    @property
    def last_run(self) -> str:
        ((run,),) = ask(self.end, "SELECT run FROM copyd.ledger WHERE name = 't'")
        return str(run)

    @property
    def held_version(self) -> int:
        """Of the rows that are there; it is one, and the good ones are all there."""
        ((rows, lowest, highest),) = ask(
            self.end, "SELECT count(*), min(version), max(version) FROM t"
        )
        assert (rows, lowest) == (22, highest)
        return int(lowest)

    def kept(self) -> dict[str, int]:
        """The version of the rejects of each run; they are all there, and pending is none."""
        found = {}
        for folder in self.state.iterdir():
            facts = [
                json.loads(line) for line in (folder / "public.t.jsonl").read_text().splitlines()
            ]
            rows = (folder / "public.t.dat").read_text().splitlines()
            assert sorted(int(row.split("\t")[0]) for row in rows) == [3, 12, 23]
            assert len(facts) == len(rows)
            (version,) = {int(row.split("\t")[3]) for row in rows}
            found[folder.name] = version
        return found

    def struck_runs_share_one_fate(self, step: Step, blow: Blow) -> None:
        before, kept = self.last_run, self.kept()
        self.renew()
        place = Plan(step.way, "before", blow, connection=step.connection, number=step.number)
        self.tap.arm(place)
        started = self.once.start("--allow-rejects")
        if blow is Blow.HOLD:
            self.tap.wait_until_struck(started)
            kill(started)
            self.tap.release()
            end_backends(self.end)
        else:
            self.once.finish(started)
        struck, version = self.last_run, self.version
        assert self.held_version == (version if struck != before else version - 1)
        self.run_cleanly()
        expected = kept | {self.last_run: self.version}
        if struck != before:
            expected[struck] = version
        assert self.kept() == expected


@pytest.mark.timeout(1800 if IS_LONG else 300)
@pytest.mark.parametrize(
    "blow", [Blow.HOLD, Blow.RESET], ids=["copyd is killed", "the link is cut"]
)
def test_rejects_share_the_fate_of_their_run_at_every_message(rig: Rig, blow: Blow) -> None:
    street = Street(rig)
    street.renew()
    street.tap.arm()
    assert street.once.run().code == 3
    steps = street.tap.steps
    assert len(steps) > 60
    # In the short form the last ones, where files are published, are among them.
    chosen = steps if IS_LONG else [*steps[:: len(steps) // SHORT], *steps[-6:-1]]
    for step in chosen:
        street.struck_runs_share_one_fate(step, blow)
        # The clean run in between has made the steps the same again.
