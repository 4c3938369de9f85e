"""Nothing is ever copied onto itself, nor twice into one table of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copyd.errors import CopydError

if TYPE_CHECKING:
    import psycopg

    from copyd.loading.relations import Relation
    from copyd.transfers.snapshot import Source

    Connection = psycopg.Connection[Any]


def require_distinct(
    connection: Connection, relation: Relation, source: Source, *, is_clone_meant: bool
) -> None:
    """Raise CopydError where `relation` is what the run reads, or another of its destinations.

    Two sessions that compete for one advisory lock are in one database; there the session that
    holds the source has locked all that the run reads. A table of the same name in a database of
    the same name and system identifier on another server is the source's physical copy, which is
    fed by WAL or was cut off from it: `is_clone_meant` says that this one is to be loaded.
    """
    table = relation.label
    if not _try_lock(connection, source.witness):
        if _is_read(connection, relation, source):
            raise CopydError(f"table {table} there is the source itself")
    elif not is_clone_meant and _is_clone(connection, relation, source):
        raise CopydError(
            f"table {table} there is in a physical copy of the source: set physical_clone = true "
            "for this destination if it is to be loaded all the same"
        )
    if not _try_lock(connection, source.witness + relation.oid):
        raise CopydError(f"table {table} there is a destination of this run already")


def _try_lock(connection: Connection, number: int) -> bool:
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", [number])
    return row.fetchone() == (True,)


def _is_read(connection: Connection, relation: Relation, source: Source) -> bool:
    held = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_locks"
        " WHERE locktype = 'relation' AND pid = %s AND relation = %s::oid",
        [source.holder, relation.oid],
    )
    return held.fetchone() is not None


def _is_clone(connection: Connection, relation: Relation, source: Source) -> bool:
    is_read = any(
        reading.relation and reading.relation.label == relation.label for reading in source.readings
    )
    if not is_read or connection.info.dbname != source.database:
        return False
    row = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()")
    return row.fetchone() == (source.identity.system_identifier,)
