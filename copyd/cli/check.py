"""``copyd check``: every error of a configuration file, and of the servers that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copyd.cli.assembly import build, config_option, open_config, try_server
from copyd.cli.console import deliver, make_console, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.config import Config


@click.command(short_help="Check a configuration file, and the servers that it names.")
@config_option
@click.option(
    "--connect", "is_connected", is_flag=True, help="Look at servers, tables and privileges too."
)
@click.option("--json", "as_json", is_flag=True, help="With --connect: print JSON instead.")
def check(path: Path, is_connected: bool, as_json: bool) -> int:
    """Check a configuration file, and name every error in it.

    What is no error but may not be meant is told as well.

    With --connect, look at all servers as well, and find everything that a run would refuse.
    Nothing is changed there.

    Exit codes: 0 no errors, 1 errors at the servers, 2 wrong usage, 78 errors in the file, 130
    interrupted, 143 ended by SIGTERM.
    """
    if as_json and not is_connected:
        raise click.UsageError("--json needs --connect")
    config = open_config(path)
    if is_connected:
        return _connect(config, as_json=as_json)
    from copyd.transfers import counted

    servers = counted(len(config.servers), "server")
    transfers = counted(len(config.transfers), "transfer")
    say(f"{path}: no errors, {servers}, {transfers}")
    for warning in _warnings(config):
        say(f"{path}: {warning}")
    return 0


def _warnings(config: Config) -> Iterator[str]:
    """Yield what is no error, and may not be what was meant."""
    for name, cluster in config.clusters.items():
        if not cluster.is_stopped_at_exit:
            yield (
                f'clusters.{name}.on_exit: "leave" works outside systemd only, which ends what a '
                "unit has started, whatever copyd says"
            )


def _connect(config: Config, *, as_json: bool) -> int:
    from copyd.cli.views import findings
    from copyd.transfers.check import inspect

    servers = {name: try_server(config, name) for name in config.servers}
    transfers = [build(config, name, servers=servers) for name in config.transfers]
    found = inspect(transfers, list(servers.values()))
    if as_json:
        say(findings.as_json(found))
    else:
        console = make_console()
        deliver(lambda: console.print(findings.table(found)))
    return 1 if any(each.severity == "error" for each in found) else 0
