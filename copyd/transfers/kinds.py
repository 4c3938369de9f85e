"""What sort of fault an error is, in one word of a short list: for counting; pure.

By the class of its SQLSTATE where a server gave one. Source: PostgreSQL documentation, "Error
Codes".
"""

from __future__ import annotations

import psycopg

from copyd.copyman import CannotReconcile
from copyd.errors import CopydError
from copyd.transfers.stopping import RunStopped

OF_CLASSES = {
    "08": "connection",
    "0A": "feature_not_supported",
    "22": "data",
    "23": "constraint",
    "25": "transaction_state",
    "28": "authorization",
    "3D": "catalog",
    "3F": "schema",
    "40": "rollback",
    "42": "definition_or_privilege",
    "53": "resources",
    "54": "limit",
    "55": "state_or_lock",
    "57": "intervention",
    "58": "system",
    "P0": "raised",
    "XX": "internal",
}
OTHERS = ("stall", "connection", "refused", "source", "stopped", "other")
"""Of errors without a SQLSTATE: late, lost, refused by copyd itself, no destination's doing."""
NOBODYS = frozenset({"source", "stopped"})
"""Kinds for which no destination can be blamed."""


class SourceFailed(CopydError):
    """The source is given up for this run, whatever its destinations are like."""


def kind(error: BaseException) -> str:
    """Return what to count `error` as; a sentence of ours is of the kind of what caused it."""
    if isinstance(error, (SourceFailed, RunStopped)):
        return "source" if isinstance(error, SourceFailed) else "stopped"
    while isinstance(error, CopydError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return OF_CLASSES.get(error.sqlstate[:2], "other")
    if isinstance(error, (TimeoutError, CannotReconcile)):
        return "stall"
    if isinstance(error, (psycopg.OperationalError, OSError)):
        return "connection"
    return "refused" if isinstance(error, CopydError) else "other"
