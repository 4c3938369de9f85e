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


class SupervisorBench(Bench):
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
def bench(tmp_path: Path) -> SupervisorBench:
    return SupervisorBench(tmp_path)


ENDING = [Phase.DRAINING, Phase.CUTTING, Phase.RELEASING]


def test_nothing_happens_before_it_begins_and_then_it_is_ready(tmp_path: Path) -> None:
    bench = SupervisorBench(tmp_path, MANAGED)
    assert (bench.supervisor.status().state, bench.clusters.applied) == ("starting", [])
    bench.supervisor.begin()
    assert bench.supervisor.status().state == "ready"
    assert bench.clusters.applied == [("k",)]
    assert bench.configured == [bench.config]
    assert bench.seen == [events.DaemonReady(1, 1)]
    assert bench.notifier.states() == ["READY"]
    assert bench.threads() == ["recall b", "recall c"]


def test_ledgers_are_asked_for_what_the_history_does_not_know(bench: SupervisorBench) -> None:
    bench.supervisor.begin()
    bench.successes = {"t": 7.0}
    bench.work("recall c")
    bench.turn()
    (shown,) = bench.supervisor.status().transfers
    assert [each.last_success for each in shown.destinations] == [None, 7.0]


def test_runs_that_are_due_start_and_the_status_says_so(bench: SupervisorBench) -> None:
    bench.bring_to(Phase.READY)
    assert bench.threads() == ["run t"]
    status = bench.supervisor.status()
    assert (status.running, status.workers, status.beat) == (1, 2, bench.now.ticks)
    assert bench.notifier.told[-1] == {"WATCHDOG": 1, "STATUS": "1 of 1 transfers are running"}
    bench.turn()
    assert bench.notifier.told[-1] == {"WATCHDOG": 1}  # the sentence is the same


def test_the_loop_waits_no_longer_than_its_beat_its_watchdog_or_what_is_due(
    bench: SupervisorBench,
) -> None:
    bench.bring_to(Phase.READY)
    bench.end_run()
    assert bench.supervisor.patience() == BEAT
    bench.turn(seconds=298)
    assert bench.supervisor.patience() == 2


def test_an_event_of_a_cluster_is_passed_on(bench: SupervisorBench) -> None:
    bench.bring_to(Phase.READY)
    up = events.ClusterUp("k", is_adopted=False)
    bench.turn(Told(up))
    assert bench.seen[-1] == up


@pytest.mark.parametrize("phase", ENDING)
def test_a_daemon_that_is_stopping_triggers_nothing_but_notes_a_pause(
    bench: SupervisorBench, phase: Phase
) -> None:
    bench.bring_to(phase)
    bench.turn(Trigger("t", reply=bench.answers.append))
    bench.turn(Pause("t", is_paused=True, reply=bench.answers.append))
    assert bench.answers[0] == STOPPING
    assert bench.answers[1]["transfer"] == "t"
    assert bench.environment.pauses.read() == {"t"}


def test_a_reload_that_came_before_the_start_is_carried_out_after_it(
    bench: SupervisorBench,
) -> None:
    bench.supervisor.post(Reload(bench.answers.append))
    bench.bring_to(Phase.READY)
    bench.work("load")
    bench.turn()
    assert bench.answers == [{"changes": []}]


def test_a_reload_changes_clusters_and_transfers(bench: SupervisorBench, tmp_path: Path) -> None:
    bench.bring_to(Phase.READY)
    bench.to_load = read(tmp_path, MANAGED.replace("workers = 2", "workers = 5"))
    bench.turn(Reload(bench.answers.append))
    bench.work("load")
    bench.turn()
    assert bench.clusters.applied == [(), ("k",)]
    assert bench.supervisor.status().workers == 5
    assert len(bench.configured) == 2


@pytest.mark.parametrize("phase", ENDING)
def test_a_reload_that_is_asked_for_while_the_daemon_is_stopping_is_refused(
    bench: SupervisorBench, phase: Phase
) -> None:
    bench.bring_to(phase)
    bench.turn(Reload(bench.answers.append))
    assert "the daemon is stopping" in bench.answers[0]["error"]
    assert "load" not in bench.threads()


