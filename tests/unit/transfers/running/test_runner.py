"""Nothing here has a server or a thread, and no time passes but that of a manual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd import events
from copyd.copyman import Link
from copyd.errors import CopydError
from copyd.transfers import RunStopped
from copyd.transfers.faults import SourceFailed
from copyd.transfers.running.messages import PassEnded, Reconciled, ScanEnded, StepEnded
from copyd.transfers.running.relay import SourceLost
from copyd.transfers.running.states import State
from copyd.transfers.source import ChosenFormat
from tests.support.scripted_run import (
    SCAN,
    SHORT,
    Hang,
    Lost,
    Scripted,
    ScriptedPass,
    completed,
    ended,
    find_committed,
    lose_answer,
    posting,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.transfers.running.destination import Destination
    from copyd.transfers.running.messages import Message

TEXT, PLAIN = ChosenFormat("text", "because"), Link("plain", "why")
BOTH_GOOD = {"eu": "succeeded", "us": "succeeded"}
EU_ALONE = {"eu": "succeeded", "us": "failed"}


def drop(destination: Destination, cause: BaseException) -> Message:
    return ScanEnded(destination, SCAN, 0, 0, PLAIN, TEXT, cause)


def dropped(number: int, cause: BaseException) -> Callable[[ScriptedPass], Message]:
    return lambda pass_: drop(pass_.fed[number], cause)


def test_destinations_are_prepared_fed_committed_and_tidied_in_order() -> None:
    town = Scripted(names=["eu"])
    assert town.feed() == {"eu": "succeeded"}
    assert town.log == [
        "eu prepare", "eu clear", "eu empty", "pass of eu", "eu finish", "pass closed", "eu tidy",
        "eu closed",
    ]  # fmt: skip
    assert [type(event) for event in town.seen] == [
        events.SnapshotTaken,
        events.PassStarted,
        events.DestinationEnded,
    ]


def test_news_of_a_pass_is_observed_in_its_order_and_noted() -> None:
    town = Scripted(names=["eu"])
    town.passes.append(
        posting(
            lambda _: events.DataRelayed(frozenset({"eu"}), 3, 30),
            lambda pass_: Reconciled(pass_.fed[0], 0.5),
            lambda _: events.DataRelayed(frozenset({"eu"}), 4, 40),
            lambda pass_: ScanEnded(pass_.fed[0], SCAN, 7, 70, PLAIN, TEXT),
            completed(0),
            ended(),
        )
    )
    town.feed()
    assert town.seen[2:5] == [
        events.DataRelayed(frozenset({"eu"}), 3, 30),
        events.DestinationReconciled("eu", 0.5),
        events.DataRelayed(frozenset({"eu"}), 4, 40),
    ]
    outcome = town.destinations[0].outcome()
    assert (outcome.reconciliations, outcome.link, outcome.format) == (1, PLAIN, TEXT)
    assert town.attempts[0].loads == [(SCAN, 7, 70)]


def test_a_destination_that_is_dropped_comes_back_after_its_backoff() -> None:
    town = Scripted()
    town.passes.append(posting(dropped(1, Lost("gone")), completed(0), ended()))
    assert town.feed() == BOTH_GOOD
    assert town.now == 4.0
    assert [event for event in town.seen if isinstance(event, events.PassStarted)] == [
        events.PassStarted(1, ("eu", "us")),
        events.PassStarted(2, ("us",)),
    ]
    told = [type(event) for event in town.seen]
    assert told.index(events.DestinationDropped) < told.index(events.DestinationReintroduced)
    assert town.destinations[1].passes == 2


def test_the_connection_of_a_destination_that_is_dropped_is_closed_after_the_pass() -> None:
    town = Scripted()
    town.passes.append(posting(dropped(1, CopydError("no")), completed(0), ended()))
    assert town.feed() == EU_ALONE
    assert town.log.index("pass closed") < town.log.index("us closed")


def test_a_fault_that_is_not_transient_is_final() -> None:
    town = Scripted()
    town.on("us", "prepare", CopydError("there is no table t"))
    assert town.feed() == EU_ALONE
    assert town.cause("us") == "there is no table t"
    assert len(town.attempts) == 2


def test_a_destination_comes_back_no_more_often_than_the_transfer_allows() -> None:
    town = Scripted()
    town.on("us", "clear", *[Lost("gone")] * 9)
    assert town.feed() == EU_ALONE
    assert town.log.count("us clear") == 3
    assert town.now == 4.0 + 8.0


def test_a_step_that_hangs_is_given_up_and_the_others_go_on() -> None:
    town = Scripted(options={"prepare_timeout": 10.0})
    town.on("us", "prepare", Hang())
    assert town.feed() == BOTH_GOOD
    assert town.log[:3] == ["eu prepare", "us prepare", "eu clear"]
    us = town.destinations[1]
    assert (us.faults, us.passes) == (1, 1)


def test_the_end_of_a_step_that_was_given_up_changes_nothing() -> None:
    town = Scripted(options={"prepare_timeout": 10.0})
    town.on("us", "prepare", Hang())
    town.at[12.0] = lambda: town.put(
        StepEnded(town.destinations[1], town.attempts[1], CopydError("too late"))
    )
    assert town.feed() == BOTH_GOOD


def test_whoever_is_slow_to_empty_its_tables_has_max_wait_once_another_is_ready() -> None:
    town = Scripted(options={"prepare_timeout": 10.0, "max_wait": 2.0})
    town.on("us", "empty", Hang(), Hang(), Hang())
    assert town.feed() == EU_ALONE
    ended_at = next(each.judged for each in town.destinations if each.name == "eu")
    assert ended_at == 2.0


def test_those_that_need_the_same_share_a_pass_and_short_scans_go_first() -> None:
    town = Scripted(names=["eu", "us", "ap"], needs={"us": (SHORT,)})
    town.feed()
    assert [line for line in town.log if line.startswith("pass of")] == [
        "pass of us",
        "pass of eu ap",
    ]


def test_a_destination_that_has_all_commits_while_another_is_late() -> None:
    town = Scripted()
    town.passes.append(posting(completed(0)))

    def end_late() -> None:
        town.put(drop(town.destinations[1], CopydError("no")))
        town.put(PassEnded(None))

    town.at[30.0] = end_late
    assert town.feed() == EU_ALONE
    assert town.destinations[0].judged == 0.0


@pytest.mark.parametrize("step", ["prepare", "clear", "empty", "finish"])
def test_at_the_deadline_all_end_whatever_they_do(step: str) -> None:
    town = Scripted(options={"prepare_timeout": 1e9, "answer_timeout": 1e9, "max_wait": None})
    town.on("us", step, Hang())
    verdicts = town.feed()
    assert verdicts["us"] == "failed"
    assert town.now == 100.0
    assert "the deadline of 100 s has passed" in (town.cause("us") or "")


def test_at_the_deadline_a_pass_is_closed_before_any_connection() -> None:
    town = Scripted()
    town.passes.append(posting())
    assert town.feed() == {"eu": "failed", "us": "failed"}
    assert town.log[-3] == "pass closed"
    assert sorted(town.log[-2:]) == ["eu closed", "us closed"]


def test_a_stop_ends_a_pass_and_gives_every_destination_its_reason() -> None:
    town = Scripted()
    town.passes.append(posting())
    town.at[7.0] = lambda: town.stop.ask("the daemon stops")
    assert town.feed() == {"eu": "failed", "us": "failed"}
    assert (town.now, town.cause("eu")) == (7.0, "the daemon stops")
    assert all(attempt.is_closed for attempt in town.attempts)


def test_a_fault_after_a_stop_is_no_fault_of_the_destination() -> None:
    town = Scripted()

    def cut(pass_: ScriptedPass) -> None:
        pass_.post(drop(pass_.fed[0], Lost("cut")))
        town.stop.ask("enough")

    town.passes.append(cut)
    town.feed()
    assert town.cause("eu") == "enough"
    assert not [event for event in town.seen if isinstance(event, events.DestinationDropped)]


def test_an_observer_that_raises_ends_the_pass_and_the_run() -> None:
    town = Scripted()
    town.passes.append(posting(lambda _: events.DataRelayed(frozenset({"eu"}), 1, 1)))

    def observe(event: events.Event) -> None:
        if isinstance(event, events.DataRelayed):
            raise ZeroDivisionError

    town.observe = observe
    with pytest.raises(ZeroDivisionError):
        town.feed()
    assert town.log.index("pass closed") < town.log.index("eu closed")
    assert all(attempt.is_closed for attempt in town.attempts)


@pytest.mark.parametrize("step", ["prepare", "empty", "finish"])
def test_a_defect_in_a_step_ends_the_run(step: str) -> None:
    town = Scripted(names=["eu"])
    town.on("eu", step, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        town.feed()
    assert town.attempts[0].is_closed


def test_a_defect_in_a_pass_ends_the_run() -> None:
    town = Scripted()
    town.passes.append(posting(ended(ZeroDivisionError())))
    with pytest.raises(ZeroDivisionError):
        town.feed()


def test_a_commit_in_doubt_counts_where_the_ledger_has_it() -> None:
    town = Scripted(names=["eu"])
    town.on("eu", "finish", lose_answer)
    town.on("eu", "resolve", find_committed)
    assert town.feed() == {"eu": "succeeded"}
    assert town.destinations[0].passes == 1


def test_a_commit_in_doubt_that_the_ledger_has_not_is_made_again() -> None:
    town = Scripted(names=["eu"])
    town.on("eu", "finish", lose_answer, None)
    assert town.feed() == {"eu": "succeeded"}
    assert town.destinations[0].passes == 2
    assert town.log.count("eu resolve") == 1


def test_a_commit_in_doubt_stays_unknown_without_a_ledger() -> None:
    town = Scripted(names=["eu"], options={"ledger": None})
    town.on("eu", "finish", lose_answer)
    assert town.feed() == {"eu": "unknown"}


@pytest.mark.parametrize("act", [Hang(), CopydError("permission denied")], ids=["hangs", "refused"])
def test_a_commit_that_nobody_can_ask_about_is_unknown(act: BaseException) -> None:
    town = Scripted(names=["eu"])
    town.on("eu", "finish", lose_answer)
    town.on("eu", "resolve", act)
    assert town.feed() == {"eu": "unknown"}


def test_a_commit_that_is_cut_off_at_the_deadline_is_unknown() -> None:
    def hang(attempt: object) -> None:
        attempt.commit.is_sent = True  # type: ignore[attr-defined]
        raise Hang

    town = Scripted(names=["eu"], options={"answer_timeout": 1e9})
    town.on("eu", "finish", hang)
    assert town.feed() == {"eu": "unknown"}


def test_what_fails_after_the_commit_is_a_note() -> None:
    town = Scripted(names=["eu"])
    town.on("eu", "tidy", Lost("gone"))
    assert town.feed() == {"eu": "succeeded"}
    assert town.destinations[0].notes == ["after its COMMIT: gone"]


def test_a_lost_source_leaves_those_alone_that_have_their_data() -> None:
    town = Scripted()
    town.on("eu", "finish", Hang())
    town.passes.append(posting(completed(0), ended(SourceLost("gone"))))
    with pytest.raises(SourceLost):
        town.feed()
    assert [each.state for each in town.destinations] == [State.FINISHING, State.RESTING]
    eu = town.attempts[0]
    assert not eu.is_closed
    eu.commit.is_sent = eu.commit.is_done = True
    town.put(StepEnded(town.destinations[0], eu, None))
    assert town.feed() == BOTH_GOOD
    assert town.destinations[1].faults == 0


def test_without_a_source_those_that_have_their_data_finish_and_the_rest_fail() -> None:
    town = Scripted()
    town.on("eu", "finish", Hang())
    town.passes.append(posting(completed(0), ended(SourceLost("gone"))))
    with pytest.raises(SourceLost):
        town.feed()
    eu = town.attempts[0]
    eu.commit.is_sent = eu.commit.is_done = True
    town.put(StepEnded(town.destinations[0], eu, None))
    town.runner.give_up(SourceFailed("source gone"))
    assert town.verdicts == EU_ALONE
    assert town.cause("us") == "source gone"


def test_a_stop_without_a_source_ends_what_is_left() -> None:
    town = Scripted(names=["eu"])
    town.on("eu", "finish", Hang())
    town.passes.append(posting(completed(0), ended(SourceLost("gone"))))
    with pytest.raises(SourceLost):
        town.feed()
    town.at[3.0] = lambda: town.stop.ask("enough")
    town.runner.give_up(SourceFailed("source gone"))
    assert town.verdicts == {"eu": "failed"}
    assert isinstance(town.destinations[0].cause, RunStopped)


def raises(kind: type[events.Event]) -> Callable[[events.Event], None]:
    def observe(event: events.Event) -> None:
        if isinstance(event, kind):
            raise ZeroDivisionError

    return observe


def test_an_observer_that_always_raises_leaves_no_connection_open() -> None:
    town = Scripted()
    for name in ("eu", "us"):
        town.on(name, "finish", lose_answer)
        town.on(name, "resolve", Hang())
    town.at[3.0] = lambda: town.stop.ask("enough")
    town.observe = raises(events.DestinationEnded)
    with pytest.raises(ZeroDivisionError):
        town.feed()
    assert [each.state for each in town.destinations] == [State.ENDED] * 2
    assert all(attempt.is_closed for attempt in town.attempts)


def test_an_observer_that_raises_without_a_source_leaves_no_connection_open() -> None:
    town = Scripted()
    for name in ("eu", "us"):
        town.on(name, "finish", Hang())
    town.passes.append(posting(completed(0), completed(1), ended(SourceLost("gone"))))
    with pytest.raises(SourceLost):
        town.feed()
    town.at[3.0] = lambda: town.stop.ask("enough")
    town.observe = raises(events.DestinationEnded)
    with pytest.raises(ZeroDivisionError):
        town.runner.give_up(SourceFailed("source gone"))
    assert all(attempt.is_closed for attempt in town.attempts)


def test_what_was_left_to_another_snapshot_is_closed() -> None:
    town = Scripted()
    town.on("eu", "finish", Hang())
    town.passes.append(posting(completed(0), ended(SourceLost("gone"))))
    with pytest.raises(SourceLost):
        town.feed()
    assert not town.attempts[0].is_closed
    town.runner.close()
    assert all(attempt.is_closed for attempt in town.attempts)


def test_a_verdict_is_not_given_twice_though_an_observer_raises() -> None:
    town = Scripted(names=["eu"])
    town.observe = raises(events.DestinationEnded)
    with pytest.raises(ZeroDivisionError):
        town.feed()
    assert town.verdicts == {"eu": "succeeded"}
    assert [type(event) for event in town.seen].count(events.DestinationEnded) == 1


def test_without_a_source_no_destination_is_prepared_again() -> None:
    town = Scripted()
    for name in ("eu", "us"):
        town.on(name, "finish", Hang())
    town.passes.append(posting(completed(0), completed(1), ended(SourceLost("gone"))))
    with pytest.raises(SourceLost):
        town.feed()
    town.put(StepEnded(town.destinations[0], town.attempts[0], Lost("gone")))
    town.at[50.0] = lambda: town.stop.ask("enough")
    town.runner.give_up(SourceFailed("source gone"))
    assert town.verdicts == {"eu": "failed", "us": "failed"}
    assert len(town.attempts) == 2


@pytest.mark.parametrize("moment", ["start", "pass"])
def test_a_pass_is_closed_before_any_connection_when_the_runner_is_interrupted(
    moment: str,
) -> None:
    town = Scripted()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if moment == "start":
        town.passes.append(interrupt)
    else:
        town.passes.append(posting())
        town.at[1.0] = interrupt
    with pytest.raises(KeyboardInterrupt):
        town.feed()
    assert town.log[-3] == "pass closed"
    assert sorted(town.log[-2:]) == ["eu closed", "us closed"]
