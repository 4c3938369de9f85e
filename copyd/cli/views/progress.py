"""A run as it goes: a bar per destination on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from copyd import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console

    from copyd.events import Event

LINE_EVERY = 5.0
"""Seconds between two plain lines about data relayed."""


@dataclass
class _Delivery:
    """What one destination has been given in its current pass."""

    rows: int = 0
    size: int = 0
    began: float = 0.0

    def text(self, now: float) -> str:
        rate = self.size / max(now - self.began, 1e-3)
        return f"{self.rows:,} rows, {decimal(self.size)}, {decimal(int(rate))}/s"


class RunProgress:
    """Shows one run on `console`; an observer, to be started and stopped."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._deliveries: dict[str, _Delivery] = {}
        self._tasks: dict[str, TaskID] = {}
        self._next_line = 0.0
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[delivered]}"),
            TextColumn("{task.fields[state]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def start(self) -> None:
        """Begin to draw."""
        self._bars.start()

    def stop(self) -> None:
        """Draw a last time."""
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        match event:
            case events.RunStarted():
                for name in event.destinations:
                    self._deliveries[name] = _Delivery()
                    self._tasks[name] = self._bars.add_task(
                        escape(name), total=event.estimated_rows, delivered="", state="preparing"
                    )
            case events.PassStarted():
                self._begin_pass(event)
            case events.DataRelayed():
                self._advance(event)
            case events.DestinationDropped():
                what = "to return in another pass" if event.will_return else "for good"
                self._show(event.destination, f"[yellow]dropped[/] {what}", event.cause)
            case events.DestinationReintroduced():
                self._show(event.destination, "[cyan]reintroduced[/]")
            case events.DestinationEnded():
                self._end(event)
            case events.RunEnded():
                pass  # the closing table says it
            case _:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        """Say what seldom happens."""
        match event:
            case events.DestinationReconciled():
                held_back = f"after {event.held_back:.1f} s of holding the others back"
                self._show(event.destination, "[yellow]stalled[/], waited for", held_back)
            case events.RowsMissed():
                self._say(
                    f"{event.destination}: {event.rows:,} rows of {event.table} were found that "
                    "the overlap had left out"
                )
            case events.SourceDropped():
                what = "to be asked again" if event.will_return else "for good"
                self._console.print(f"source lost {what}: {event.cause}", markup=False)
            case events.HorizonHeldBack():
                self._say(
                    f"a transaction at the source has been open for {event.seconds:.0f} s; rows "
                    "written since then wait for its end"
                )

    def _begin_pass(self, event: events.PassStarted) -> None:
        for name in event.destinations:
            self._deliveries[name] = _Delivery(began=self._clock())
            self._bars.reset(self._tasks[name])
        self._say(f"pass {event.number}: {', '.join(event.destinations)}")
        self._redraw(event.destinations, state="copying")
        self._next_line = self._clock() + LINE_EVERY

    def _advance(self, event: events.DataRelayed) -> None:
        for name in event.destinations:
            self._deliveries[name].rows += event.messages
            self._deliveries[name].size += event.size
        self._redraw(event.destinations)
        now = self._clock()
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY
            for name in sorted(event.destinations):
                self._say(f"{name}: {self._deliveries[name].text(now)}")

    def _end(self, event: events.DestinationEnded) -> None:
        is_good = event.verdict == "succeeded"
        if is_good:
            self._deliveries[event.destination].rows = event.counts.rows
            self._bars.update(self._tasks[event.destination], total=max(event.counts.rows, 1))
        colour = "green" if is_good else "red"
        self._show(event.destination, f"[{colour}]{event.verdict}[/]", event.cause)

    def _show(self, name: str, state: str, cause: str | None = None) -> None:
        self._redraw([name], state=state)
        reason = f": {escape(cause)}" if cause else ""
        self._console.print(f"{escape(name)} {state}{reason}", highlight=False, soft_wrap=True)

    def _redraw(self, names: Iterable[str], state: str | None = None) -> None:
        now = self._clock()
        for name in names:
            delivery = self._deliveries[name]
            text = delivery.text(now) if delivery.size else ""
            self._bars.update(self._tasks[name], completed=delivery.rows, delivered=text)
            if state is not None:
                self._bars.update(self._tasks[name], state=state)

    def _say(self, line: str) -> None:
        """Print a line that bars make superfluous."""
        if not self._console.is_terminal:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
