"""Refuses to copy a table onto itself, or twice into one table in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copyd.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.catalog import Relation
    from copyd.connection import Connection
    from copyd.transfers.source import Source

_LOCK = "SELECT pg_catalog.pg_try_advisory_xact_lock(%s)"
_OTHER_DESTINATIONS = statement("copyd.transfers.destination", "other_destinations")
_LOCKED_TABLES = statement("copyd.transfers.destination", "locked_tables")


def mistaken(
    connection: Connection, relations: Sequence[Relation], source: Source, *, is_clone_meant: bool
) -> dict[int, str]:
    """Return an error by oid for `relations` the run reads, or loads as another destination.

    Two sessions that compete for an advisory lock are in one database, where the session that holds
    the source has locked the tables it reads. A table with the same name, in a database with the
    same name and system identifier, is in a physical copy of the source; `is_clone_meant` allows it.
    """
    oids = [relation.oid for relation in relations]
    found = {}
    for (oid,) in connection.execute(_OTHER_DESTINATIONS, [oids, source.witness]):
        found[oid] = "table {} there is a destination of this run already"
    if connection.execute(_LOCK, [source.witness]).fetchone() != (True,):
        for (oid,) in connection.execute(_LOCKED_TABLES, [source.holder, oids]):
            found[oid] = "table {} there is the source itself"
    elif not is_clone_meant:
        for oid in _clones(connection, relations, source):
            found[oid] = (
                "table {} there is in a physical copy of the source: set physical_clone = true "
                "for this destination if it is to be loaded all the same"
            )
    labels = {relation.oid: relation.label for relation in relations}
    return {oid: sentence.format(labels[oid]) for oid, sentence in found.items()}


def _clones(connection: Connection, relations: Sequence[Relation], source: Source) -> Iterator[int]:
    read = {reading.relation.label for reading in source.readings if reading.relation is not None}
    same = [relation.oid for relation in relations if relation.label in read]
    if not same or connection.info.dbname != source.database:
        return
    row = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()")
    if row.fetchone() == (source.identity.system_identifier,):
        yield from same
