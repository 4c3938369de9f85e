"""``copyd once``: runs transfers of a configuration file now."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from copyd.cli import exits
from copyd.cli.assembly import (
    build,
    choose,
    config_option,
    destination_option,
    full_option,
    open_config,
    report_option,
)
from copyd.cli.console import say_json
from copyd.cli.run_view import carry_out

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Run transfers of a configuration file now.")
@click.argument("transfers", metavar="TRANSFER...", nargs=-1, required=True)
@config_option
@full_option
@destination_option("Feed")
@click.option("--verify", "is_verified", is_flag=True, help="Compare all rows afterwards.")
@click.option("--allow-rejects", "allows_rejects", is_flag=True, help="Exit 0 despite rejects.")
@report_option
def once(
    transfers: tuple[str, ...],
    path: Path,
    is_full: bool,
    only: tuple[str, ...],
    is_verified: bool,
    allows_rejects: bool,
    as_json: bool,
) -> int:
    """Run each TRANSFER once, in this order; a failure does not stop the next transfer.

    With --verify, compare each destination that succeeded with the source after the run. Rows
    written to the source in between differ.

    With --json, one transfer is an object, several are an array. After an interrupt nothing is
    printed.

    If the transfer has on_error = "resume_next", invalid rows are rejected and the run continues;
    see copyd rejects.

    Exit codes: 0 all destinations have the rows; 1 no destination, or fewer than
    minimum_destinations, or with --verify a difference; 2 wrong usage; 3 some destinations, or
    unknown, or rejects (0 with --allow-rejects), or several transfers with different results; 4 all
    destinations, but one could not be compared; 78 bad configuration; 130 interrupted, 143 ended by
    SIGTERM.
    """
    config = open_config(path)
    for name in transfers:
        choose(config, name, only)  # wrong usage is refused before the first run
    is_titled = len(transfers) > 1
    results = [
        carry_out(
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
        documents = [each.document for each in results]
        say_json(documents if is_titled else documents[0])
    if any(each.differs for each in results):
        return exits.FAILED
    codes = {each.exit_code for each in results}
    return codes.pop() if len(codes) == 1 else exits.PARTLY
