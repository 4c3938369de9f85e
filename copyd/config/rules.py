"""Rules between keys, judged on a whole, valid model. Pure; every rule yields its problems."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from copyd.config.collisions import collisions, identity
from copyd.config.problems import KeyPath, Problem, shown, spelled, suggestion
from copyd.config.units import spell_duration
from copyd.names import TableName, parse_table_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from copyd.config.model import Cluster, Config, Server, Transfer

    Rule = Callable[["Subject"], Iterator[Problem]]

MODES = ("mode", "destinations", "destination")  # the keys that select the modes
WHAT = ("tables", "query", "into")  # the keys that select the rows to copy
INCREMENTAL = {"append", "merge"}
ONLY_WITH_REJECTS = ("batch_rows", "batch_size", "max_rejects", "max_reject_ratio")
"""The keys that need on_error = "resume_next"; the others also concern earlier rejects."""


class Subject(NamedTuple):
    """A transfer to check, with the whole configuration."""

    config: Config
    name: str
    transfer: Transfer

    def problem(
        self, keys: KeyPath, text: str, *reads: str, also: Sequence[KeyPath] = ()
    ) -> Problem:
        """Return a problem at `keys` of the transfer; the rule has also read `reads` and `also`."""
        place = ("transfers", self.name)
        return Problem((*place, *keys), text, (*((*place, key) for key in reads), *also))

    @property
    def modes(self) -> set[str]:
        """All modes in use at the destinations."""
        return {self.transfer.mode_at(name) for name in self.transfer.destinations}

    def takes(self, table: TableName) -> bool:
        """Whether the transfer copies `table`, or a query's rows to it."""
        patterns = self.transfer.tables or ()
        return table == self.transfer.into or any(each.matches(table) for each in patterns)


def judge(config: Config) -> Iterator[Problem]:
    """Yield the problems between keys of `config`."""
    for name, server in config.servers.items():
        yield from _server(config, name, server)
    for name in config.clusters:
        yield from _cluster(config, name)
    for name, transfer in config.transfers.items():
        subject = Subject(config, name, transfer)
        for rule in RULES:
            yield from rule(subject)
    yield from collisions(config)


def _server(config: Config, name: str, server: Server) -> Iterator[Problem]:
    path = ("servers", name)
    both = ((*path, "conninfo"), (*path, "cluster"))
    if (server.conninfo is None) == (server.cluster is None):
        got = "neither" if server.conninfo is None else "both"
        yield Problem(path, f"expected either conninfo or cluster, got {got}", both)
    elif server.cluster is not None and server.dbname is None:
        yield Problem((*path, "dbname"), "expected a database of the cluster, got none")
    elif server.conninfo is not None and server.dbname is not None:
        text = "valid only with cluster; with conninfo, write it into the conninfo"
        yield Problem((*path, "dbname"), text, both)
    if server.cluster is not None and server.cluster not in config.clusters:
        near = suggestion(server.cluster, config.clusters)
        text = f"expected the name of a cluster, got {shown(server.cluster)}{near}"
        yield Problem((*path, "cluster"), text, (("clusters", server.cluster),))
    if server.password_file is not None and server.passfile is not None:
        text = "expected either password_file or passfile, got both"
        yield Problem((*path, "passfile"), text, ((*path, "password_file"),))
    reads = tuple(("transfers", each, "source") for each in config.transfers)
    is_source = any(transfer.source == name for transfer in config.transfers.values())
    if server.max_connections == 1 and is_source:
        text = "expected at least 2, as a run opens two connections to its source, got 1"
        yield Problem((*path, "max_connections"), text, reads)


