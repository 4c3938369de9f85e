"""A run in the foreground: its progress, then a table or JSON."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from copyd.cli import exits
from copyd.cli.console import deliver, make_console, show
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.cli.views import Document
    from copyd.transfers import Report, Transfer
    from copyd.transfers.verify import Comparison


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a transfer that was carried out; ``document``: the report for --json."""

    exit_code: int
    document: Document
    differs: bool = False


def carry_out(
    name: str,
    make: Callable[[], Transfer],
    *,
    as_json: bool,
    is_full: bool = False,
    is_verified: bool = False,
    is_titled: bool = False,
    allows_rejects: bool = False,
) -> CommandResult:
    """Carry out the transfer that `make` returns; print its progress and its result.

    If it cannot begin, the error is printed to standard error. `is_titled`: its name is printed as
    well. `as_json`: nothing is printed to standard output.
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
        return CommandResult(exits.of_error(error), report.failure(name, str(error), seconds))
    comparison = _compare(transfer, ended) if is_verified else None
    if not as_json:
        # Not console.is_terminal, which FORCE_COLOR sets: only a terminal may show quoted rows.
        # Decision: Facts instead of the server's words
        is_private = sys.stdout is not None and sys.stdout.isatty()
        show(report.table(ended, is_private=is_private))
        if comparison is not None and (comparison.tables or comparison.cause):
            show(report.comparison_table(comparison))
    likeness = "equal" if comparison is None else comparison.likeness.value
    code = exits.OF_VERDICT[ended.verdict.value]
    if code == 0 and not allows_rejects and any(each.counts.rejected for each in ended.outcomes):
        code = exits.PARTLY
    for pending in ended.pending:  # it is unknown yet whether their rows were committed
        click.echo(f"copyd: rejects stay pending: {pending}", err=True)
    return CommandResult(
        exits.NOT_COMPARED if code == 0 and likeness == "not compared" else code,
        report.document(ended, comparison),
        differs=likeness == "differs",
    )


def _watch(transfer: Transfer, *, as_json: bool, is_full: bool) -> Report:
    from copyd.cli.views import RunProgress
    from copyd.observe import Fanout
    from copyd.transfers import run

    progress = RunProgress(make_console())  # an observer: a broken terminal does not stop the run
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
    from copyd.transfers.verify import verify

    fed = {each.destination for each in ended.outcomes if each.verdict.value == "succeeded"}
    replicas = tuple(each for each in transfer.replicas if each.server.name in fed)
    return verify(replace(transfer, replicas=replicas))
