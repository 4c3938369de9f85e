"""The source's side of a comparison: digests under its snapshot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg

from copyd.catalog import OUR_PATH, begin, compute, digest_of, look_in
from copyd.transfers.faults import facts
from copyd.transfers.source import SOURCE_SETTINGS, conditions, select

if TYPE_CHECKING:
    from copyd.connection import Connection
    from copyd.transfers.source import Snapshot
    from copyd.transfers.verify.comparison import DigestQuery, DigestResult

_BY_PATH = re.compile(
    r"\breg(class|collation|config|dictionary|oper|operator|proc|procedure|type)\b"
)


class SourceSide:
    """The source's side: digests of what its snapshot shows."""

    def __init__(self, reader: Connection, snapshot: Snapshot) -> None:
        self._reader = reader
        self._snapshot = snapshot
        self._own_path = begin(reader, **SOURCE_SETTINGS).path

    def digest(self, asked: DigestQuery) -> DigestResult:
        """Compute a digest, or say why it cannot be had."""
        reading, connection = asked.scan.reading, self._reader
        is_ours = reading.has_xmin and reading.where is None
        by_path = [column.name for column in reading.columns if _BY_PATH.search(column.signature)]
        if by_path and not is_ours:
            return (
                f"column {by_path[0]} names objects, which the source spells by the search path "
                "that its view, query or condition needs: leave the column out"
            )
        wanted = conditions(asked.scan, self._snapshot)
        query = select(reading, digest_of(asked.rendered), wanted)
        try:
            with connection.transaction():
                look_in(connection, OUR_PATH if is_ours else self._own_path)
                return compute(connection, query)
        except psycopg.Error as error:
            return f"the source: {facts(error)}"
