"""A run that somebody watches: progress while it lasts, a table or JSON at its end."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from copyd.cli import exits
from copyd.cli.console import deliver, make_console
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.cli.views import Document
    from copyd.transfers import Report, Transfer
    from copyd.transfers.verify import Comparison


@dataclass(frozen=True, slots=True)
class Showing:
    """What is left of a transfer that was shown; `document`: its JSON, for who prints that."""

    exit_code: int
    document: Document
    differs: bool = False


def show(
    name: str,
    make: Callable[[], Transfer],
    *,
    as_json: bool,
    is_full: bool = False,
    is_verified: bool = False,
    is_titled: bool = False,
    allows_rejects: bool = False,
) -> Showing:
    """Carry out the transfer `name`, which `make` makes, and show how it goes and how it ended.

    Where it cannot begin, a sentence on standard error says why. `is_titled`: it is one of
    several. `allows_rejects`: rows that were put aside are no failure. With `as_json` nothing is
    written to standard output.
    """
    from copyd.cli.views import report

    began = time.monotonic()
    if is_titled and not as_json:
        deliver(lambda: click.secho(f"transfer {name}", bold=True))
    try:
        transfer = make()
        ended = _watch(transfer, as_json=as_json, is_full=is_full)
    except CopydError as error:
        whose = f"transfer {name}: " if is_titled else ""
        click.echo(f"copyd: {whose}{error}", err=True)
        seconds = time.monotonic() - began
        return Showing(exits.of_error(error), report.failure(name, str(error), seconds))
    comparison = _compare(transfer, ended) if is_verified else None
    if not as_json:
        _present(ended, comparison)
    likeness = "equal" if comparison is None else comparison.likeness.value
    code = exits.OF_VERDICT[ended.verdict.value]
    if code == 0 and not allows_rejects and any(each.counts.rejected for each in ended.outcomes):
        code = exits.PARTLY
    for pending in ended.pending:
        click.echo(f"copyd: rejects stay pending: {pending}", err=True)
    return Showing(
        exits.NOT_COMPARED if code == 0 and likeness == "not compared" else code,
        report.document(ended, comparison),
        differs=likeness == "differs",
    )


def _watch(transfer: Transfer, *, as_json: bool, is_full: bool) -> Report:
    """Carry out `transfer` and show how it goes.

    Raises CopydError where it cannot begin.
    """
    from copyd.cli.views import RunProgress
    from copyd.observe import Fanout
    from copyd.transfers import run

    progress = RunProgress(make_console())
    fanout = Fanout({} if as_json else {"progress": progress})
    try:
        deliver(progress.start)
        ended = run(transfer, is_full=is_full, observe=fanout)
    finally:
        deliver(progress.stop)
    for failure in fanout.failures.values():
        click.echo(f"copyd: progress could not be shown: {failure}", err=True)
    return ended


def _compare(transfer: Transfer, ended: Report) -> Comparison:
    """Compare the destinations that a run has fed."""
    from copyd.transfers.verify import verify

    fed = {each.destination for each in ended.outcomes if each.verdict.value == "succeeded"}
    replicas = tuple(each for each in transfer.replicas if each.server.name in fed)
    return verify(replace(transfer, replicas=replicas))


def _present(ended: Report, comparison: Comparison | None) -> None:
    """Show how a run ended, and what came of comparing its destinations."""
    from copyd.cli.views import report

    console = make_console()
    # A terminal, not what FORCE_COLOR takes for one: servers may quote rows there.
    is_private = sys.stdout is not None and sys.stdout.isatty()
    deliver(lambda: console.print(report.table(ended, is_private=is_private)))
    if comparison is not None and (comparison.tables or comparison.cause):
        compared = report.comparison_table(comparison)
        deliver(lambda: console.print(compared))
