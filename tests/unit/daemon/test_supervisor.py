"""The loop and its phases: with fakes, a manual clock and no thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from copyd import events
from copyd.daemon import Supervisor
from copyd.daemon.messages import Halt, Loaded, Pause, Reload, Told, Trigger
from copyd.daemon.run_thread import Ended
from copyd.daemon.supervisor import (
    BEAT,
    CLUSTERS_WITHIN,
    CUT_WITHIN,
    MOVES,
    NOW_WITHIN,
    Phase,
    moved,
)
from tests.support.environment import FILE, Bench, outcome, read, report

if TYPE_CHECKING:
    from pathlib import Path

    from copyd.daemon.run_thread import RunThread

HALT = Halt("SIGTERM was received", code=143)
MANAGED = FILE + '[clusters.k]\ndata_directory = "/nowhere/k"\n'
STOPPING = {"error": "the daemon is stopping"}


class Site(Bench):
    """A supervisor in a fake environment."""

    def __init__(self, folder: Path, text: str = FILE) -> None:
        super().__init__(folder, text)
        self.answers: list[Any] = []
        self.supervisor = Supervisor(self.config, self.environment)

    def require(self, phase: Phase) -> None:
        assert self.supervisor.phase is phase

    @property
    def run(self) -> RunThread:
        return self.supervisor.dispatcher.runs["t"]

    def turn(self, *messages: Any, seconds: float = 0.0) -> None:
        self.pass_time(seconds)
        self.supervisor.turn([*messages, *self.supervisor.receive(0.0)])

    def end_run(self) -> None:
        ended = report(self.run, outcome("b"), outcome("c"))
        self.turn(Ended(self.run, ended))

    def bring_to(self, phase: Phase) -> None:
        """Have the daemon reach a phase, a run being under way as long as that may be."""
        if phase is Phase.STARTING:
            return
        self.supervisor.begin()
        self.spawned.clear()
        self.turn()
        if phase is Phase.READY:
            return
        self.turn(HALT)
        if phase is Phase.CUTTING:
            self.turn(HALT)
        if phase in {Phase.RELEASING, Phase.OVER}:
            self.end_run()
        if phase is Phase.OVER:
            self.work("release")
            self.turn()
        self.require(phase)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


ENDING = [Phase.DRAINING, Phase.CUTTING, Phase.RELEASING]


def test_nothing_happens_before_it_begins_and_then_it_is_ready(tmp_path: Path) -> None:
    site = Site(tmp_path, MANAGED)
    assert (site.supervisor.status().state, site.clusters.applied) == ("starting", [])
    site.supervisor.begin()
    assert site.supervisor.status().state == "ready"
    assert site.clusters.applied == [("k",)]
    assert site.configured == [site.config]
    assert site.seen == [events.DaemonReady(1, 1)]
    assert site.notifier.states() == ["READY"]
    assert site.threads() == ["recall b", "recall c"]


def test_ledgers_are_asked_for_what_the_history_does_not_know(site: Site) -> None:
    site.supervisor.begin()
    site.successes = {"t": 7.0}
    site.work("recall c")
    site.turn()
    (shown,) = site.supervisor.status().transfers
    assert [each.last_success for each in shown.destinations] == [None, 7.0]


def test_runs_that_are_due_start_and_the_status_says_so(site: Site) -> None:
    site.bring_to(Phase.READY)
    assert site.threads() == ["run t"]
    status = site.supervisor.status()
    assert (status.running, status.workers, status.beat) == (1, 2, site.now.ticks)
    assert site.notifier.told[-1] == {"WATCHDOG": 1, "STATUS": "1 of 1 transfers are running"}
    site.turn()
    assert site.notifier.told[-1] == {"WATCHDOG": 1}  # the sentence is the same


def test_the_loop_waits_no_longer_than_its_beat_its_watchdog_or_what_is_due(site: Site) -> None:
    site.bring_to(Phase.READY)
    site.end_run()
    assert site.supervisor.patience() == BEAT
    site.turn(seconds=298)
    assert site.supervisor.patience() == 2


def test_an_event_of_a_cluster_is_passed_on(site: Site) -> None:
    site.bring_to(Phase.READY)
    up = events.ClusterUp("k", is_adopted=False)
    site.turn(Told(up))
    assert site.seen[-1] == up


@pytest.mark.parametrize("phase", ENDING)
def test_a_daemon_that_is_stopping_triggers_nothing_but_notes_a_pause(
    site: Site, phase: Phase
) -> None:
    site.bring_to(phase)
    site.turn(Trigger("t", reply=site.answers.append))
    site.turn(Pause("t", is_paused=True, reply=site.answers.append))
    assert site.answers[0] == STOPPING
    assert site.answers[1]["transfer"] == "t"
    assert site.environment.pauses.read() == {"t"}


def test_a_reload_that_came_before_the_start_is_carried_out_after_it(site: Site) -> None:
    site.supervisor.post(Reload(site.answers.append))
    site.bring_to(Phase.READY)
    site.work("load")
    site.turn()
    assert site.answers == [{"changes": []}]


def test_a_reload_changes_clusters_and_transfers(site: Site, tmp_path: Path) -> None:
    site.bring_to(Phase.READY)
    site.to_load = read(tmp_path, MANAGED.replace("workers = 2", "workers = 5"))
    site.turn(Reload(site.answers.append))
    site.work("load")
    site.turn()
    assert site.clusters.applied == [(), ("k",)]
    assert site.supervisor.status().workers == 5
    assert len(site.configured) == 2


@pytest.mark.parametrize("phase", ENDING)
def test_a_reload_that_is_asked_for_while_the_daemon_is_stopping_is_refused(
    site: Site, phase: Phase
) -> None:
    site.bring_to(phase)
    site.turn(Reload(site.answers.append))
    assert "the daemon is stopping" in site.answers[0]["error"]
    assert "load" not in site.threads()


@pytest.mark.parametrize("phase", ENDING)
def test_a_reload_that_becomes_ready_while_the_daemon_is_stopping_is_not_applied(
    tmp_path: Path, phase: Phase
) -> None:
    """It would make clusters beside those that are stopped, and tell READY=1 after STOPPING=1."""
    site = Site(tmp_path)
    site.bring_to(Phase.READY)
    site.turn(Reload(site.answers.append))
    site.turn(HALT)
    if phase is Phase.CUTTING:
        site.turn(HALT)
    if phase is Phase.RELEASING:
        site.end_run()
    site.turn(Loaded(read(tmp_path, MANAGED)))
    site.require(phase)
    assert site.clusters.applied == [()]
    assert [type(each) for each in site.seen][-1] is not events.ConfigReloaded
    assert site.notifier.states() == ["READY", "RELOADING", "STOPPING"]
    (answer,) = site.answers
    assert answer == {"error": "the daemon is stopping: the configuration is not reloaded"}


def test_a_first_halt_lets_runs_end_and_then_stops_clusters(site: Site) -> None:
    site.bring_to(Phase.DRAINING)
    assert site.run.stop.cause is None
    assert site.supervisor.patience() == BEAT
    site.end_run()
    site.require(Phase.RELEASING)
    site.work("release")
    assert site.clusters.stopped_within == CLUSTERS_WITHIN
    site.turn()
    site.require(Phase.OVER)
    assert site.notifier.states() == ["READY", "STOPPING"]
    assert site.notifier.told[-1]["STATUS"] == "stopping: all is done"


def test_runs_that_outlast_the_grace_are_cut_off_and_then_left(site: Site) -> None:
    site.bring_to(Phase.DRAINING)
    site.turn(seconds=30)
    site.require(Phase.CUTTING)
    assert "shutdown_grace is over" in str(site.run.stop.cause)
    site.turn(seconds=CUT_WITHIN)
    site.require(Phase.RELEASING)


def test_a_second_halt_cuts_everything_short(site: Site) -> None:
    site.bring_to(Phase.CUTTING)
    assert "at once" in str(site.run.stop.cause)
    site.turn(seconds=NOW_WITHIN)
    site.work("release")
    assert site.clusters.stopped_within == NOW_WITHIN


def test_clusters_that_did_not_stop_in_time_are_named(site: Site) -> None:
    site.bring_to(Phase.RELEASING)
    site.clusters.unfinished = ("k",)
    site.work("release")
    site.turn()
    down = site.seen[-1]
    assert isinstance(down, events.ClusterDown)
    assert (down.cluster, down.cause) == ("k", "it did not stop in time, and is left")


@pytest.mark.parametrize("phase", [each for each in Phase if each is not Phase.OVER])
def test_a_daemon_can_be_stopped_in_every_phase(site: Site, phase: Phase) -> None:
    """Two halts end it wherever it is, whatever its runs and clusters do."""
    site.bring_to(phase)
    if phase is Phase.STARTING:
        site.supervisor.post(HALT)
        site.supervisor.begin()
    site.turn(HALT)
    site.turn(HALT)
    site.turn(seconds=NOW_WITHIN)
    site.turn(HALT)
    site.require(Phase.OVER)
    assert site.supervisor.status().state == "stopping"


def test_the_exit_code_is_that_of_the_halt_that_ended_it_at_once(site: Site) -> None:
    for each in (Halt("a", code=1), Halt("b", code=143), Halt("c", code=130)):
        site.supervisor.post(each)
    site.supervisor.begin()
    site.turn()
    site.require(Phase.RELEASING)
    assert site.supervisor.code == 130


def test_every_phase_leads_to_the_end() -> None:
    for phase in Phase:
        reached = {phase}
        while any(MOVES[each] - reached for each in reached):
            reached |= {there for each in reached for there in MOVES[each]}
        assert Phase.OVER in reached


@pytest.mark.parametrize("phase", list(Phase))
def test_a_move_that_is_not_in_the_table_is_a_defect(phase: Phase) -> None:
    for wanted in set(Phase) - MOVES[phase]:
        with pytest.raises(RuntimeError, match=f"from {phase.name} to {wanted.name}"):
            moved(phase, wanted)
