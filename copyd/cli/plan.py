"""``copyd plan``: the statements that a run would send."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click

from copyd.cli.assembly import build, config_option, destination_option, open_config
from copyd.cli.console import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.transfers.plan import Script


@click.command(short_help="Print the statements that a run would send.")
@click.argument("transfer", metavar="TRANSFER")
@config_option
@destination_option("Plan for")
@click.option("--full", "is_full", is_flag=True, help="As with copyd once --full.")
def plan(transfer: str, path: Path, only: tuple[str, ...], is_full: bool) -> int:
    """Print the statements that copyd once TRANSFER would send, in their order, and send none.

    They are those of a run that meets no fault, as the source and the ledgers are now; look-ups
    in the catalogs are left out. :run, :mark and :unknown stand for what only the run will know.

    Exit codes: 0 printed, 1 a run would fail at the source or at a destination, 2 wrong usage,
    78 bad configuration, 130 interrupted, 143 ended by SIGTERM.
    """
    from copyd.transfers.plan import plan as make_plan

    chosen = build(open_config(path), transfer, only)
    scripts = make_plan(chosen, is_full=is_full)
    say("\n\n".join("\n".join(_lines(script)) for script in scripts))
    return 1 if any(script.refusal is not None for script in scripts) else 0


def _lines(script: Script) -> Iterator[str]:
    yield f"-- {script.server}: {script.purpose}"
    if script.refusal is not None:
        yield f"-- refused: {script.refusal}"
    for is_setting, statements in groupby(script.statements, key=_is_setting):
        ended = [f"{statement};" for statement in statements]
        yield from [" ".join(ended)] if is_setting else ended


def _is_setting(statement: str) -> bool:
    return statement.startswith("SET LOCAL ")
