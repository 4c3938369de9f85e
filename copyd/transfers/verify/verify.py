"""Whether destinations hold what the source holds: rows counted and hashed by every server itself.

The source is read in one snapshot, each destination in one of its own. So what is written, or
loaded, between them is a difference. Nothing is written anywhere.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

import psycopg

from copyd.errors import CopydError
from copyd.transfers.faults import facts
from copyd.transfers.source import hold
from copyd.transfers.verify.comparison import (
    Compared,
    Comparison,
    DigestQuery,
    DigestResult,
)
from copyd.transfers.verify.destination import DestinationSide
from copyd.transfers.verify.source import SourceSide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from copyd.transfers.source import Source
    from copyd.transfers.transfer import Transfer


def verify(transfer: Transfer, *, clock: Callable[[], float] = time.monotonic) -> Comparison:
    """Compare each table with the source, at each destination; never raises for a server."""
    if not transfer.replicas:
        return Comparison(transfer.name, 0.0, ())
    began = clock()
    tables: tuple[Compared, ...] = ()
    cause = None
    try:
        with hold(transfer) as source:
            tables = _compare(source)
    except CopydError as error:
        cause = str(error)
    except psycopg.Error as error:
        cause = f"source {transfer.source.name}: {facts(error)}"
    return Comparison(transfer.name, clock() - began, tables, cause)


# -- what is asked, and of whom -------------------------------------------------------------------


def _compare(source: Source) -> tuple[Compared, ...]:
    snapshot, transfer = source.snapshot, source.transfer
    sides = [
        DestinationSide(replica, transfer, source.readings, snapshot.position)
        for replica in transfer.replicas
    ]
    told: SimpleQueue[DestinationSide] = SimpleQueue()
    results: dict[DigestQuery, DigestResult] = {}
    with source.reader() as reader, _threads(sides) as threads:
        ended = [threads.submit(side.run, told) for side in sides]
        source_side = SourceSide(reader, snapshot)
        for _ in sides:
            for query in told.get().queries():
                if query not in results:
                    results[query] = source_side.digest(query)
        for each in ended:
            each.result()
    return tuple(side.judge(reading, results) for side in sides for reading in source.readings)


@contextmanager
def _threads(sides: Sequence[DestinationSide]) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(len(sides), thread_name_prefix="verify") as threads:
        try:
            yield threads
        except BaseException:
            for side in sides:
                side.cut()
            raise


# -- how far an append without a key has come -----------------------------------------------------
