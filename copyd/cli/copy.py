"""``copyd copy``: copies a table or a query's rows once."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import click

from copyd.cli.assembly import report_option
from copyd.cli.console import say_json
from copyd.cli.options import Seconds
from copyd.cli.run_view import carry_out
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
    help="A destination server; may be repeated.",
)
@click.option("--table", metavar="SCHEMA.TABLE", help="A table with the same name on all servers.")
@click.option("--query", metavar="SQL", help="A query whose rows are copied.")
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
    help="Transport: the connection's byte stream (wire) or libpq.",
)
@click.option(
    "--truncate", is_flag=True, help="TRUNCATE the destination table in the same transaction."
)
@click.option(
    "--stall-timeout",
    type=Seconds(),
    default=60.0,
    show_default=True,
    help="Drop a destination that receives no data for so long.",
)
@click.option(
    "--reintroduce",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="TIMES",
    help="Retry a failed or stalled destination so often, under the same snapshot.",
)
@report_option
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

    CONNINFO is a connection string of libpq: "host=db1 dbname=shop", postgresql://user@db1/shop,
    or "service=shop". Do not put passwords into it: use a password file or a service file. Each
    destination commits on its own; if one fails, it keeps its old rows, and the others continue.

    Exit codes: 0 all destinations have the rows, 1 none, 2 wrong usage, 3 some, or unknown, 130
    interrupted, 143 ended by SIGTERM. After an interrupt no JSON is printed.
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
    result = carry_out(transfer.name, lambda: transfer, as_json=as_json)
    if as_json:
        say_json(result.document)
    return result.exit_code


def one_off(
    source: Server,
    destinations: Iterable[Server],
    what: Tables | Query,
    *,
    truncate: bool = False,
    reintroduce: int = 0,
) -> Transfer:
    """Return a transfer without a ledger, whose rows are inserted in one run."""
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
    # Two destinations may have the same name if only other parameters differ: append a number.
    names = [server.name for server in servers]
    return tuple(
        replace(server, name=f"{server.name} ({position})")
        if names.count(server.name) > 1
        else server
        for position, server in enumerate(servers, start=1)
    )
