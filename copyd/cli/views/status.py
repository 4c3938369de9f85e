"""Tables of the status and the history, from their JSON; pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.filesize import decimal
from rich.text import Text

from copyd.cli.views.grid import grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    Object = Mapping[str, Any]

_COLOURS = {
    "succeeded": "green", "ok": "green", "ready": "green", "running": "cyan",
    "partial": "yellow", "unknown": "yellow", "failing": "yellow", "waiting": "yellow",
    "queued": "yellow", "paused": "yellow", "stopping": "yellow",
    "failed": "red", "out": "red",
}  # fmt: skip
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def screen(status: Object, *, now: float) -> RenderableType:
    """Return the tables of a status; `now` is Unix time."""
    parts: list[RenderableType] = [_headline(status, now)]
    if status["clusters"]:
        parts.append(_clusters(status["clusters"]))
    if status["transfers"]:
        parts.append(_transfers(status["transfers"], now))
    return Group(*parts)


def runs_table(runs: Sequence[Object]) -> Table:
    """Return a table of runs, with a line for each destination."""
    rendered = grid("began", "transfer", "seconds", "verdict", "destination", "rows", "bytes")
    for run in runs:
        began = datetime.fromtimestamp(run["started"]).astimezone().isoformat(" ", "seconds")
        seconds = "" if run["ended"] is None else f"{run['ended'] - run['started']:.1f}"
        verdict = _because(run["verdict"] or "not ended", run["cause"])
        head: list[str | Text] = [began, Text(run["transfer"]), seconds, verdict]
        for each in run["destinations"]:
            result = _because(f"{each['name']} {each['verdict']}", each["cause"])
            rendered.add_row(*head, result, f"{each['rows']:,}", decimal(each["size"]))
            head = [""] * 4  # once for each run
        if not run["destinations"]:
            rendered.add_row(*head, "", "", "")
    return rendered


def ago(seconds: float) -> str:
    """Return a duration in its largest unit: "5m"."""
    size, unit = next((each for each in _UNITS if abs(seconds) >= each[0]), (1, "s"))
    return f"{seconds / size:.0f}{unit}"


def _headline(status: Object, now: float) -> Text:
    said = f", started {ago(now - status['started_at'])} ago; {status['running']} runs of at most "
    line = Text.assemble("copyd is ", _coloured(status["state"]), said, str(status["workers"]))
    if not status["reload"]["is_successful"]:
        line.append("\nthe last reload failed, the old configuration is in effect:", "red")
        for problem in status["reload"]["problems"]:
            line.append(f"\n  {problem}")
    for each in status["observers"]:
        if each["failures"]:
            line.append(f"\nthe {each['name']} failed {each['failures']} times, last with ", "red")
            line.append(each["last_error"])
    return line


def _clusters(clusters: Sequence[Object]) -> Table:
    rendered = grid("cluster", "state", "restarts", "last error")
    for each in clusters:
        state = Text(each["state"], "green" if each["is_up"] else "red")
        if each["pending_restart"]:
            state.append(f", restart pending for {', '.join(each['pending_restart'])}", "yellow")
        rendered.add_row(
            Text(each["name"]), state, str(each["restarts"]), Text(each["last_error"] or "")
        )
    return rendered


def _transfers(transfers: Sequence[Object], now: float) -> Table:
    rendered = grid(
        "transfer", "state", "last run", "next run", "destination", "data", "last success", "why"
    )
    for each in transfers:
        head: list[str | Text] = [
            Text(each["name"]),
            _because(each["state"], each["reason"]),
            _because(each["last_verdict"] or "", None),
            "" if each["next_run"] is None else f"in {ago(max(each['next_run'] - now, 0))}",
        ]
        for destination in each["destinations"]:
            rendered.add_row(*head, *_destination(each, destination, now))
            head = [""] * 4
    return rendered


def _destination(transfer: Object, destination: Object, now: float) -> list[str | Text]:
    progress = transfer["progress"]
    running = [] if progress is None else progress["destinations"]
    found = next((each for each in running if each["name"] == destination["name"]), None)
    why = Text(destination["last_error"] or "")
    if found is not None and found["state"] == "copying":
        speed = decimal(found["bytes_per_second"])
        why = Text(f"{found['rows']:,} rows, {decimal(found['bytes'])}, {speed}/s", "cyan")
    elif destination["last_error"] is None and not destination["failures"]:
        why = Text(transfer["last_error"] or "") if transfer["last_verdict"] == "failed" else why
    return [
        Text.assemble(destination["name"], " ", _coloured(destination["state"])),
        _age(destination["data_timestamp"], now, "old"),
        _age(destination["last_success"], now, "ago"),
        why,
    ]


def _age(moment: float | None, now: float, word: str) -> str:
    return "" if moment is None else f"{ago(max(now - moment, 0))} {word}"


def _because(state: str, reason: str | None) -> Text:
    return Text.assemble(_coloured(state), f": {reason}" if reason else "")


def _coloured(state: str) -> Text:
    return Text(state, _COLOURS.get(state.rpartition(" ")[2], ""))
