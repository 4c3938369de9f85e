"""Transfers that load the same destination table, found by names; no server is asked.

A name is compared with names and patterns, a pattern only with equal patterns.
"""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING, NamedTuple

from copyd import conninfo
from copyd.config.problems import KeyPath, Problem
from copyd.names import parse_table_name

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from copyd.config.model import Config, Transfer
    from copyd.names import Pattern, TableName

# Servers that differ only in these are the same database.
_NOT_THE_PLACE = {"password", "passfile", "application_name", "fallback_application_name"}


def identity(config: Config, server: str) -> Hashable:
    """Return a value that is equal for servers with the same database and conninfo."""
    known = config.servers.get(server)
    if known is not None and known.conninfo is not None:
        given = conninfo.parse(known.conninfo.get_secret_value())
        return frozenset((key, given[key]) for key in given.keys() - _NOT_THE_PLACE)
    if known is not None and known.cluster is not None and known.dbname is not None:
        return known.cluster, known.dbname
    return server


def collisions(config: Config) -> Iterator[Problem]:
    """Yield a problem for each pair of transfers that load the same destination table."""
    places = {name: identity(config, name) for name in config.servers}
    # A transfer replaces or deletes rows that it does not know, so it must own its tables.
    for one, other in combinations(config.transfers.items(), 2):
        for here, there in product(one[1].destinations, other[1].destinations):
            if here not in places or there not in places or places[here] != places[there]:
                continue
            common = _Targets.of(other[1], there).common(_Targets.of(one[1], here))
            if common is not None:
                keys, table = common
                text = (
                    f"expected tables that no other transfer loads, got {table}, "
                    f"which transfers.{one[0]} loads into {here}"
                )
                reads = (*_reads(one[0], here), *_reads(other[0], there))
                yield Problem(("transfers", other[0], *keys), text, reads)


def _reads(transfer: str, server: str) -> list[KeyPath]:
    keys = ("tables", "query", "into", "destinations")
    section = ("transfers", transfer, "destination", server)
    return [*(("transfers", transfer, key) for key in keys), section, ("servers", server)]


class _Targets(NamedTuple):
    """The tables that a transfer loads at a destination, each with its configuration key."""

    exact: dict[TableName, KeyPath]
    wild: dict[Pattern, KeyPath]
    elsewhere: set[TableName]  # source tables that are loaded into a table of another name

    @classmethod
    def of(cls, transfer: Transfer, server: str) -> _Targets:
        mapping = transfer.at(server).tables
        exact: dict[TableName, KeyPath] = {
            target: ("destination", server, "tables", text) for text, target in mapping.items()
        }
        elsewhere = {parse_table_name(text) for text in mapping}
        wild: dict[Pattern, KeyPath] = {}
        if transfer.into is not None and transfer.into not in elsewhere:
            exact[transfer.into] = ("into",)
        for position, pattern in enumerate(transfer.tables or ()):
            if pattern.exact is None:
                wild[pattern] = ("tables", position)
            elif pattern.exact not in elsewhere:
                exact[pattern.exact] = ("tables", position)
        return cls(exact, wild, elsewhere)

    def taker(self, table: TableName) -> KeyPath | None:
        """Return the key by which `table` is loaded; None if it is not."""
        if table in self.exact:
            return self.exact[table]
        if table in self.elsewhere:
            return None
        return next((keys for each, keys in self.wild.items() if each.matches(table)), None)

    def common(self, other: _Targets) -> tuple[KeyPath, TableName | Pattern] | None:
        """Return a table or pattern that both load, with this transfer's key."""
        for table, keys in self.exact.items():
            if other.taker(table) is not None:
                return keys, table
        for table in other.exact:
            taker = self.taker(table)
            if taker is not None:
                return taker, table
        return next(((keys, each) for each, keys in self.wild.items() if each in other.wild), None)
