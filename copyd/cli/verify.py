"""``copyd verify``: whether destinations hold what the source holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copyd.cli.building import build, config_option, open_config
from copyd.cli.console import deliver, make_console
from copyd.cli.once import only_to

if TYPE_CHECKING:
    from pathlib import Path

    from copyd.transfers.verify import Comparison

EXIT_CODES = {"equal": 0, "differs": 1, "not compared": 4}


@click.command(short_help="Compare all rows of a transfer with the source.")
@click.argument("name", metavar="TRANSFER")
@config_option
@click.option(
    "--destination",
    "destinations",
    metavar="SERVER",
    multiple=True,
    help="Compare only this destination; give one for each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON report, and nothing else.")
def verify(name: str, path: Path, destinations: tuple[str, ...], as_json: bool) -> int:
    """Compare every table of TRANSFER at every destination with the source.

    Each server counts and hashes its own rows, the source in one snapshot, each destination in
    one of its own: what is written in between is a difference. So is a row that an append or a
    merge has left in place after the source deleted it. Nothing is written anywhere.

    Exit codes: 0 equal everywhere, 1 something differs, 4 something could not be compared, 2 wrong
    usage, 78 bad configuration.
    """
    from copyd.transfers.verify import verify as compare

    transfer = only_to(build(open_config(path), name), destinations)
    comparison = compare(transfer)
    _show(comparison, as_json=as_json)
    return EXIT_CODES[comparison.likeness.value]


def _show(comparison: Comparison, *, as_json: bool) -> None:
    from copyd.observe import report

    if as_json:
        text = report.comparison_as_json(comparison)
        deliver(lambda: click.echo(text))
    elif comparison.cause is None:
        console = make_console()
        deliver(lambda: console.print(report.comparison_table(comparison)))
    if comparison.cause is not None:
        click.echo(f"copyd: {comparison.cause}", err=True)