@pytest.mark.parametrize("phase", ENDING)
def test_a_reload_that_becomes_ready_while_the_daemon_is_stopping_is_not_applied(
    tmp_path: Path, phase: Phase
) -> None:
    """It would make clusters beside those that are stopped, and tell READY=1 after STOPPING=1."""
    bench = SupervisorBench(tmp_path)
    bench.bring_to(Phase.READY)
    bench.turn(Reload(bench.answers.append))
    bench.turn(HALT)
    if phase is Phase.CUTTING:
        bench.turn(HALT)
    if phase is Phase.RELEASING:
        bench.end_run()
    bench.turn(Loaded(read(tmp_path, MANAGED)))
    bench.require(phase)
    assert bench.clusters.applied == [()]
    assert [type(each) for each in bench.seen][-1] is not events.ConfigReloaded
    assert bench.notifier.states() == ["READY", "RELOADING", "STOPPING"]
    (answer,) = bench.answers
    assert answer == {"error": "the daemon is stopping: the configuration is not reloaded"}


def test_a_first_halt_lets_runs_end_and_then_stops_clusters(bench: SupervisorBench) -> None:
    bench.bring_to(Phase.DRAINING)
    assert bench.run.stop.cause is None
    assert bench.supervisor.patience() == BEAT
    bench.end_run()
    bench.require(Phase.RELEASING)
    bench.work("release")
    assert bench.clusters.stopped_within == CLUSTERS_WITHIN
    bench.turn()
    bench.require(Phase.OVER)
    assert bench.notifier.states() == ["READY", "STOPPING"]
    assert bench.notifier.told[-1]["STATUS"] == "stopping: done"


def test_runs_that_outlast_the_grace_are_cut_off_and_then_left(bench: SupervisorBench) -> None:
    bench.bring_to(Phase.DRAINING)
    bench.turn(seconds=30)
    bench.require(Phase.CUTTING)
    assert "shutdown_grace is over" in str(bench.run.stop.cause)
    bench.turn(seconds=CUT_WITHIN)
    bench.require(Phase.RELEASING)


def test_a_second_halt_cuts_everything_short(bench: SupervisorBench) -> None:
    bench.bring_to(Phase.CUTTING)
    assert "at once" in str(bench.run.stop.cause)
    bench.turn(seconds=NOW_WITHIN)
    bench.work("release")
    assert bench.clusters.stopped_within == NOW_WITHIN


def test_clusters_that_did_not_stop_in_time_are_named(bench: SupervisorBench) -> None:
    bench.bring_to(Phase.RELEASING)
    bench.clusters.unfinished = ("k",)
    bench.work("release")
    bench.turn()
    down = bench.seen[-1]
    assert isinstance(down, events.ClusterDown)
    assert (down.cluster, down.cause) == (
        "k",
        "the server did not stop in time and was left running",
    )


@pytest.mark.parametrize("phase", [each for each in Phase if each is not Phase.OVER])
def test_a_daemon_can_be_stopped_in_every_phase(bench: SupervisorBench, phase: Phase) -> None:
    """Two halts end it wherever it is, whatever its runs and clusters do."""
    bench.bring_to(phase)
    if phase is Phase.STARTING:
        bench.supervisor.post(HALT)
        bench.supervisor.begin()
    bench.turn(HALT)
    bench.turn(HALT)
    bench.turn(seconds=NOW_WITHIN)
    bench.turn(HALT)
    bench.require(Phase.OVER)
    assert bench.supervisor.status().state == "stopping"


def test_the_exit_code_is_that_of_the_halt_that_ended_it_at_once(bench: SupervisorBench) -> None:
    for each in (Halt("a", code=1), Halt("b", code=143), Halt("c", code=130)):
        bench.supervisor.post(each)
    bench.supervisor.begin()
    bench.turn()
    bench.require(Phase.RELEASING)
    assert bench.supervisor.code == 130


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
