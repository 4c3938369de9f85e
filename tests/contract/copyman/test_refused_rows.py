"""Rows that a server refuses are kept out, and all others are loaded: every kind, everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from copyd.copyman import IteratorProducer, Reject, transfer
from tests.support.batches import COPY_T, batch_receiver
from tests.support.refused_rows import BATCH_ROWS, KINDS, POSITIONS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.copyman import Producer
    from tests.contract.copyman.conftest import Bench


def producer_of(bench: Bench, kind: Kind, rows: list[bytes]) -> Producer:
    """What sends `rows`: a server, if one would."""
    if not kind.from_server:
        return IteratorProducer([rows[start : start + 5] for start in range(0, len(rows), 5)])
    source = bench.connect()
    source.execute("CREATE TEMP TABLE source (n int GENERATED ALWAYS AS IDENTITY, id text, v text)")
    with source.cursor().copy("COPY source (id, v) FROM STDIN") as copy:
        copy.write(b"".join(rows))
    return bench.producer("COPY (SELECT id, v FROM source ORDER BY n) TO STDOUT", source)


def columns_of(kind: Kind) -> dict[str, str]:
    return {"id": "int", "v": kind.type}


def stored(bench: Bench, ids: Iterable[bytes]) -> list[bytes]:
    """Which of `ids` are in the table, in order."""
    found = {b"%d" % row[0] for row in bench.rows("SELECT id FROM t")}
    return [each for each in ids if each in found]


def id_of(row: bytes) -> bytes:
    return row.rstrip(b"\n").split(b"\t")[0]


@pytest.mark.parametrize("skips", [False, True], ids=["long way", "one pass"])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("name", KINDS)
def test_exactly_the_bad_rows_are_rejected_and_load_again_once_they_may(
    plain_bench: Bench, name: str, position: str, skips: bool
) -> None:
    bench, kind, bad = plain_bench, KINDS[name], POSITIONS[position]
    if skips and bench.connect().info.server_version < 170000:
        pytest.skip("PostgreSQL skips rows by itself from 17 on")
    bench.execute(kind.table)
    before = bench.count("t")
    rows, rejects = kind.rows(bad), list[Reject]()
    receiver = batch_receiver(
        bench,
        rejects,
        columns=columns_of(kind) if skips else None,
        immediate=[sql.Identifier(constraint) for constraint in kind.immediate],
    )
    transfer(producer_of(bench, kind, rows), receiver)
    receiver.connection.commit()

    refused = bad[kind.spared :]
    assert [
        (reject.ordinal, reject.row) for reject in sorted(rejects, key=lambda r: r.ordinal)
    ] == [(number + 1, rows[number]) for number in refused]
    assert {reject.refusal.sqlstate for reject in rejects} <= {kind.sqlstate}
    assert all(reject.batch == (reject.ordinal - 1) // BATCH_ROWS + 1 for reject in rejects)
    assert (receiver.read, receiver.rejected) == (len(rows), len(refused))
    assert receiver.loaded == receiver.rows == len(rows) - len(refused)
    assert receiver.held == 0
    good = [id_of(row) for number, row in enumerate(rows) if number not in refused]
    assert stored(bench, map(id_of, rows)) == good
    assert bench.count("t") == before + len(good)

    if kind.cure is not None:
        bench.execute(kind.cure)
        again = bench.receiver(COPY_T)
        transfer(IteratorProducer([[reject.row for reject in rejects]]), again)
        assert again.rows == len(refused)
        assert bench.count("t") == before + len(rows)
