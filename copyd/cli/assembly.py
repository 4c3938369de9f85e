"""From a configuration file to what carries transfers out; nothing else knows both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from copyd.config import Config
    from copyd.config import Transfer as Section
    from copyd.transfers import Loading, Query, RejectPolicy, Server, Tables, Transfer

DEFAULT_CONFIG = Path("/etc/copyd/config.toml")

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    metavar="FILE",
    help="The configuration file.",
)


def destination_option(verb: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: the names of the destinations to `verb`, as the parameter `only`."""
    return click.option(
        "--destination",
        "only",
        metavar="SERVER",
        multiple=True,
        help=f"{verb} only this destination; give one for each.",
    )


def open_config(path: Path) -> Config:
    """Load the configuration at `path` for this process; raises ConfigError."""
    from copyd.config import load

    return load(path, environ=os.environ, is_root=os.geteuid() == 0)


def choose(config: Config, name: str, only: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the destinations of the transfer `name`, or those of them that `only` names.

    Raises click.UsageError where there is no such transfer or destination.
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
    """Make the transfer called `name` from `config`, feeding the destinations `only`, or all.

    Its servers are those of `servers`, or made. A destination's server that cannot be made is one
    with a problem, so that the others are fed.

    Raises click.UsageError as `choose` does; for the source ConfigError where its password file
    cannot be used, ClusterNotRunningError where a cluster's server has no address yet.
    """
    from copyd.transfers import Reintroduce, Replica, Transfer

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
        minimum_destinations=min(section.minimum_destinations, len(chosen)),
        format=section.format,
        ledger=section.ledger_schema,
        on_error=section.on_error,
        rejects=_rejects(config, name),
    )


def build_server(config: Config, name: str) -> Server:
    """Make the server called `name` of `config`, with its password; raises as `build` does."""
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
    """Make the server called `name`; where it cannot be made, one that has this as its problem."""
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
    # Where a server listens, its data directory says: no program is run.
    no_programs = Installation({"version": "PostgreSQL"})
    cluster = Cluster(no_programs, data_directory, on_parent_exit="leave")
    folders = Folders(config.daemon.state_directory, config.daemon.runtime_directory)
    passfile = folders.files_of(data_directory).passfile  # the daemon's, where it made the cluster
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


def _rejects(config: Config, name: str) -> RejectPolicy:
    from copyd.transfers import RejectPolicy

    section = config.transfers[name]
    return RejectPolicy(
        directory=config.reject_directory_of(name),
        batch_rows=section.batch_rows,
        batch_size=section.batch_size,
        max_rejects=section.max_rejects,
        max_reject_ratio=section.max_reject_ratio,
        keep=section.keep_rejects,
    )


def _loading(section: Section, name: str) -> Loading:
    """Return how tables are loaded at the destination `name`: its own keys, else the transfer's."""
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