def _cluster(config: Config, name: str) -> Iterator[Problem]:
    path, cluster = ("clusters", name), config.clusters[name]
    if cluster.version is not None and cluster.pg_config is not None:
        text = "expected either version or pg_config, got both"
        yield Problem((*path, "pg_config"), text, ((*path, "version"),))
    # Two keepers on one data directory would fight over its server.
    first = next(
        other for other, each in config.clusters.items() if _place(each) == _place(cluster)
    )
    if first != name:
        text = f"expected a folder of its own, got the one of {spelled(('clusters', first))}"
        there = ("clusters", first, "data_directory")
        yield Problem((*path, "data_directory"), text, (there,))
    seen: dict[str, str] = {}
    for setting in cluster.settings:
        same = seen.setdefault(setting.lower(), setting)
        if same != setting:
            text = f"expected each setting once, got {setting}, the same as {same}"
            yield Problem((*path, "settings", setting), text)


def _place(cluster: Cluster) -> str:
    return os.path.normpath(cluster.data_directory)


def _known_servers(subject: Subject) -> Iterator[Problem]:
    config, transfer = subject.config, subject.transfer
    named: list[tuple[KeyPath, str]] = [(("source",), transfer.source)]
    named += [(("destinations", n), name) for n, name in enumerate(transfer.destinations)]
    for keys, name in named:
        if name not in config.servers:
            near = suggestion(name, config.servers)
            text = f"expected the name of a server, got {shown(name)}{near}"
            yield subject.problem(keys, text, also=[("servers", name)])
    for name in transfer.destination:
        if name not in transfer.destinations:
            near = suggestion(name, transfer.destinations)
            text = f"expected one of the transfer's destinations, got {shown(name)}{near}"
            yield subject.problem(("destination", name), text, "destinations")


def _distinct_servers(subject: Subject) -> Iterator[Problem]:
    """No server is copied onto itself, and no database loaded twice."""
    config, transfer = subject.config, subject.transfer
    seen: dict[object, str] = {}
    if transfer.source in config.servers:
        seen[identity(config, transfer.source)] = transfer.source
    for position, name in enumerate(transfer.destinations):
        same = seen.setdefault(identity(config, name), name)
        is_first = same == name and transfer.destinations.index(name) == position
        if is_first and name != transfer.source:
            continue
        role = "the source" if same == transfer.source else "another destination"
        text = f"expected another server, got {shown(name)}, which is already {role}"
        if same != name:
            text = (
                f"expected another database, got {shown(name)}, whose conninfo is the same as "
                f"that of {shown(same)}, already {role}"
            )
        also = [("servers", name), ("servers", same)]
        yield subject.problem(("destinations", position), text, "source", also=also)


def _what(subject: Subject) -> Iterator[Problem]:
    transfer = subject.transfer
    if (transfer.tables is None) == (transfer.query is None):
        got = "neither" if transfer.tables is None else "both"
        yield subject.problem((), f"expected either tables or query, got {got}", *WHAT)
    elif transfer.query is not None and transfer.into is None:
        text = "expected the destination table of the query, got none"
        yield subject.problem(("into",), text, "query")
    elif transfer.tables is not None and transfer.into is not None:
        text = "valid only with query, not with tables"
        yield subject.problem(("into",), text, "query", "tables")


def _repeated_tables(subject: Subject) -> Iterator[Problem]:
    patterns = subject.transfer.tables or ()
    for position, pattern in enumerate(patterns):
        if pattern in patterns[:position]:
            text = f"expected each table once, got {shown(str(pattern))} again"
            yield subject.problem(("tables", position), text)


def _query(subject: Subject) -> Iterator[Problem]:
    """A query's rows have no xmin, so new rows cannot be told from old ones."""
    transfer = subject.transfer
    if transfer.query is None:
        return
    if transfer.mode == "append":
        text = 'expected "replace", or "merge" with a key, for a query, got "append"'
        yield subject.problem(("mode",), text, "query")
    for name, destination in transfer.destination.items():
        if destination.mode == "append":
            text = 'expected "replace", or "merge" with a key, for a query, got "append"'
            yield subject.problem(("destination", name, "mode"), text, "query")
    if "merge" in subject.modes and transfer.key is None:
        text = 'expected the columns that identify a row, as a query with mode "merge" has no '
        yield subject.problem(("key",), f"{text}primary key, got none", "query", *MODES)


