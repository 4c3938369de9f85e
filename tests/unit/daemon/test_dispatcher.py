"""Which transfers run, and why the others wait: with fakes, a manual clock and no thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd import events
from copyd.daemon.dispatcher import CLUSTER_PATIENCE, Dispatcher
from copyd.daemon.messages import Pause, Recalled, Trigger
from copyd.daemon.run_thread import Ended, News
from copyd.daemon.task import Remembered
from copyd.events import Counts
from copyd.status import Known
from tests.support.environment import FILE, START, Bench, outcome, read, report

if TYPE_CHECKING:
    from pathlib import Path

    from copyd.daemon.run_thread import RunThread
    from copyd.status import TransferStatus

CLUSTERS = """
[clusters.k]
data_directory = "/nowhere/k"
[clusters.l]
data_directory = "/nowhere/l"
"""
MANAGED = FILE.replace(
    '[servers.a]\nconninfo = "host=a"', f'{CLUSTERS}[servers.a]\ncluster = "k"\ndbname = "d"'
).replace('[servers.b]\nconninfo = "host=b"', '[servers.b]\ncluster = "l"\ndbname = "d"')
SECOND = '[transfers.u]\nsource = "a"\ndestinations = ["b"]\ntables = ["s.y"]\n'


class Site(Bench):
    """A dispatcher in a fake environment; a run is over when the test says so."""

    def __init__(self, folder: Path, text: str = FILE, **more: Remembered) -> None:
        super().__init__(folder, text, **more)
        self.dispatcher = Dispatcher(
            self.config, self.environment, self.clusters, post=self.posted.append, now=self.now
        )

    def tick(self, seconds: float = 0.0) -> None:
        """Go round once, as the loop does."""
        now = self.pass_time(seconds)
        self.dispatcher.fall_due(now)
        self.dispatcher.start_pending(now)

    def status(self, name: str = "t") -> TransferStatus:
        return next(each for each in self.dispatcher.status(self.now) if each.name == name)

    def trigger(self, name: str = "t", *destinations: str) -> object:
        return self.dispatcher.trigger(Trigger(name, destinations), self.now)

    def run(self, name: str = "t") -> RunThread:
        return self.dispatcher.runs[name]

    def end(self, *verdicts: tuple[str, str], kind: str = "connection") -> None:
        run = self.run()
        ended = report(run, *(outcome(name, verdict, kind) for name, verdict in verdicts))
        self.dispatcher.ended(Ended(run, ended), self.now)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_transfer_that_never_ran_starts_at_once_and_again_after_its_interval(site: Site) -> None:
    site.tick()
    assert site.threads() == ["run t"]
    assert (site.status().state, list(site.dispatcher.runs)) == ("running", ["t"])
    site.end(("b", "succeeded"), ("c", "succeeded"))
    assert site.dispatcher.wait(site.now) == 300
    site.tick(299)
    assert site.status().state == "idle"
    site.tick(1)
    assert site.status().state == "running"


def test_a_run_that_an_earlier_daemon_started_counts(tmp_path: Path) -> None:
    site = Site(tmp_path, remembered=Remembered({"t": START.wall - 100}))
    site.tick()
    assert site.status().state == "idle"
    site.tick(200)
    assert site.status().state == "running"


def test_a_source_whose_cluster_is_down_is_waited_for_as_long_as_it_takes(tmp_path: Path) -> None:
    site = Site(tmp_path, MANAGED)
    site.tick()
    site.tick(10 * CLUSTER_PATIENCE)
    assert site.status().state == "waiting"
    assert site.status().reason == "cluster k, which holds its source, is not up"
    site.clusters.up = {"k", "l"}
    site.tick()
    assert site.status().state == "running"
    assert site.clusters.borrowed == ["k", "l"]


def test_a_destination_whose_cluster_is_down_is_waited_for_a_while(tmp_path: Path) -> None:
    site = Site(tmp_path, MANAGED)
    site.clusters.up = {"k"}
    site.tick()
    assert site.status().reason == "cluster l, which holds destination b, is not up"
    assert site.dispatcher.wait(site.now) == CLUSTER_PATIENCE
    site.tick(CLUSTER_PATIENCE)
    assert site.status().state == "running"
    assert site.clusters.borrowed == ["k"]


def test_what_was_borrowed_is_given_back_when_the_run_is_over(tmp_path: Path) -> None:
    site = Site(tmp_path, MANAGED)
    site.clusters.up = {"k", "l"}
    site.tick()
    site.work("run t")
    assert site.clusters.borrowed == []
    (ended,) = site.posted
    assert (ended.report, ended.cause) == (None, "t is not carried out here")


def test_a_run_waits_for_a_free_worker(tmp_path: Path) -> None:
    site = Site(tmp_path, FILE.replace("workers = 2", "workers = 1") + SECOND)
    site.tick()
    site.trigger("u")
    site.tick()
    assert (site.status("u").state, site.status("u").reason) == (
        "queued",
        "all workers (1) are busy",
    )
    site.end(("b", "succeeded"))
    site.tick()
    assert site.status("u").state == "running"


def test_a_run_waits_for_a_connection(tmp_path: Path) -> None:
    text = FILE.replace('"host=b"', '"host=b"\nmax_connections = 1') + SECOND
    site = Site(tmp_path, text)
    site.tick()
    site.trigger("u")
    site.tick()
    assert site.status("u").reason == "server b has too few free connections (max_connections = 1)"


def test_a_trigger_runs_a_paused_transfer_to_the_destinations_that_it_names(site: Site) -> None:
    site.dispatcher.pause(Pause("t", is_paused=True))
    site.tick()
    assert (site.status().state, site.status().next_run) == ("paused", None)
    assert site.trigger("t", "c") == {"transfer": "t", "is_running": False}
    site.tick()
    assert site.run().destinations == ("c",)


@pytest.mark.parametrize(
    ("name", "destinations", "sentence"),
    [
        ("x", (), "there is no transfer x in the daemon's configuration"),
        ("t", ("z",), "transfer t has no destination z: it has b, c"),
    ],
)
def test_a_trigger_of_what_is_not_there_is_refused(
    site: Site, name: str, destinations: tuple[str, ...], sentence: str
) -> None:
    assert site.trigger(name, *destinations) == {"error": sentence}


def test_a_second_trigger_is_refused_until_the_first_has_its_run(site: Site) -> None:
    site.tick()
    assert site.trigger() == {"transfer": "t", "is_running": True}
    assert site.trigger() == {"error": "transfer t was already triggered and has not started yet"}
    site.end(("b", "succeeded"), ("c", "succeeded"))
    site.tick()
    assert site.status().state == "running"
    assert site.trigger() == {"transfer": "t", "is_running": True}


def test_a_pause_outlives_the_daemon(site: Site, tmp_path: Path) -> None:
    site.dispatcher.pause(Pause("t", is_paused=True))
    next_one = Site(tmp_path)
    next_one.dispatcher.restore_pauses()
    next_one.tick()
    assert next_one.status().state == "paused"
    next_one.dispatcher.pause(Pause("t", is_paused=False))
    next_one.tick()
    assert next_one.status().state == "running"


def test_a_pause_that_cannot_be_written_down_holds_and_warns(site: Site, tmp_path: Path) -> None:
    (tmp_path / "paused.json").mkdir()
    answer = site.dispatcher.pause(Pause("t", is_paused=True))
    assert "a restart of the daemon will forget this" in answer["warning"]
    site.tick()
    assert site.status().state == "paused"
    assert "error" in site.dispatcher.pause(Pause("x", is_paused=True))


def test_a_run_that_falls_due_while_one_is_pending_is_missed(tmp_path: Path) -> None:
    site = Site(tmp_path, MANAGED)
    site.tick()
    site.tick(300)
    (missed,) = site.seen
    assert isinstance(missed, events.RunMissed)
    assert missed.reason.endswith(
        "has not started yet: cluster k, which holds its source, is not up"
    )


@pytest.mark.parametrize(
    ("seconds", "is_running", "reason"),
    [
        (300, True, "the previous run is still running"),
        (400, False, "it was noticed 100 s too late"),
    ],
)
def test_with_skip_a_late_run_is_missed(
    tmp_path: Path, seconds: float, is_running: bool, reason: str
) -> None:
    site = Site(tmp_path, FILE.replace('"5m"', '"5m"\ncatch_up = "skip"'))
    site.tick()
    if not is_running:
        site.end(("b", "succeeded"), ("c", "succeeded"))
    site.tick(seconds)
    assert site.seen == [events.RunMissed("t", reason)]


def test_a_clock_that_is_set_back_far_is_obeyed_by_cron(tmp_path: Path) -> None:
    site = Site(tmp_path, FILE.replace('every = "5m"', 'cron = "0 4 * * *"'))
    site.tick()
    before = site.status().next_run
    site.now = type(site.now)(site.now.ticks + 1, site.now.wall - 30 * 86_400)
    site.tick()
    after = site.status().next_run
    assert before is not None
    assert after is not None
    assert after == before - 30 * 86_400


OUT_AT_ONCE = FILE.replace("failures = 2", 'failures = 1\nbackoff = "7m"\nmax_backoff = "7m"')


def test_the_breaker_leaves_a_destination_out_until_its_time_has_come(tmp_path: Path) -> None:
    site = Site(tmp_path, OUT_AT_ONCE)
    site.tick()
    site.end(("b", "failed"), ("c", "succeeded"))
    assert site.seen == [events.DestinationOut("t", "b", 1, site.now.wall + 420)]
    assert [each.state for each in site.status().destinations] == [
        "out",
        "unknown",
    ]  # c's success comes as news
    site.tick(300)
    assert site.run().destinations == ("c",)
    site.end(("c", "succeeded"))
    site.tick(300)
    assert site.run().destinations == ("b", "c")


def test_a_transfer_whose_destinations_are_all_out_waits_for_the_first_of_them(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, OUT_AT_ONCE)
    site.tick()
    site.end(("b", "failed"), ("c", "failed"))
    site.tick(300)
    assert site.status().state == "waiting"
    assert str(site.status().reason).startswith("all its destinations have failed too often")
    site.tick(CLUSTER_PATIENCE)
    assert site.dispatcher.wait(site.now) == 60
    site.tick(60)
    assert site.status().state == "running"


@pytest.mark.parametrize("kind", ["source", "stopped"])
def test_failures_that_are_not_its_own_open_no_breaker(site: Site, kind: str) -> None:
    for _ in range(3):
        site.trigger()
        site.tick()
        site.end(("b", "failed"), ("c", "failed"), kind=kind)
    assert [each.state for each in site.status().destinations] == ["failing", "failing"]
    assert not [each for each in site.seen if isinstance(each, events.DestinationOut)]


def test_a_success_is_known_before_the_run_is_over(site: Site) -> None:
    site.tick()
    site.end(("b", "failed"), ("c", "succeeded"))
    site.trigger()
    site.tick()
    run = site.run()
    site.dispatcher.note(News(run, events.RunStarted("t", "run-2", ("b", "c"), 1)), site.now)
    done = events.DestinationEnded("b", "succeeded", Counts(), None, data_timestamp=5.0)
    site.dispatcher.note(News(run, done), site.now)
    assert site.status().run == "run-2"
    b = site.status().destinations[0]
    assert (b.state, b.data_timestamp, b.last_success) == ("ok", 5.0, site.now.wall)
    assert site.seen == [events.DestinationBack("t", "b")]


def test_a_run_that_could_not_start_is_a_failure_of_its_destinations(site: Site) -> None:
    site.tick()
    site.dispatcher.ended(Ended(site.run(), None, "cannot connect to a"), site.now)
    shown = site.status()
    assert (shown.state, shown.last_verdict, shown.last_error) == (
        "idle",
        "failed",
        "cannot connect to a",
    )


def test_the_end_of_a_run_whose_transfer_is_removed_is_no_error(site: Site, tmp_path: Path) -> None:
    site.tick()
    run = site.run()
    without = read(tmp_path, FILE.partition("[transfers.t]")[0])
    site.dispatcher.apply(without, site.now)
    assert len(site.dispatcher.runs) == 1
    site.dispatcher.note(News(run, events.RunStarted("t", "r", ("b",), 1)), site.now)
    site.dispatcher.ended(Ended(run, None, "x"), site.now)
    assert (site.dispatcher.runs, site.dispatcher.status(site.now)) == ({}, ())


def test_another_configuration_keeps_what_is_known_and_plans_anew(
    site: Site, tmp_path: Path
) -> None:
    site.tick()
    site.end(("b", "succeeded"), ("c", "failed"))
    changed = FILE.replace('"5m"', '"10m"').replace('"b", "c"', '"c"') + SECOND
    site.dispatcher.apply(read(tmp_path, changed), site.now)
    assert [each.failures for each in site.status().destinations] == [1]
    assert site.status().next_run == site.now.wall + 600
    assert site.status("u").state == "idle"


def test_the_ledgers_fill_in_what_the_history_does_not_know(tmp_path: Path) -> None:
    known = Remembered({}, {("t", "b"): Known(5.0, 4.0, "succeeded", 0)})
    site = Site(tmp_path, remembered=known)
    assert site.dispatcher.unknown() == {"c": ("t",)}
    for server in ("b", "c", "gone"):
        site.dispatcher.recalled(Recalled(server, {"t": 9.0, "x": 9.0}))
    assert [each.last_success for each in site.status().destinations] == [5.0, 9.0]


def test_runs_are_cut_off_with_a_reason_and_pending_ones_dropped(site: Site) -> None:
    site.tick()
    site.trigger()
    site.dispatcher.drop_pending()
    site.dispatcher.stop_runs("the end is near")
    assert str(site.run().stop.cause) == "the end is near"
    site.end(("b", "failed"), ("c", "failed"))
    site.tick()
    assert site.status().state == "idle"
