"""Pending rejects of earlier runs, published or removed as the destinations' ledgers decide."""
# Decision: Rejects are pending until the ledger says that they are not

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from copyd.catalog import begin, milliseconds
from copyd.errors import CopydError
from copyd.loading import Ledger, rejects
from copyd.transfers.faults import facts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from copyd.loading.rejects import CommitOutcome, Manifest, Resolution
    from copyd.transfers.server import Server
    from copyd.transfers.transfer import Transfer

LOCK_TIMEOUT = 1.0  # seconds to wait for a ledger's row, which another run may hold


def prepare(transfer: Transfer) -> None:
    """Check before a run that its rejects can be kept; raises SetupError."""
    if transfer.rejects is not None and transfer.on_error != "stop":
        rejects.prepare_root(transfer.rejects.directory)


def resolve_pending(server: Server, directory: Path, transfer: str) -> tuple[Resolution, ...]:
    """Resolve the pending rejects of `transfer` at one destination, before the next load.

    The ledger keeps the last two runs: after two more, the outcome is lost. Connects only if rejects
    are pending; unresolved ones stay, with the reason in their resolution.

    Raises SetupError if the folder is not safe, CopydError if it cannot be read.
    """
    try:
        return rejects.resolve(directory, transfer, partial(_ask, server), destination=server.name)
    except OSError as error:
        raise _unreadable(directory, error) from error


def wind_up(transfer: Transfer) -> tuple[Resolution, ...]:
    """Return the pending rejects after a run, remove expired ones; raises as `resolve_pending`."""
    policy = transfer.rejects
    if policy is None:
        return ()
    try:
        pending = rejects.resolve(policy.directory, transfer.name, _not_asked)
        rejects.prune(policy.directory, transfer.name, keep=policy.keep, now=time.time())
    except OSError as error:
        raise _unreadable(policy.directory, error) from error
    return tuple(each for each in pending if each.reason is not None)


def _ask(server: Server, manifest: Manifest) -> CommitOutcome:
    with closing(server.connect()) as connection:  # never commits: the query locks a row
        try:
            begin(connection, lock_timeout=milliseconds(LOCK_TIMEOUT))
            ledger = Ledger(manifest.ledger)
            for sentence in ledger.refusals(connection):
                raise CopydError(f"{server.name}: {sentence}")
            if ledger.creation(connection):
                raise CopydError(
                    f"{server.name} has no ledger in schema {manifest.ledger} any more"
                )
            table = manifest.tables[0]
            return manifest.outcome(table, ledger.last_runs(connection, table.schema, table.name))
        except psycopg.Error as error:
            raise CopydError(f"{server.name}: {facts(error)}") from error


def _not_asked(manifest: Manifest) -> CommitOutcome:
    raise CopydError(f"the ledger of {manifest.destination} could not say whether it was committed")


def _unreadable(directory: Path, error: OSError) -> CopydError:
    return CopydError(f"rejects below {directory} cannot be looked at: {error.strerror}")


def last_successes(server: Server, schemas: Mapping[str, str]) -> dict[str, float]:
    """Return when each transfer last committed all its tables, in Unix time by the server's clock.

    `schemas`: the ledgers' schemas by transfer. Transfers without a record are left out.

    Raises CopydError if the connection fails, psycopg.Error if the server refuses a query.
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
