"""``copyd check``: finds all errors of a configuration file, and at its servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copyd.cli.assembly import build, config_option, open_config, try_server
from copyd.cli.console import say, say_json, show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.config import Config


@click.command(short_help="Check a configuration file, and its servers.")
@config_option
@click.option(
    "--connect", "is_connected", is_flag=True, help="Check servers, tables and privileges too."
)
@click.option("--json", "as_json", is_flag=True, help="With --connect: print JSON instead.")
def check(path: Path, is_connected: bool, as_json: bool) -> int:
    """Check a configuration file and print all errors in it. Also prints warnings.

    With --connect, also check all servers for reasons to refuse a run. The servers are only read.

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
    for name, cluster in config.clusters.items():
        if not cluster.is_stopped_at_exit:
            yield (
                f'clusters.{name}.on_exit: "leave" has no effect under systemd, which stops all '
                "processes of a unit"
            )


def _connect(config: Config, *, as_json: bool) -> int:
    from dataclasses import asdict

    from copyd.cli.views import findings
    from copyd.transfers.check import inspect

    servers = {name: try_server(config, name) for name in config.servers}
    transfers = [build(config, name, servers=servers) for name in config.transfers]
    found = inspect(transfers, list(servers.values()))
    if as_json:
        say_json({"findings": [asdict(each) for each in found]})
    else:
        show(findings.table(found))
    return 1 if any(each.severity == "error" for each in found) else 0
