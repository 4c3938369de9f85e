"""How often a destination is asked before the data: as often for many tables as for few."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import make_conninfo

from copyd.transfers import Loading
from copyd.transfers.destination.attempt import Attempt
from copyd.transfers.source.source import hold
from tests.support.wiretap import Wiretap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.fanout import Fanout

FEW, MANY = 3, 30
WAYS = {
    "delete": Loading(),
    "truncate": Loading(replace_with="truncate"),
    "append": Loading(mode="append"),
    "merge": Loading(mode="merge"),
}


@pytest.fixture
def tap(fanout: Fanout) -> Iterator[Wiretap]:
    with Wiretap(fanout.server.port) as listening:
        yield listening


def round_trips(fanout: Fanout, tap: Wiretap, tables: list[str], loading: Loading) -> int:
    """Prepare the destination for these tables; a Query or a Sync is what is answered."""
    plain = fanout.server.tcp_conninfo(fanout.databases["eu"], port=tap.port)
    through = make_conninfo(plain, sslmode="disable", gssencmode="disable")
    transfer = fanout.transfer(*tables, loading=loading, conninfos={"eu": through})
    tap.arm()
    attempt = Attempt(transfer.replicas[0], transfer, "run", is_full=False)
    with closing(attempt.session), hold(transfer) as source:
        attempt.prepare(source, None)
        assert len(attempt.tables) == len(tables)
        return sum(step.kind in (b"Q", b"S") for step in tap.steps if step.way == "to_server")


@pytest.mark.parametrize("loading", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("schema", ["public.", ""], ids=["qualified", "by search path"])
def test_many_tables_take_hardly_more_round_trips_than_few(
    fanout: Fanout, tap: Wiretap, loading: Loading, schema: str
) -> None:
    names = [f"{schema}t{number}" for number in range(MANY)]
    fanout.create(*(f"CREATE TABLE {name} (id int PRIMARY KEY)" for name in names))
    fanout.succeed(names[0], loading=loading)  # the ledger is there then
    few = round_trips(fanout, tap, names[:FEW], loading)
    assert 5 < few < 40
    assert round_trips(fanout, tap, names, loading) <= few + 3
