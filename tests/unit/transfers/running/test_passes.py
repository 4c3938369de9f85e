"""A pass in its real thread; its source has no server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NoReturn

import psycopg
import pytest

from copyd.events import DataRelayed
from copyd.transfers.running.messages import PassEnded, PassUnwanted
from copyd.transfers.running.passes import Pass
from copyd.transfers.running.relay import SourceLost
from tests.support.scripted_run import SCAN, Scripted, ScriptedSource

if TYPE_CHECKING:
    from copyd.transfers.running.messages import Message

NEWS = DataRelayed(frozenset({"eu"}), 1, 1)


class SilentSource(ScriptedSource):
    """Answers nothing until it was cut so many times."""

    def __init__(self, cuts: int) -> None:
        super().__init__()
        self._cuts = threading.Semaphore(0)
        self._needed = cuts

    def reader(self) -> NoReturn:
        for _ in range(self._needed):
            self._cuts.acquire()
        raise psycopg.OperationalError("cut")

    def cut(self) -> None:
        self._cuts.release()


class Telling(Pass):
    """Tells news for ever."""

    def _feed(self) -> None:
        while True:
            self.channel.tell(NEWS)


def pass_of(
    kind: type[Pass] = Pass, *, source: ScriptedSource | None = None
) -> tuple[Pass, list[Message], threading.Semaphore]:
    """A pass without members, its messages, and a semaphore that counts them."""
    town = Scripted()
    messages: list[Message] = []
    posted = threading.Semaphore(0)

    def post(message: Message) -> None:
        messages.append(message)
        posted.release()

    pass_ = kind(town.run, source or town.source, [], [SCAN], post)
    pass_.ends_within = 0.05
    return pass_, messages, posted


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_pass_ends_though_it_connected_to_a_silent_source_after_the_first_cut(cuts: int) -> None:
    pass_, messages, _ = pass_of(source=SilentSource(cuts))
    pass_.start()
    pass_.close()
    (ended,) = messages
    assert isinstance(ended, PassEnded)
    assert isinstance(ended.error, SourceLost)


@pytest.mark.parametrize("hears", [True, False])
def test_a_pass_that_waits_to_be_heard_ends_when_it_is_closed(hears: bool) -> None:
    pass_, messages, posted = pass_of(Telling)
    pass_.start()
    assert posted.acquire(timeout=10)
    if hears:
        pass_.channel.heard()
    pass_.close()
    last = messages[-1]
    assert isinstance(last, PassEnded)
    assert isinstance(last.error, PassUnwanted)
    assert set(messages[:-1]) == {NEWS}


def test_a_pass_that_did_not_start_is_closed() -> None:
    pass_, messages, _ = pass_of()
    pass_.close()
    assert messages == []
