"""``copyd once``: transfers of a configuration file, carried out now."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from copyd.cli import exits
from copyd.cli.assembly import build, choose, config_option, destination_option, open_config
from copyd.cli.console import say
from copyd.cli.run_view import show

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@click.command(short_help="Carry out transfers of a configuration file, now.")
@click.argument("transfers", metavar="TRANSFER...", nargs=-1, required=True)
@config_option
@click.option("--full", "is_full", is_flag=True, help="Load every row anew, whatever was loaded.")
@destination_option("Feed")
@click.option("--verify", "is_verified", is_flag=True, help="Compare all rows afterwards.")
@click.option("--allow-rejects", "allows_rejects", is_flag=True, help="Rejected rows are fine.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON report, and nothing else.")
def once(
    transfers: tuple[str, ...],
    path: Path,
    is_full: bool,
    only: tuple[str, ...],
    is_verified: bool,
    allows_rejects: bool,
    as_json: bool,
) -> int:
    """Carry out each TRANSFER once, one after the other.

    One that fails does not keep those after it from their turn. With --verify, every destination
    that succeeded is compared with the source afterwards: what is written to the source meanwhile
    is a difference.

    With --json, one transfer is an object, several are an array of them. Who interrupts copyd
    gets no JSON.

    Rows that a destination refuses are put aside where the transfer says so (on_error); see
    ``copyd rejects``.

    Exit codes: 0 all destinations have the rows, 3 some, or it is not known, or rows were put aside
    (0 with --allow-rejects), 1 none, or fewer
    than minimum_destinations (or, with --verify, one that succeeded differs), 4 all, but one
    could not be compared, 2 wrong usage, 78 bad configuration, 130 interrupted, 143 ended by
    SIGTERM. Several transfers that did not end alike: 3.
    """
    config = open_config(path)
    for name in transfers:
        choose(config, name, only)  # wrong usage ends it before anything is done
    is_titled = len(transfers) > 1
    shown = [
        show(
            name,
            partial(build, config, name, only),
            as_json=as_json,
            is_full=is_full,
            is_verified=is_verified,
            is_titled=is_titled,
            allows_rejects=allows_rejects,
        )
        for name in transfers
    ]
    if as_json:
        from copyd.cli.views import report

        documents = [each.document for each in shown]
        say(report.as_json(documents if is_titled else documents[0]))
    if any(each.differs for each in shown):
        return exits.FAILED
    return _sum_up([each.exit_code for each in shown])


def _sum_up(codes: Sequence[int]) -> int:
    """One exit code for several transfers: 3 where they did not all end alike."""
    return codes[0] if len(set(codes)) == 1 else exits.PARTLY
