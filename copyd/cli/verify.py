"""``copyd verify``: compares all rows at the destinations with the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copyd.cli import exits
from copyd.cli.assembly import (
    build,
    config_option,
    destination_option,
    open_config,
    report_option,
    transfer_argument,
)
from copyd.cli.console import say_json, show
from copyd.errors import CopydError

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Compare all rows of a transfer with the source.")
@transfer_argument
@config_option
@destination_option("Compare")
@report_option
def verify(transfer: str, path: Path, only: tuple[str, ...], as_json: bool) -> int:
    """Compare every table of TRANSFER at every destination with the source.

    Each server counts and hashes its rows in a snapshot of its own, so that rows written in between
    differ. So do rows that were deleted at the source only, with append or merge. Nothing is
    written.

    Exit codes: 0 equal everywhere, 1 something differs, 4 something could not be compared, 2 wrong
    usage, 78 bad configuration, 130 interrupted, 143 ended by SIGTERM.
    """
    from copyd.cli.views import report
    from copyd.config import ConfigError
    from copyd.transfers.verify import Comparison
    from copyd.transfers.verify import verify as compare

    try:
        comparison = compare(build(open_config(path), transfer, only))
    except ConfigError:
        raise
    except CopydError as error:  # no source to compare with: a verdict, also in JSON
        comparison = Comparison(transfer, 0.0, (), str(error))
    if as_json:
        say_json(report.comparison_document(comparison))
    elif comparison.cause is None:
        show(report.comparison_table(comparison))
    if comparison.cause is not None:
        click.echo(f"copyd: {comparison.cause}", err=True)
    return exits.OF_LIKENESS[comparison.likeness.value]
