"""``copyd trigger``, ``pause``, ``resume`` and ``reload``: requests to a running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copyd.cli import exits
from copyd.cli.assembly import config_option, destination_option, full_option, transfer_argument
from copyd.cli.console import say
from copyd.cli.control_client import ask

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Run a transfer in the daemon now.")
@transfer_argument
@config_option
@full_option
@destination_option("Feed")
def trigger(transfer: str, path: Path, is_full: bool, only: tuple[str, ...]) -> None:
    """Have the daemon run TRANSFER as soon as possible, even if paused; the schedule is kept.

    The run also tries destinations that are skipped after failures.

    Exit codes: 0 accepted, 1 the daemon refuses or does not run, 2 wrong usage.
    """
    answer = ask(path, "trigger", transfer=transfer, full=is_full, destinations=list(only))
    after = " after the current run" if answer["is_running"] else ""
    say(f"transfer {transfer} will run{after}")


@click.command(short_help="Suspend the schedule of a transfer.")
@transfer_argument
@config_option
def pause(transfer: str, path: Path) -> None:
    """Suspend the schedule of TRANSFER until copyd resume, even over restarts of the daemon.

    A current run continues.

    Exit codes: 0 done, 1 the daemon refuses or does not run, 2 wrong usage.
    """
    answer = ask(path, "pause", transfer=transfer)
    after = "; the current run continues" if answer["is_running"] else ""
    say(f"transfer {transfer} is paused{after}")
    _warn(answer)


@click.command(short_help="Resume the schedule of a paused transfer.")
@transfer_argument
@config_option
def resume(transfer: str, path: Path) -> None:
    """Resume the schedule of TRANSFER after copyd pause.

    Exit codes: 0 done, 1 the daemon refuses or does not run, 2 wrong usage.
    """
    answer = ask(path, "resume", transfer=transfer)
    say(f"transfer {transfer} runs on its schedule")
    _warn(answer)


@click.command(short_help="Reload the daemon's configuration.")
@config_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Only print the changes.")
def reload(path: Path, is_dry: bool) -> int:
    """Have the daemon reload its configuration file, and print the changes.

    A file with errors changes nothing. Current runs keep their configuration.

    Exit codes: 0 done, 1 the daemon refuses or does not run, 2 wrong usage, 78 errors in the file.
    """
    answer = ask(path, "reload", dry_run=is_dry)
    problems = answer.get("problems", [])
    for problem in problems:
        click.echo(f"copyd: {problem}", err=True)
    if problems:
        click.echo("copyd: the old configuration stays in effect", err=True)
        return exits.BAD_CONFIGURATION
    for change in answer["changes"]:
        say(change)
    if not answer["changes"]:
        say("nothing would change" if is_dry else "nothing has changed")
    return 0


def _warn(answer: dict[str, object]) -> None:
    if "warning" in answer:
        click.echo(f"copyd: {answer['warning']}", err=True)
