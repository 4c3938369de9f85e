"""``copyd copy``: one fan-out, now."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import click

from copyd.cli.console import say
from copyd.cli.options import Seconds
from copyd.cli.run_view import show
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.copyman import LinkName
    from copyd.transfers import Format, Query, Server, Tables, Transfer


@click.command(short_help="Copy a table or a query's rows to many servers at once.")
@click.option("--from", "source", metavar="CONNINFO", required=True, help="The source server.")
@click.option(
    "--to",
    "targets",
    metavar="CONNINFO",
    required=True,
    multiple=True,
    help="A destination server; give one for each.",
)
@click.option("--table", metavar="SCHEMA.TABLE", help="The table, of the same name on all servers.")
@click.option("--query", metavar="SQL", help="A query whose rows are copied instead.")
@click.option("--into", metavar="SCHEMA.TABLE", help="The destination table of a query.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "binary", "csv"]),
    default="text",
    show_default=True,
    help="The COPY format on the wire.",
)
@click.option(
    "--link",
    type=click.Choice(["auto", "wire", "libpq"]),
    default="auto",
    show_default=True,
    help="How the data travels: the byte stream itself, or through libpq.",
)
@click.option(
    "--truncate", is_flag=True, help="Empty the destination tables in the same transaction."
)
@click.option(
    "--stall-timeout",
    type=Seconds(),
    default=60.0,
    show_default=True,
    help="Drop a destination that takes nothing for so long.",
)
@click.option(
    "--reintroduce",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="TIMES",
    help="Feed a destination that was lost or stalled again, under the same snapshot.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON report, and nothing else.")
def copy(
    source: str,
    targets: tuple[str, ...],
    table: str | None,
    query: str | None,
    into: str | None,
    format_: Format,
    link: LinkName,
    truncate: bool,
    stall_timeout: float,
    reintroduce: int,
    as_json: bool,
) -> int:
    """Copy rows from one server to many in a single scan of the source.

    CONNINFO is anything libpq takes: "host=db1 dbname=shop", postgresql://user@db1/shop, or
    "service=shop". Keep passwords out of it: use a password file or a service file. Each
    destination commits on its own; one that fails keeps its old rows, and the others go on.

    Exit codes: 0 all destinations have the rows, 3 some, or it is not known, 1 none, 2 wrong
    usage, 130 interrupted, 143 ended by SIGTERM. Who interrupts copyd gets no JSON.
    """
    from copyd.transfers import Query, Tables

    what: Tables | Query
    match (table, query, into):
        case (str(), None, None):
            what = Tables((table,))
        case (None, str(), str()):
            what = Query(query.strip().rstrip(";"), into)
        case _:
            raise click.UsageError("give either --table, or --query together with --into")
    transfer = one_off(
        _server(source, "--from"),
        _distinct([_server(target, "--to") for target in targets]),
        what,
        truncate=truncate,
        reintroduce=reintroduce,
    )
    transfer = replace(transfer, format=format_, link=link, stall_timeout=stall_timeout)
    shown = show(transfer.name, lambda: transfer, as_json=as_json)
    if as_json:
        from copyd.cli.views import report

        say(report.as_json(shown.document))
    return shown.exit_code


def one_off(
    source: Server,
    destinations: Iterable[Server],
    what: Tables | Query,
    *,
    truncate: bool = False,
    reintroduce: int = 0,
) -> Transfer:
    """Return a transfer that keeps no ledger: rows are added, once."""
    from copyd.transfers import Loading, Reintroduce, Replica, Transfer

    loading = Loading(
        mode="replace" if truncate else "insert", replace_with="truncate", analyze=False
    )
    return Transfer(
        name="copy",
        source=source,
        replicas=tuple(Replica(server, loading) for server in destinations),
        what=what,
        max_shrink=1.0,
        deadline=inf,
        prepare_timeout=30.0,
        stall_timeout=60.0,
        max_wait=None,
        lock_timeout=10.0,
        reintroduce=Reintroduce(attempts=reintroduce, backoff=0.1, max_backoff=5.0),
        format="text",
        ledger=None,
    )


def _server(conninfo: str, option: str) -> Server:
    from copyd.transfers import Server

    try:
        return Server.parse(conninfo)
    except CopydError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _distinct(servers: list[Server]) -> tuple[Server, ...]:
    """Number servers that would be called the same."""
    names = [server.name for server in servers]
    return tuple(
        replace(server, name=f"{server.name} ({position})")
        if names.count(server.name) > 1
        else server
        for position, server in enumerate(servers, start=1)
    )
