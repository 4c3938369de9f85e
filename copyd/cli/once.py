"""``copyd once``: transfers of a configuration file, carried out now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from copyd.cli.building import build, config_option, open_config
from copyd.cli.showing import EXIT_CODES, present, watch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from copyd.transfers import Report, Transfer
    from copyd.transfers.verify import Comparison


@click.command(short_help="Carry out transfers of a configuration file, now.")
@click.argument("transfers", metavar="TRANSFER...", nargs=-1, required=True)
@config_option
@click.option("--full", "is_full", is_flag=True, help="Load every row anew, whatever was loaded.")
@click.option(
    "--destination",
    "only",
    metavar="SERVER",
    multiple=True,
    help="Feed only this destination; give one for each.",
)
@click.option("--verify", "is_verified", is_flag=True, help="Compare all rows afterwards.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON report, and nothing else.")
def once(
    transfers: tuple[str, ...],
    path: Path,
    is_full: bool,
    only: tuple[str, ...],
    is_verified: bool,
    as_json: bool,
) -> int:
    """Carry out each TRANSFER once, one after the other.

    With --verify, every destination that succeeded is compared with the source afterwards: what is
    written to the source meanwhile is a difference.

    Exit codes: 0 all destinations have the rows, 3 some, or it is not known, 1 none (or, with
    --verify, one that succeeded differs), 4 all, but one could not be compared, 2 wrong usage, 78
    bad configuration.
    """
    config = open_config(path)
    chosen = [only_to(build(config, name), only) for name in transfers]
    codes, differs = [], False
    for transfer in chosen:
        ended = watch(transfer, is_full=is_full, as_json=as_json)
        comparison = _compare(transfer, ended) if is_verified else None
        present(ended, comparison, as_json=as_json)
        codes.append(_exit_code(ended, comparison))
        differs = differs or (comparison is not None and comparison.likeness.value == "differs")
    return 1 if differs else _sum_up(codes)


def _compare(transfer: Transfer, ended: Report) -> Comparison:
    """Compare the destinations that a run has fed."""
    from copyd.transfers.verify import verify

    fed = {each.destination for each in ended.outcomes if each.verdict.value == "succeeded"}
    replicas = tuple(each for each in transfer.replicas if each.server.name in fed)
    return verify(replace(transfer, replicas=replicas))


def _exit_code(ended: Report, comparison: Comparison | None) -> int:
    code = EXIT_CODES[ended.verdict.value]
    is_open = comparison is not None and comparison.likeness.value == "not compared"
    return 4 if code == 0 and is_open else code


def only_to(transfer: Transfer, names: Sequence[str]) -> Transfer:
    """Leave out all destinations but those named; raises click.UsageError where there is none."""
    if not names:
        return transfer
    known = [replica.server.name for replica in transfer.replicas]
    for name in names:
        if name not in known:
            raise click.UsageError(
                f"transfer {transfer.name} has no destination {name}: it has {', '.join(known)}"
            )
    replicas = tuple(each for each in transfer.replicas if each.server.name in names)
    minimum = min(transfer.minimum_destinations, len(replicas))
    return replace(transfer, replicas=replicas, minimum_destinations=minimum)


def _sum_up(codes: Sequence[int]) -> int:
    """One exit code for several transfers: 3 where they did not all end alike."""
    return codes[0] if len(set(codes)) == 1 else 3
