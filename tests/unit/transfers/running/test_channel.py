from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd.events import DataRelayed
from copyd.transfers.running.messages import Channel, PassUnwanted

if TYPE_CHECKING:
    from copyd.transfers.running.messages import Message

NEWS = DataRelayed(frozenset({"eu"}), 1, 10)


class Runner:
    """Hears each message at once, or never."""

    def __init__(self, *, hears: bool) -> None:
        self.hears = hears
        self.messages: list[Message] = []
        self.channel = Channel(self.post)

    def post(self, message: Message) -> None:
        self.messages.append(message)
        if self.hears:
            self.channel.heard()


def test_a_pass_goes_on_when_its_message_was_heard() -> None:
    runner = Runner(hears=True)
    runner.channel.tell(NEWS)
    runner.channel.tell(NEWS, waits=False)
    assert runner.messages == [NEWS, NEWS]


def test_a_pass_may_be_one_message_ahead() -> None:
    runner = Runner(hears=False)
    runner.channel.tell(NEWS, waits=False)
    assert runner.messages == [NEWS]


def test_a_pass_that_is_not_wanted_any_more_tells_nothing() -> None:
    runner = Runner(hears=False)
    runner.channel.tell(NEWS, waits=False)
    runner.channel.close()
    for _ in range(2):  # while it unwinds it may try again
        with pytest.raises(PassUnwanted):
            runner.channel.tell(NEWS)
    assert runner.messages == [NEWS]


def test_a_pass_that_waits_to_be_heard_is_told_that_it_is_not_wanted() -> None:
    runner = Runner(hears=False)
    channel = Channel(lambda _: channel.close())
    with pytest.raises(PassUnwanted):
        channel.tell(NEWS)
    del runner
