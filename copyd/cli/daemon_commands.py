"""``copyd trigger``, ``pause``, ``resume`` and ``reload``: orders to a running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copyd.cli import exits
from copyd.cli.assembly import config_option, destination_option
from copyd.cli.console import say
from copyd.cli.control_client import ask

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Have the daemon run a transfer now.")
@click.argument("transfer", metavar="TRANSFER")
@config_option
@click.option("--full", "is_full", is_flag=True, help="Load every row anew, whatever was loaded.")
@destination_option("Feed")
def trigger(transfer: str, path: Path, is_full: bool, only: tuple[str, ...]) -> None:
    """Have the daemon run TRANSFER as soon as it can, paused or not, besides its schedule.

    Destinations that are left alone after failures are tried as well.

    Exit codes: 0 it will run, 1 the daemon refuses or does not run, 2 wrong usage.
    """
    answer = ask(path, "trigger", transfer=transfer, full=is_full, destinations=list(only))
    after = " after the run that is under way" if answer["is_running"] else ""
    say(f"transfer {transfer} will run{after}")


@click.command(short_help="Have the daemon begin no run of a transfer by itself.")
@click.argument("transfer", metavar="TRANSFER")
@config_option
def pause(transfer: str, path: Path) -> None:
    """Have the daemon begin no run of TRANSFER by itself, until it is resumed.

    A run that is under way goes on. A restart of the daemon does not forget it.

    Exit codes: 0 done, 1 the daemon refuses or does not run, 2 wrong usage.
    """
    answer = ask(path, "pause", transfer=transfer)
    after = "; the run that is under way goes on" if answer["is_running"] else ""
    say(f"transfer {transfer} is paused{after}")
    _warn(answer)


@click.command(short_help="Have the daemon run a paused transfer again.")
@click.argument("transfer", metavar="TRANSFER")
@config_option
def resume(transfer: str, path: Path) -> None:
    """Have the daemon run TRANSFER on its schedule again.

    Exit codes: 0 done, 1 the daemon refuses or does not run, 2 wrong usage.
    """
    answer = ask(path, "resume", transfer=transfer)
    say(f"transfer {transfer} runs on its schedule")
    _warn(answer)


@click.command(short_help="Have the daemon read its configuration again.")
@config_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Only say what that would change.")
def reload(path: Path, is_dry: bool) -> int:
    """Have the daemon read its configuration file again, and say what has changed.

    A file with errors changes nothing. Runs that are under way go on as they began.

    Exit codes: 0 done, 1 the daemon refuses or does not run, 2 wrong usage, 78 errors in the file.
    """
    answer = ask(path, "reload", dry_run=is_dry)
    problems = answer.get("problems", [])
    for problem in problems:
        click.echo(f"copyd: {problem}", err=True)
    if problems:
        click.echo("copyd: the old configuration holds", err=True)
        return exits.BAD_CONFIGURATION
    for change in answer["changes"]:
        say(change)
    if not answer["changes"]:
        say("nothing changes" if is_dry else "nothing has changed")
    return 0


def _warn(answer: dict[str, object]) -> None:
    if "warning" in answer:
        click.echo(f"copyd: {answer['warning']}", err=True)
