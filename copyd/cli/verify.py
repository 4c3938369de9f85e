"""``copyd verify``: whether destinations hold what the source holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copyd.cli import exits
from copyd.cli.assembly import build, config_option, destination_option, open_config
from copyd.cli.console import deliver, make_console, say
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from copyd.config import Config
    from copyd.transfers.verify import Comparison


@click.command(short_help="Compare all rows of a transfer with the source.")
@click.argument("name", metavar="TRANSFER")
@config_option
@destination_option("Compare")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON report, and nothing else.")
def verify(name: str, path: Path, only: tuple[str, ...], as_json: bool) -> int:
    """Compare every table of TRANSFER at every destination with the source.

    Each server counts and hashes its own rows, the source in one snapshot, each destination in
    one of its own: what is written in between is a difference. So is a row that an append or a
    merge has left in place after the source deleted it. Nothing is written anywhere.

    Exit codes: 0 equal everywhere, 1 something differs, 4 something could not be compared, 2 wrong
    usage, 78 bad configuration, 130 interrupted, 143 ended by SIGTERM.
    """
    comparison = _compare(open_config(path), name, only)
    _show(comparison, as_json=as_json)
    return exits.OF_LIKENESS[comparison.likeness.value]


def _compare(config: Config, name: str, only: Sequence[str]) -> Comparison:
    """Compare; raises ConfigError, and nothing else where there is no source to compare with."""
    from copyd.config import ConfigError
    from copyd.transfers.verify import Comparison
    from copyd.transfers.verify import verify as compare

    try:
        return compare(build(config, name, only))
    except ConfigError:
        raise
    except CopydError as error:
        return Comparison(name, 0.0, (), str(error))


def _show(comparison: Comparison, *, as_json: bool) -> None:
    from copyd.cli.views import report

    if as_json:
        say(report.as_json(report.comparison_document(comparison)))
    elif comparison.cause is None:
        console = make_console()
        deliver(lambda: console.print(report.comparison_table(comparison)))
    if comparison.cause is not None:
        click.echo(f"copyd: {comparison.cause}", err=True)