def _schedule(subject: Subject) -> Iterator[Problem]:
    transfer = subject.transfer
    if transfer.every is not None and transfer.cron is not None:
        yield subject.problem(("cron",), "expected either every or cron, got both", "every")
    if "timezone" in transfer.model_fields_set and transfer.cron is None:
        yield subject.problem(("timezone",), "valid only with cron", "cron")
    for key in ("jitter", "catch_up"):
        if key in transfer.model_fields_set and transfer.every is None and transfer.cron is None:
            yield subject.problem((key,), "valid only with every or cron", "every", "cron")
    if transfer.every is not None and transfer.jitter > transfer.every:
        text = f"expected at most every ({spell_duration(transfer.every)}), got {spell_duration(transfer.jitter)}"
        yield subject.problem(("jitter",), text, "every")


def _used_with_mode(subject: Subject) -> Iterator[Problem]:
    """A key that no mode in use reads is a mistake."""
    transfer, modes = subject.transfer, subject.modes
    wanted: list[tuple[KeyPath, bool, set[str]]] = [
        (("replace_with",), "replace_with" in transfer.model_fields_set, {"replace"}),
        (("cursor",), transfer.cursor is not None, INCREMENTAL),
        (("key",), transfer.key is not None, INCREMENTAL),
        (("overlap",), transfer.overlap != "all", INCREMENTAL),
        (("delete_missing",), transfer.delete_missing, {"merge"}),
    ]
    for text, options in transfer.table.items():
        place = ("table", text)
        wanted.append(((*place, "cursor"), options.cursor is not None, INCREMENTAL))
        wanted.append(((*place, "key"), options.key is not None, INCREMENTAL))
    for keys, is_given, fitting in wanted:
        if is_given and not fitting & modes:
            yield subject.problem(keys, _only_with(fitting, modes), *MODES)
    for name, destination in transfer.destination.items():
        mode = transfer.mode_at(name)
        if destination.replace_with is not None and mode != "replace":
            keys = ("destination", name, "replace_with")
            yield subject.problem(keys, _only_with({"replace"}, {mode}), "mode", "destination")


def _bad_rows(subject: Subject) -> Iterator[Problem]:
    """Keys that resume_next excludes, and keys without use under stop."""
    transfer = subject.transfer
    if transfer.on_error == "stop":
        for key in ONLY_WITH_REJECTS:
            if key in transfer.model_fields_set:
                text = 'valid only with on_error "resume_next", not with "stop"'
                yield subject.problem((key,), text, "on_error")
        return
    if transfer.format == "binary":
        text = 'expected "auto" or "text" with on_error "resume_next", got "binary"'
        yield subject.problem(("format",), text, "on_error")
    for name in transfer.destinations:
        if transfer.truncates_at(name):
            own = subject.transfer.at(name).replace_with is not None
            keys: KeyPath = ("destination", name, "replace_with") if own else ("replace_with",)
            text = (
                'expected "delete" with on_error "resume_next", as after TRUNCATE the rows are '
                'loaded frozen, all or none, got "truncate"'
            )
            yield subject.problem(keys, text, "on_error", *MODES)
            if not own:
                return


def _only_with(fitting: set[str], modes: set[str]) -> str:
    wanted, got = (" or ".join(map(shown, sorted(each))) for each in (fitting, modes))
    return f"valid only with mode {wanted}, not with {got}"


def _bounds(subject: Subject) -> Iterator[Problem]:
    transfer = subject.transfer
    number = len(transfer.destinations)
    if transfer.minimum_destinations > number:
        text = f"expected at most the number of destinations ({number}), got "
        text += str(transfer.minimum_destinations)
        yield subject.problem(("minimum_destinations",), text, "destinations")
    for key, section in (("reintroduce", transfer.reintroduce), ("breaker", transfer.breaker)):
        backoff, longest = section.backoff, section.max_backoff
        if longest < backoff:
            text = f"expected at least backoff ({spell_duration(backoff)}), got {spell_duration(longest)}"
            yield subject.problem((key, "max_backoff"), text, key)


