"""A run that somebody watches: progress while it lasts, a table or JSON at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copyd.cli.console import deliver, make_console
from copyd.errors import CopydError

if TYPE_CHECKING:
    from copyd.transfers import Report, Transfer
    from copyd.transfers.verify import Comparison

EXIT_CODES = {"succeeded": 0, "failed": 1, "partial": 3, "unknown": 3}


def show(transfer: Transfer, *, as_json: bool, is_full: bool = False) -> Report:
    """Carry out `transfer` and show how it goes and how it ended.

    Raises CopydError where it cannot begin.
    """
    ended = watch(transfer, as_json=as_json, is_full=is_full)
    present(ended, as_json=as_json)
    return ended


def watch(transfer: Transfer, *, as_json: bool, is_full: bool = False) -> Report:
    """Carry out `transfer` and show how it goes.

    Raises CopydError where it cannot begin.
    """
    from copyd.observe import report
    from copyd.observe.progress import RunProgress
    from copyd.observe.tee import Tee
    from copyd.transfers import run

    console = make_console()
    progress = RunProgress(console)
    tee = Tee() if as_json else Tee(progress)
    try:
        deliver(progress.start)
        ended = run(transfer, is_full=is_full, observe=tee)
    except CopydError as error:
        if as_json:
            text = report.failure_as_json(str(error))
            deliver(lambda: click.echo(text))
        raise
    finally:
        deliver(progress.stop)
    for failure in tee.failures:
        click.echo(f"copyd: progress could not be shown: {failure}", err=True)
    return ended


def present(ended: Report, comparison: Comparison | None = None, *, as_json: bool) -> None:
    """Show how a run ended, and what came of comparing its destinations."""
    from copyd.observe import report

    if as_json:
        deliver(lambda: click.echo(report.as_json(ended, comparison)))
        return
    console = make_console()
    deliver(lambda: console.print(report.table(ended, is_private=console.is_terminal)))
    if comparison is not None and (comparison.tables or comparison.cause):
        compared = report.comparison_table(comparison)
        deliver(lambda: console.print(compared))
