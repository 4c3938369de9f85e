from __future__ import annotations

import io

import pytest
from rich.console import Console

from copyd import events
from copyd.cli.views.progress import RunProgress

RUN: list[events.Event] = [
    events.RunStarted("orders", "7f", ("eu", "us"), 100),
    events.PassStarted(1, ("eu", "us")),
    events.DataRelayed(frozenset({"eu", "us"}), 40, 4_000_000),
    events.DestinationDropped("us", "its [server] went away", will_return=True),
    events.DestinationEnded("eu", "succeeded", events.Counts(rows=100, size=9_000_000), None),
    events.DestinationReintroduced("us"),
    events.PassStarted(2, ("us",)),
    events.DestinationEnded("us", "failed", events.Counts(), "no [space] left"),
    events.RunEnded("partial", 1.0),
]


def show(*, is_terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=200, color_system=None)
    ticks = iter(range(0, 10_000, 10))
    progress = RunProgress(console, clock=lambda: float(next(ticks)))
    progress.start()
    for event in RUN:
        progress(event)
    progress.stop()
    return text.getvalue()


def test_without_a_terminal_a_run_is_plain_lines() -> None:
    lines = show(is_terminal=False).splitlines()
    assert "pass 1: eu, us" in lines
    assert "us dropped to return in another pass: its [server] went away" in lines
    assert "eu succeeded" in lines
    assert "us reintroduced" in lines
    assert "us failed: no [space] left" in lines
    assert any(line.startswith("eu: 40 rows, 4.0 MB, ") for line in lines)
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("words", ["100 rows", "failed", "dropped", "kB/s"])
def test_on_a_terminal_each_destination_has_a_bar_that_says_how_it_is(words: str) -> None:
    assert words in show(is_terminal=True)
