"""Whether it is worth coming back after an error; pure."""

from __future__ import annotations

import psycopg

from copyd.errors import CopydError

TRANSIENT_CLASSES = ("08", "40", "53")
TRANSIENT_STATES = ("57P01", "57P02", "57P03", "57P05", "55P03", "25006")


def is_transient(error: BaseException) -> bool:
    """Whether the cause may pass by itself: a lost connection, a stall, a server going down.

    By SQLSTATE where the server gave one; PostgreSQL documentation, "Error Codes". A sentence of
    ours is as transient as what it was raised from.
    """
    while isinstance(error, CopydError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, psycopg.Error) and error.sqlstate:
        state = error.sqlstate
        return state[:2] in TRANSIENT_CLASSES or state in TRANSIENT_STATES
    return isinstance(error, (psycopg.OperationalError, OSError, TimeoutError))
