"""The connections in COPY; libpq does not know: with its stream borrowed it looks idle."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

import psycopg

if TYPE_CHECKING:
    from copyd.connection import Connection

_LEASED: WeakSet[Connection] = WeakSet()
"""Shared by all threads; adding and discarding one element are each one step under the GIL."""


def lease(connection: Connection) -> None:
    """Note that `connection` is in a COPY.

    Raises psycopg.InterfaceError where it is in one already.
    """
    if connection in _LEASED:
        raise psycopg.InterfaceError("the connection is in another COPY")
    _LEASED.add(connection)


def give_back(connection: Connection) -> None:
    """Note that `connection` is an ordinary one again, or closed."""
    _LEASED.discard(connection)