def _bounded_overlap(subject: Subject) -> Iterator[Problem]:
    transfer = subject.transfer
    if transfer.overlap == "all" or transfer.cursor is not None or not INCREMENTAL & subject.modes:
        return
    with_cursor = {
        parse_table_name(text)
        for text, options in transfer.table.items()
        if options.cursor is not None
    }
    if transfer.tables and all(each.exact in with_cursor for each in transfer.tables):
        return
    text = 'expected "all", as not every table has a cursor (watermark column): set cursor'
    yield subject.problem(("overlap",), text, "cursor", "table", *WHAT, *MODES)


def _table_options(subject: Subject) -> Iterator[Problem]:
    transfer = subject.transfer
    yield from _same_table(subject, ("table",), transfer.table)
    for text, options in transfer.table.items():
        place = ("table", text)
        if transfer.query is not None:
            yield subject.problem(place, "valid only with tables, not with query", *WHAT)
        else:
            yield from _not_taken(subject, place)
        key = options.key or transfer.key or ()
        missing = [name for name in key if name not in (options.columns or key)]
        if missing:
            expected = f"expected all columns of the key, but {missing[0]} is missing"
            yield subject.problem((*place, "columns"), expected, "key")


def _table_mappings(subject: Subject) -> Iterator[Problem]:
    exact = {pattern.exact for pattern in subject.transfer.tables or ()}
    for name, destination in subject.transfer.destination.items():
        place = ("destination", name, "tables")
        yield from _same_table(subject, place, destination.tables)
        stay = exact - {parse_table_name(text) for text in destination.tables}
        for text, target in destination.tables.items():
            yield from _not_taken(subject, (*place, text))
            if target in stay:
                sentence = (
                    f"expected a table of its own, got {target}, that of another source table"
                )
                yield subject.problem((*place, text), sentence, "tables")
            stay.add(target)


def _same_table(subject: Subject, place: KeyPath, texts: Iterable[str]) -> Iterator[Problem]:
    seen: dict[TableName, str] = {}
    for text in texts:
        first = seen.setdefault(parse_table_name(text), text)
        if first != text:
            expected = f"expected each table once, got {text}, the same as {first}"
            yield subject.problem((*place, text), expected)


def _not_taken(subject: Subject, place: tuple[str, ...]) -> Iterator[Problem]:
    """Yield a problem if the transfer does not copy the table at the end of `place`."""
    transfer = subject.transfer
    table = parse_table_name(place[-1])
    if subject.takes(table):
        return
    if transfer.query is not None:
        expected = f"expected {transfer.into}, the destination table of the query, got {table}"
    else:
        near = suggestion(str(table), map(str, transfer.tables or ()))
        expected = f"expected a table that the transfer copies, got {table}{near}"
    yield subject.problem(place, expected, *WHAT)


def _repeated_columns(subject: Subject) -> Iterator[Problem]:
    transfer = subject.transfer
    lists: list[tuple[KeyPath, tuple[str, ...] | None]] = [(("key",), transfer.key)]
    for text, options in transfer.table.items():
        place = ("table", text)
        lists += [((*place, "key"), options.key), ((*place, "columns"), options.columns)]
    for keys, names in lists:
        for position, name in enumerate(names or ()):
            if name in (names or ())[:position]:
                text = f"expected each column once, got {name} again"
                yield subject.problem((*keys, position), text)


RULES: tuple[Rule, ...] = (
    _known_servers,
    _distinct_servers,
    _what,
    _repeated_tables,
    _query,
    _schedule,
    _used_with_mode,
    _bad_rows,
    _bounds,
    _bounded_overlap,
    _table_options,
    _table_mappings,
    _repeated_columns,
)
