from __future__ import annotations

from typing import TYPE_CHECKING

from copyd import events
from copyd.observe.fanout import Tee

if TYPE_CHECKING:
    from copyd.events import Event


def test_an_observer_that_raises_hurts_neither_the_run_nor_another() -> None:
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise OSError(f"cannot write {event}")

    tee = Tee(broken, seen.append)
    event = events.DestinationReintroduced("eu")
    tee(event)
    tee(event)
    assert seen == [event, event]
    assert len(tee.failures) == 1
