"""What is next for a cluster, for everything that can be seen of one; time is an argument."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.cluster import State
from copyd.config import Cluster as Section
from copyd.daemon.keeper.decision import (
    Await,
    Condition,
    Decision,
    Initialize,
    Intervals,
    Past,
    Place,
    Rest,
    Seen,
    Start,
    Watch,
    decide,
    is_stopped_at_exit,
    may_restart,
)
from copyd.daemon.keeper.records import Made

INTERVALS = Intervals()
STOPPED = Seen(State.STOPPED, is_ours=True, made=Made.DONE, major=15)


def section(**options: Any) -> Section:
    return Section.model_validate({"data_directory": "/srv/a", **options})


MAKING = section(init=True)
SECTIONS = st.builds(
    section,
    init=st.booleans(),
    on_exit=st.sampled_from([None, "stop", "leave"]),
    allow_restart=st.booleans(),
    version=st.sampled_from([None, 15, 17]),
)
SEEN = st.builds(
    Seen,
    state=st.sampled_from(State),
    is_ours=st.booleans(),
    answers=st.booleans(),
    place=st.sampled_from(Place),
    made=st.sampled_from(Made),
    major=st.sampled_from([None, 15]),
)
PASTS = st.builds(
    Past,
    falls=st.integers(0, 9),
    retry_at=st.floats(0, 1000),
    cause=st.just("it fell"),
    has_run=st.booleans(),
    up_since=st.none() | st.floats(0, 1000),
)


def next_for(seen: Seen, wanted: Section = MAKING, past: Past | None = None) -> Decision:
    return decide(wanted, seen, past or Past(), now=1000.0, intervals=INTERVALS)


@given(SECTIONS, SEEN, PASTS, st.floats(0, 2000))
def test_a_cluster_is_made_only_where_there_never_was_one(
    wanted: Section, seen: Seen, past: Past, now: float
) -> None:
    decision = decide(wanted, seen, past, now=now, intervals=INTERVALS)
    if isinstance(decision, Initialize):
        assert seen.state is State.VOID
        if decision.clears:
            assert seen.place is Place.UNFINISHED
        else:
            assert wanted.init
            assert seen.place in {Place.ABSENT, Place.EMPTY}
            assert seen.made is not Made.DONE


@given(SECTIONS, SEEN, PASTS, st.floats(0, 2000))
def test_a_server_is_started_only_where_none_runs_and_its_pause_is_over(
    wanted: Section, seen: Seen, past: Past, now: float
) -> None:
    decision = decide(wanted, seen, past, now=now, intervals=INTERVALS)
    if isinstance(decision, (Start, Initialize)):
        assert not seen.runs
        assert not past.falls or now >= past.retry_at
    if isinstance(decision, Start):
        assert seen.state is not State.VOID
        assert seen.is_ours or wanted.on_exit == "stop"
        assert None in {wanted.version, seen.major} or wanted.version == seen.major


@given(SECTIONS, SEEN, PASTS)
def test_a_cluster_is_up_where_its_server_is_ready_and_answers(
    wanted: Section, seen: Seen, past: Past
) -> None:
    is_up = isinstance(next_for(seen, wanted, past), Watch)
    assert is_up is (seen.state is State.READY and seen.answers)


@given(SECTIONS, SEEN, PASTS)
def test_who_rests_says_why_in_one_line(wanted: Section, seen: Seen, past: Past) -> None:
    decision = next_for(seen, wanted, past)
    if isinstance(decision, Rest):
        assert decision.cause
        assert "\n" not in decision.cause


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(State.READY, is_ours=True), Watch(is_adopted=False)),
        (Seen(State.READY, is_ours=False), Watch(is_adopted=True)),
        (Seen(State.READY, is_ours=True, answers=False), Await(Condition.SILENT)),
        (Seen(State.STARTING, is_ours=True), Await(Condition.STARTING)),
        (Seen(State.STOPPING, is_ours=False), Await(Condition.STOPPING, is_adopted=True)),
        (STOPPED, Start(is_again=False)),
        (Seen(State.CRASHED, is_ours=True, made=Made.DONE), Start(is_again=False)),
        (Seen(State.FOREIGN, is_ours=True, made=Made.DONE), Start(is_again=False)),
        (Seen(State.VOID, is_ours=True, place=Place.ABSENT), Initialize()),
        (Seen(State.VOID, is_ours=True, place=Place.EMPTY), Initialize()),
        (Seen(State.VOID, is_ours=True, place=Place.BUSY), Await(Condition.INITIALIZING)),
        (Seen(State.VOID, is_ours=True, place=Place.UNFINISHED), Initialize(clears=True)),
    ],
)
def test_what_is_seen_decides(seen: Seen, expected: Decision) -> None:
    assert next_for(seen) == expected


@pytest.mark.parametrize(
    ("seen", "options", "cause"),
    [
        (
            Seen(State.VOID, is_ours=True, place=Place.EMPTY, made=Made.DONE),
            {"init": True},
            "/srv/a is empty, but held a cluster before: mount its volume",
        ),
        (
            Seen(State.VOID, is_ours=True, place=Place.ABSENT, made=Made.DONE),
            {"init": True},
            "/srv/a is absent, but held a cluster before",
        ),
        (Seen(State.VOID, is_ours=True, place=Place.ABSENT), {}, "set init = true"),
        (Seen(State.VOID, is_ours=True), {"init": True}, "is not a data directory and not empty"),
        (STOPPED, {"version": 17}, "is of PostgreSQL 15, but the configuration says 17"),
        (
            Seen(State.STOPPED, is_ours=False, made=Made.DONE),
            {},
            'does not run, and copyd did not start it: start it, or let copyd start it with on_exit = "stop"',
        ),
    ],
)
def test_what_is_not_done_is_told_with_the_reason(
    seen: Seen, options: dict[str, object], cause: str
) -> None:
    decision = next_for(seen, section(**options))
    assert isinstance(decision, Rest)
    assert cause in decision.cause
    assert decision.until is None


def test_the_next_start_waits_for_its_time() -> None:
    past = Past(falls=2, retry_at=1001.0, cause="it fell")
    assert next_for(STOPPED, past=past) == Rest(Condition.DOWN, "it fell", 1001.0)
    assert decide(MAKING, STOPPED, past, now=1001.0, intervals=INTERVALS) == Start(is_again=True)


def test_pauses_double_up_to_a_limit_and_are_long_for_one_that_loops() -> None:
    pauses = [INTERVALS.after(falls, 1.0) for falls in range(1, 8)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 300.0, 300.0, 300.0]
    patient = Intervals(limit=99)
    assert patient.after(6, 1.0) == patient.after(98, 1.0) == 30.0


@given(st.integers(1, 1000), st.floats(0, 1))
def test_a_pause_is_between_half_and_all_of_its_length(falls: int, jitter: float) -> None:
    longest = INTERVALS.after(falls, 1.0)
    assert longest / 2 <= INTERVALS.after(falls, jitter) <= longest


def fall(past: Past, now: float) -> Past:
    return past.fallen("it fell", now=now, intervals=INTERVALS, jitter=1.0)


def test_a_server_that_keeps_falling_loops_and_is_tried_again_by_itself() -> None:
    past, now = Past(), 0.0
    for _ in range(INTERVALS.limit):
        past = fall(past.started(), now)
        now = past.retry_at
    resting = decide(MAKING, STOPPED, past, now=now - 1, intervals=INTERVALS)
    assert resting == Rest(Condition.LOOPING, "it fell", now)
    assert decide(MAKING, STOPPED, past, now=now, intervals=INTERVALS) == Start(is_again=True)
    assert fall(past.started(), now).retry_at == now + INTERVALS.pause  # one try, and a pause again


@pytest.mark.parametrize(("up_for", "falls"), [(INTERVALS.calm, 1), (INTERVALS.calm - 1, 4)])
def test_only_a_long_calm_makes_falls_forgotten(up_for: float, falls: int) -> None:
    past = Past(falls=3).started().seen_running(is_up=True, now=100.0)
    assert fall(past, 100.0 + up_for).falls == falls


def test_a_moment_of_silence_does_not_end_a_calm() -> None:
    past = Past().seen_running(is_up=True, now=1.0).seen_running(is_up=False, now=2.0)
    assert past.seen_running(is_up=True, now=3.0).up_since == 1.0


def test_a_stop_on_purpose_is_no_fall() -> None:
    past = Past(falls=1, retry_at=5.0).started().stopped()
    assert (past.falls, past.retry_at, past.has_run) == (1, 0.0, False)


@pytest.mark.parametrize(
    ("on_exit", "is_ours", "is_stopped"),
    [
        (None, True, True),
        ("stop", True, True),
        ("leave", True, False),
        (None, False, False),
        ("stop", False, True),
        ("leave", False, False),
    ],
)
def test_the_daemons_end_is_that_of_its_own_servers_and_of_others_where_that_is_written(
    on_exit: str | None, is_ours: bool, is_stopped: bool
) -> None:
    assert is_stopped_at_exit(section(on_exit=on_exit), is_ours=is_ours) is is_stopped


@pytest.mark.parametrize("on_exit", [None, "stop", "leave"])
@pytest.mark.parametrize("is_ours", [True, False])
def test_no_server_is_restarted_where_that_is_not_allowed(
    on_exit: str | None, is_ours: bool
) -> None:
    assert not may_restart(section(on_exit=on_exit), is_ours=is_ours)
    allowed = may_restart(section(on_exit=on_exit, allow_restart=True), is_ours=is_ours)
    assert allowed is (is_ours or on_exit == "stop")
