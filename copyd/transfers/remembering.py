"""What the ledgers of a destination remember, where nobody else does."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from copyd.loading.ledger import Ledger
from copyd.loading.session import begin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copyd.transfers.server import Server


def last_successes(server: Server, schemas: Mapping[str, str]) -> dict[str, float]:
    """Return when each transfer last committed all its tables at `server`, in Unix time.

    `schemas` are those of their ledgers, by the transfers' names; transfers of which nothing is
    known are left out. By the server's clock. Nothing is changed or created.

    Raises CopydError where it cannot be connected to, psycopg.Error where it refuses.
    """
    found: dict[str, float] = {}
    with closing(server.connect()) as connection:
        connection.read_only = True
        begin(connection, statement_timeout="10s")
        for transfer, schema in schemas.items():
            moment = Ledger(schema).last_committed(connection, transfer)
            if moment is not None:
                found[transfer] = moment.timestamp()
    return found
