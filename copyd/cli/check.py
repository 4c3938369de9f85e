"""``copyd check``: every error of a configuration file, and of the servers that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copyd.cli.building import build, build_server, config_option, open_config
from copyd.cli.console import make_console
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Sized
    from pathlib import Path

    from copyd.config import Config
    from copyd.transfers import Server
    from copyd.transfers.findings import Finding


@click.command(short_help="Check a configuration file, and the servers that it names.")
@config_option
@click.option(
    "--connect", "is_connected", is_flag=True, help="Look at servers, tables and privileges too."
)
@click.option("--json", "as_json", is_flag=True, help="With --connect: print JSON instead.")
def check(path: Path, is_connected: bool, as_json: bool) -> int:
    """Check a configuration file, and name every error in it.

    With --connect, look at all servers as well, and find everything that a run would refuse.
    Nothing is changed there.

    Exit codes: 0 no errors, 1 errors at the servers, 78 errors in the file.
    """
    if as_json and not is_connected:
        raise click.UsageError("--json needs --connect")
    config = open_config(path)
    if is_connected:
        return _connect(config, as_json=as_json)
    servers = _counted(config.servers, "server")
    transfers = _counted(config.transfers, "transfer")
    click.echo(f"{path}: no errors, {servers}, {transfers}")
    return 0


def _connect(config: Config, *, as_json: bool) -> int:
    from copyd.observe import findings
    from copyd.transfers import Server
    from copyd.transfers.inspection import inspect

    servers, found = _build_servers(config)

    def make(name: str) -> Server:
        return servers[name] if name in servers else Server(name, "")  # nobody connects to it

    transfers = [build(config, name, make=make) for name in config.transfers]
    found += inspect(transfers, list(servers.values()))
    if as_json:
        click.echo(findings.as_json(found))
    else:
        make_console().print(findings.table(found))
    return 1 if any(each.severity == "error" for each in found) else 0


def _build_servers(config: Config) -> tuple[dict[str, Server], list[Finding]]:
    """Make the servers that can be made; why the others cannot is a finding each."""
    from copyd.transfers.findings import Finding

    servers: dict[str, Server] = {}
    found: list[Finding] = []
    for name in config.servers:
        try:
            servers[name] = build_server(config, name)
        except CopydError as error:
            found.append(Finding("", name, "", "error", str(error)))
    return servers, found


def _counted(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}" if len(things) == 1 else f"{len(things)} {noun}s"
