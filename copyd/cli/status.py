"""``copyd status`` and ``copyd history``: the state of a running daemon and its last runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

import click

from copyd.cli.assembly import config_option, json_option
from copyd.cli.console import make_console, say_json, show
from copyd.cli.control_client import ask

if TYPE_CHECKING:
    from pathlib import Path

EVERY = 1.0  # seconds between two updates of --watch


@click.command(short_help="Show the state of the daemon, its clusters and its transfers.")
@config_option
@json_option
@click.option("--watch", "is_watched", is_flag=True, help="Update the output each second.")
def status(path: Path, as_json: bool, is_watched: bool) -> None:
    """Show the state of the running daemon: clusters, transfers, destinations and current runs.

    Exit codes: 0 shown, 1 no daemon answers, 2 wrong usage, 130 interrupted.
    """
    if as_json and is_watched:
        raise click.UsageError("--json and --watch exclude each other")
    found = ask(path, "status")
    if as_json:
        say_json(found)
        return
    from copyd.cli.views import screen

    if is_watched:
        _watch(path, found)
    show(screen(found, now=time.time()))


def _watch(path: Path, found: dict[str, Any]) -> NoReturn:
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
@json_option
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Number of runs."
)
def history(transfer: str | None, path: Path, as_json: bool, limit: int) -> None:
    """Show the daemon's last runs, of TRANSFER or of all transfers, the newest first.

    Exit codes: 0 shown, 1 no daemon answers, or it cannot read its history, 2 wrong usage.
    """
    found = ask(path, "history", transfer=transfer, limit=limit)["runs"]
    if as_json:
        say_json(found)
        return
    from copyd.cli.views import runs_table

    show(runs_table(found))
