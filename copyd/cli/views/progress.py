"""The progress of a run: a bar for each destination on a terminal, otherwise plain lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from copyd import events
from copyd.observe import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rich.console import Console

    from copyd.events import Event
    from copyd.observe import Delivery

LINE_EVERY = 5.0  # seconds between two plain lines for a destination's data


class RunProgress:
    """An observer: shows a run on `console`, between ``start`` and ``stop``."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._run: RunState | None = None
        self._deliveries: Mapping[str, Delivery] = {}
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
        self._bars.start()

    def stop(self) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, events.RunStarted):
            self._run = RunState(event)
            self._deliveries = self._run.deliveries
            for name in event.destinations:
                self._tasks[name] = self._bars.add_task(
                    escape(name), total=event.estimated_rows, delivered="", state="preparing"
                )
        elif self._run is not None:
            now = self._clock()
            self._run.take(event, now)
            self._show_event(event, now)

    def _show_event(self, event: Event, now: float) -> None:
        match event:
            case events.PassStarted():
                self._begin_pass(event, now)
            case events.DataRelayed():
                self._advance(event, now)
            case events.DestinationDropped():
                outlook = "to return in another pass" if event.will_return else "for good"
                self._show(event.destination, f"[yellow]dropped[/] {outlook}", event.cause)
            case events.DestinationReintroduced():
                self._show(event.destination, "[cyan]reintroduced[/]")
            case events.DestinationEnded():
                self._end(event)
            case _:
                self._show_rare(event)

    def _show_rare(self, event: Event) -> None:
        match event:
            case events.DestinationReconciled():
                delay = f"the other destinations waited {event.held_back:.1f} s"
                self._show(event.destination, "[yellow]stalled[/], and continues", delay)
            case events.RowsMissed(destination=name, rows=rows, table=table):
                self._say(f"{name}: {rows:,} rows of {table} found that the lookback had missed")
            case events.SourceDropped():
                outlook = "; the run retries" if event.will_return else ""
                self._console.print(f"source failed{outlook}: {event.cause}", markup=False)
            case events.HorizonHeldBack():
                self._say(
                    f"a transaction at the source has been open for {event.seconds:.0f} s; newer "
                    "rows are copied after its end"
                )

    def _begin_pass(self, event: events.PassStarted, now: float) -> None:
        for name in event.destinations:
            self._bars.reset(self._tasks[name])  # a new pass starts at row 0
        self._say(f"pass {event.number}: {', '.join(event.destinations)}")
        self._redraw(event.destinations, state="copying")
        self._next_line = now + LINE_EVERY

    def _advance(self, event: events.DataRelayed, now: float) -> None:
        self._redraw(event.destinations)
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY
            for name in sorted(event.destinations):
                delivery = self._deliveries[name]
                self._say(f"{name}: {_text(delivery, delivery.rows, now)}")

    def _end(self, event: events.DestinationEnded) -> None:
        is_good = event.verdict == "succeeded"
        colour = "green" if is_good else "red"
        self._show(event.destination, f"[{colour}]{event.verdict}[/]", event.cause)
        if is_good:  # the rows written can differ from the rows sent: the bar shows those written
            rows = event.counts.rows
            self._redraw([event.destination], rows=rows)
            self._bars.update(self._tasks[event.destination], total=max(rows, 1))

    def _show(self, name: str, state: str, cause: str | None = None) -> None:
        self._redraw([name], state=state)
        reason = f": {escape(cause)}" if cause else ""
        self._console.print(f"{escape(name)} {state}{reason}", highlight=False, soft_wrap=True)

    def _redraw(
        self, names: Iterable[str], state: str | None = None, rows: int | None = None
    ) -> None:
        now = self._clock()
        for name in names:
            delivery, task = self._deliveries[name], self._tasks[name]
            shown = delivery.rows if rows is None else rows
            text = _text(delivery, shown, now) if delivery.size else ""
            self._bars.update(task, completed=shown, delivered=text)
            if state is not None:
                self._bars.update(task, state=state)

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:  # a terminal has the bars
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _text(delivery: Delivery, rows: int, now: float) -> str:
    speed = decimal(int(delivery.average(now)))
    return f"{rows:,} rows, {decimal(delivery.size)}, {speed}/s"
