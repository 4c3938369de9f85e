from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.ledger_database import LedgerDatabase, ledger_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Server


@pytest.fixture
def place(server: Server, database: str) -> Iterator[LedgerDatabase]:
    with ledger_database(server, database) as made:
        yield made
