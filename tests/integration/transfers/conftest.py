"""A server where nobody writes but the test, and a fan-out on it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.fanout import REPLICAS, SOURCE, Fanout
from tests.support.servers import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copyd.cluster import Installation
    from tests.support.servers import Server


@pytest.fixture(scope="session")
def quiet_server(installation: Installation) -> Iterator[Server]:
    """An open transaction of autovacuum would hold back the horizon of a snapshot."""
    with running_server(installation, autovacuum="off") as running:
        yield running


@pytest.fixture(scope="session")
def databases(quiet_server: Server) -> Iterator[Mapping[str, str]]:
    """One for the source and each replica; `Fanout.create` empties those that it uses."""
    with ExitStack() as stack:
        names = (SOURCE, *REPLICAS)
        yield {name: stack.enter_context(quiet_server.database()) for name in names}


@pytest.fixture
def fanout(quiet_server: Server, databases: Mapping[str, str]) -> Iterator[Fanout]:
    """Nothing is in it before `Fanout.create`."""
    with ExitStack() as stack:
        yield Fanout(quiet_server, stack, databases)
