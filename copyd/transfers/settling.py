"""What earlier runs of a transfer left of rejects, settled by asking the destinations' ledgers."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg

from copyd.errors import CopydError
from copyd.loading import rejects
from copyd.loading.ledger import Ledger
from copyd.loading.session import begin, milliseconds
from copyd.transfers.wording import facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from copyd.loading.rejects import Fate, Seal, Settled
    from copyd.transfers.server import Server
    from copyd.transfers.transfer import Transfer

PATIENCE = 5.0
"""Seconds that a run which is over waits until what was pending is settled."""
LOCK_TIMEOUT = 1.0
"""Seconds to wait for a ledger's row, which a run of today may hold."""


def settle_rejects(
    directory: Path, transfer: str, servers: Mapping[str, Server], *, keep: float, now: float
) -> tuple[Settled, ...]:
    """Settle pending rejects of `transfer` below `directory`, then remove those that are too old.

    `servers` are its destinations by name; `keep`: seconds, `now`: Unix time. What cannot be
    settled yet says why, and stays. Servers are connected to only where something is pending.

    Raises SetupError where the folder is not safe, CopydError where it cannot be read.
    """

    def ask(seal: Seal) -> Fate:
        server = servers.get(seal.destination)
        if server is None:
            text = f"transfer {transfer} has no destination {seal.destination} to ask any more"
            raise CopydError(text)
        return _ask(server, seal)

    try:
        settled = rejects.settle(directory, transfer, ask)
        rejects.prune(directory, transfer, keep=keep, now=now)
    except OSError as error:
        text = f"rejects below {directory} cannot be looked at: {error.strerror}"
        raise CopydError(text) from error
    return settled


@contextmanager
def settling(transfer: Transfer) -> Iterator[list[Settled]]:
    """Settle what earlier runs left while a run goes on; yields what came of it, when it is over.

    Nobody waits for a destination that does not answer: what it has pending stays so. Raises
    SetupError where rejects are to be kept and the folder is not safe.
    """
    found: list[Settled] = []
    policy = transfer.rejects
    if policy is None:
        yield found
        return
    if transfer.on_error != "stop":
        rejects.prepare_root(policy.directory)
    servers = {replica.server.name: replica.server for replica in transfer.replicas}

    def settle() -> None:
        with suppress(CopydError, psycopg.Error):  # it stays, and is tried again by the next run
            found.extend(
                settle_rejects(
                    policy.directory, transfer.name, servers, keep=policy.keep, now=time.time()
                )
            )

    thread = threading.Thread(target=settle, name="copyd rejects", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        thread.join(PATIENCE)


def _ask(server: Server, seal: Seal) -> Fate:
    """Ask the ledger there; raises CopydError where it does not answer."""
    with closing(server.connect()) as connection:  # without a COMMIT: asking locks a row
        try:
            begin(connection, lock_timeout=milliseconds(LOCK_TIMEOUT))
            ledger = Ledger(seal.ledger)
            for sentence in ledger.refusals(connection):
                raise CopydError(f"{server.name}: {sentence}")
            if ledger.creation(connection):
                raise CopydError(f"{server.name} has no ledger in schema {seal.ledger} any more")
            table = seal.tables[0]
            return seal.fate(table, ledger.last_runs(connection, table.schema, table.name))
        except psycopg.Error as error:
            raise CopydError(f"{server.name}: {facts(error)}") from error
