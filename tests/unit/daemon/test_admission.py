"""Who begins, and what the others wait for."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from copyd.daemon.admission import Waiting, choose, needs


def waiting(transfer: str, since: float, source: str = "s", *destinations: str) -> Waiting:
    return Waiting(transfer, since, needs(source, destinations or ("d",)))


def test_who_has_waited_longest_comes_first_and_names_decide_between_equals() -> None:
    choice = choose([waiting("c", 2), waiting("b", 1), waiting("a", 2)], [], workers=9, limits={})
    assert choice.starting == ("b", "a", "c")


def test_no_more_run_than_there_are_workers() -> None:
    running = [needs("s", ["d"])]
    choice = choose([waiting("a", 1), waiting("b", 2)], running, workers=2, limits={})
    assert choice.starting == ("a",)
    assert choice.reasons == {"b": "all workers (2) are busy"}


def test_a_run_takes_two_connections_at_its_source_and_one_at_each_destination() -> None:
    assert needs("s", ["d", "e"]) == {"s": 2, "d": 1, "e": 1}


def test_a_server_lends_no_more_than_it_may() -> None:
    choice = choose(
        [waiting("a", 1), waiting("b", 2)], [needs("s", ["x"])], workers=9, limits={"s": 4}
    )
    assert choice.starting == ("a",)
    assert choice.reasons == {"b": "server s has too few free connections (max_connections = 4)"}


def test_who_needs_other_servers_overtakes() -> None:
    queue = [waiting("a", 1, "full"), waiting("b", 2, "free")]
    choice = choose(queue, [needs("full", [])], workers=9, limits={"full": 3})
    assert choice.starting == ("b",)


def test_nobody_takes_away_what_another_has_waited_for_longer() -> None:
    """A source needs two of which one is free: a destination that came later does not get it."""
    queue = [waiting("a", 1, "busy", "x"), waiting("b", 2, "other", "busy")]
    choice = choose(queue, [needs("y", ["busy"])], workers=9, limits={"busy": 2})
    assert choice.starting == ()


NAMES = st.sampled_from("pqrstu")
RUNS = st.builds(needs, NAMES, st.lists(NAMES, max_size=4))


@given(
    queue=st.lists(st.tuples(st.floats(0, 10), RUNS), max_size=12),
    running=st.lists(RUNS, max_size=3),
    workers=st.integers(1, 6),
    limits=st.dictionaries(NAMES, st.integers(3, 8)),
)
def test_no_limit_is_exceeded_and_everybody_begins_or_knows_why(
    queue: list[tuple[float, dict[str, int]]],
    running: list[dict[str, int]],
    workers: int,
    limits: dict[str, int],
) -> None:
    entries = [Waiting(f"t{n}", since, taken) for n, (since, taken) in enumerate(queue)]
    choice = choose(entries, running, workers=workers, limits=limits)
    assert {*choice.starting} | {*choice.reasons} == {each.transfer for each in entries}
    assert not {*choice.starting} & {*choice.reasons}
    before, held = Counter[str](), Counter[str]()
    for each in running:
        before.update(each)
    by_name = {each.transfer: each for each in entries}
    for name in choice.starting:
        held.update(by_name[name].needs)
    assert len(choice.starting) <= max(workers - len(running), 0)
    for server in held:
        if server in limits:
            assert before[server] + held[server] <= limits[server]
