"""Builds transfers and servers from a configuration; options shared by commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from copyd.config import Config
    from copyd.config import Transfer as Section
    from copyd.transfers import Loading, Query, Server, Tables, Transfer

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("/etc/copyd/config.toml"),
    show_default=True,
    metavar="FILE",
    help="The configuration file.",
)
transfer_argument = click.argument("transfer", metavar="TRANSFER")
full_option = click.option(
    "--full", "is_full", is_flag=True, help="Load all rows again, also those already loaded."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
report_option = click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON report, and nothing else."
)


def destination_option(verb: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """Return a decorator for the parameter ``only``: the names of the destinations to `verb`."""
    return click.option(
        "--destination",
        "only",
        metavar="SERVER",
        multiple=True,
        help=f"{verb} only this destination; may be repeated.",
    )


def open_config(path: Path) -> Config:
    """Load the configuration file with this process's environment; raises ConfigError."""
    from copyd.config import load

    return load(path, environ=os.environ, is_root=os.geteuid() == 0)


def choose(config: Config, name: str, only: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the destinations of the transfer `name`, or those in `only`.

    Raises click.UsageError if the transfer or a destination is not configured.
    """
    from copyd.config import suggestion

    section = config.transfers.get(name)
    if section is None:
        near = suggestion(name, config.transfers)
        raise click.UsageError(f"there is no transfer {name} in the configuration{near}")
    for each in only:
        if each not in section.destinations:
            known = ", ".join(section.destinations)
            raise click.UsageError(f"transfer {name} has no destination {each}: it has {known}")
    return tuple(each for each in section.destinations if not only or each in only)


def build(
    config: Config,
    name: str,
    only: Sequence[str] = (),
    *,
    servers: Mapping[str, Server] | None = None,
) -> Transfer:
    """Return the transfer `name` for the destinations in `only`, or for all.

    Without `servers` they are built. An unusable destination becomes a server with a problem: a run
    still feeds the others.

    Raises click.UsageError like `choose`. For the source, raises ConfigError if the password file
    cannot be used, ClusterNotRunningError if a cluster's server has no address yet.
    """
    from copyd.transfers import Reintroduce, RejectPolicy, Replica, Transfer

    chosen = choose(config, name, only)
    section = config.transfers[name]
    if servers is None:
        servers = {each: try_server(config, each) for each in chosen}
        source = build_server(config, section.source)
    else:
        source = servers[section.source]
    return Transfer(
        name=name,
        source=source,
        replicas=tuple(Replica(servers[each], _loading(section, each)) for each in chosen),
        what=_what(section),
        key=section.key,
        cursor=section.cursor,
        overlap=section.overlap,
        full_every=section.full_every,
        delete_missing=section.delete_missing,
        max_shrink=section.max_shrink,
        deadline=section.deadline,
        prepare_timeout=section.prepare_timeout,
        stall_timeout=section.stall_timeout,
        answer_timeout=section.answer_timeout,
        max_wait=section.max_wait,
        lock_timeout=section.lock_timeout,
        reintroduce=Reintroduce(**dict(section.reintroduce)),
        # With `only` the minimum may be out of reach.
        minimum_destinations=min(section.minimum_destinations, len(chosen)),
        format=section.format,
        ledger=section.ledger_schema,
        on_error=section.on_error,
        rejects=RejectPolicy(
            directory=config.reject_directory_of(name),
            batch_rows=section.batch_rows,
            batch_size=section.batch_size,
            max_rejects=section.max_rejects,
            max_reject_ratio=section.max_reject_ratio,
            keep=section.keep_rejects,
        ),
    )


def build_server(config: Config, name: str) -> Server:
    """Return the server `name` with its password; raises like `build`."""
    from psycopg.conninfo import make_conninfo

    from copyd.config import read_password
    from copyd.transfers import Server

    section = config.servers[name]
    if section.conninfo is not None:
        conninfo = section.conninfo.get_secret_value()
    else:
        conninfo = _cluster_conninfo(config, section.cluster or "", section.dbname or "")
    more: dict[str, str] = {}
    if section.password_file is not None:
        key = f"servers.{name}.password_file"
        more["password"] = read_password(section.password_file, key=key)
    if section.passfile is not None:
        more["passfile"] = str(section.passfile)
    return Server(name, make_conninfo(conninfo, **more))


def try_server(config: Config, name: str) -> Server:
    """Return the server `name`; if that fails, a server with the error as its problem."""
    from copyd.transfers import Server

    try:
        return build_server(config, name)
    except CopydError as error:
        return Server(name, "", problem=str(error))


def _cluster_conninfo(config: Config, name: str, dbname: str) -> str:
    from psycopg.conninfo import make_conninfo

    from copyd.cluster import Cluster, Installation
    from copyd.daemon.keeper import Folders

    data_directory = config.clusters[name].data_directory
    # The address is in the data directory's files: no program is needed.
    no_programs = Installation({"version": "PostgreSQL"})
    cluster = Cluster(no_programs, data_directory, on_parent_exit="leave")
    folders = Folders(config.daemon.state_directory, config.daemon.runtime_directory)
    passfile = folders.files_of(data_directory).passfile  # exists if the daemon made the cluster
    more = {"passfile": str(passfile)} if os.access(passfile, os.R_OK) else {}
    return make_conninfo(cluster.conninfo(dbname), **more)


def _what(section: Section) -> Tables | Query:
    from copyd.names import parse_table_name
    from copyd.transfers import Query, TableOptions, Tables

    if section.query is not None:
        return Query(section.query.strip().rstrip(";"), str(section.into))
    return Tables(
        names=tuple(map(str, section.tables or ())),
        options={
            str(parse_table_name(text)): TableOptions(**dict(each))
            for text, each in section.table.items()
        },
    )


def _loading(section: Section, name: str) -> Loading:
    # A key of the destination overrides the transfer's. An empty list does too.
    from copyd.names import parse_table_name
    from copyd.transfers import Loading

    own = section.at(name)
    return Loading(
        mode=section.mode_at(name),
        replace_with=own.replace_with or section.replace_with,
        triggers=own.triggers or section.triggers,
        before=section.before if own.before is None else own.before,
        after=section.after if own.after is None else own.after,
        after_commit=section.after_commit if own.after_commit is None else own.after_commit,
        analyze=section.analyze if own.analyze is None else own.analyze,
        adopt=own.adopt,
        physical_clone=own.physical_clone,
        tables={str(parse_table_name(text)): str(there) for text, there in own.tables.items()},
    )
