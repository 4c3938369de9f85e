"""``copyd status`` and ``copyd history``: what a running daemon says of itself."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from copyd.cli.assembly import config_option
from copyd.cli.console import deliver, make_console, say
from copyd.cli.control_client import ask

if TYPE_CHECKING:
    from pathlib import Path

EVERY = 1.0
"""Seconds between two looks."""


@click.command(short_help="Show how the daemon, its clusters and its transfers are.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@click.option("--watch", "is_watched", is_flag=True, help="Show it again each second.")
def status(path: Path, as_json: bool, is_watched: bool) -> None:
    """Show how the running daemon is: its clusters, transfers, destinations, and runs under way.

    Exit codes: 0 shown, 1 no daemon answers, 2 wrong usage, 130 interrupted.
    """
    if as_json and is_watched:
        raise click.UsageError("--json shows it once: leave out --watch")
    found = ask(path, "status")
    if as_json:
        say(json.dumps(found, ensure_ascii=False, indent=2))
    elif is_watched:
        _watch(path, found)
    else:
        from copyd.cli.views import screen

        console = make_console()
        deliver(lambda: console.print(screen(found, now=time.time())))


def _watch(path: Path, found: dict[str, Any]) -> None:
    from rich.live import Live

    from copyd.cli.views import screen

    with Live(console=make_console(), auto_refresh=False) as shown:
        while True:
            shown.update(screen(found, now=time.time()), refresh=True)
            time.sleep(EVERY)
            found = ask(path, "status")


@click.command(short_help="Show the last runs.")
@click.argument("transfer", metavar="[TRANSFER]", required=False)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many runs."
)
def history(transfer: str | None, path: Path, as_json: bool, limit: int) -> None:
    """Show the last runs that the daemon carried out, of TRANSFER or of all, the newest first.

    Exit codes: 0 shown, 1 no daemon answers, or its history cannot be read, 2 wrong usage.
    """
    found = ask(path, "history", transfer=transfer, limit=limit)["runs"]
    if as_json:
        say(json.dumps(found, ensure_ascii=False, indent=2))
        return
    from copyd.cli.views import runs_table

    console = make_console()
    deliver(lambda: console.print(runs_table(found)))
