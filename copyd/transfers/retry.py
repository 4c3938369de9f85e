"""Whether it is worth coming back after an error, and when; pure but for the dice."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import psycopg

from copyd.errors import CopydError

if TYPE_CHECKING:
    from copyd.transfers.transfer import Reintroduce

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


def pause(faults: int, reintroduce: Reintroduce) -> float:
    """Return how many seconds to wait after so many faults: twice as long each time, jittered.

    Between half of it and all of it, so that destinations that fell together do not come together.
    """
    longest = min(reintroduce.backoff * 2.0 ** (faults - 1), reintroduce.max_backoff)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
