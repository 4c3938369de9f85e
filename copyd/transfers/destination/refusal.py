"""Refusals to load a table: a run raises the first, a check shows all."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import psycopg

from copyd.errors import CopydError
from copyd.transfers.faults import facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.connection import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a run cannot load ``table`` (empty: all); ``may_pass``: another session's lock."""

    table: str
    sentence: str
    may_pass: bool = False


@contextmanager
def refusing(connection: Connection, table: str, refusals: list[Refusal]) -> Iterator[None]:
    """Add errors of the block to `refusals`, roll it back; raises if the connection is lost."""
    try:
        with connection.transaction():
            yield
    except psycopg.errors.LockNotAvailable:
        busy = "somebody else has it locked now, so that a run would wait or fail"
        refusals.append(Refusal(table, busy, may_pass=True))
    except psycopg.Error as error:
        if connection.broken:
            raise
        refusals.append(Refusal(table, facts(error)))
    except CopydError as error:
        refusals.append(Refusal(table, str(error)))


class Judge:
    """Collects refusals, errors of look-ups included; `stops`: raises the first, as a run does."""

    def __init__(self, connection: Connection, *, stops: bool) -> None:
        self.stops = stops
        self.refusals: list[Refusal] = []
        self._connection = connection

    def refuse(self, table: str, sentence: str) -> None:
        self.refusals.append(Refusal(table, sentence))

    @contextmanager
    def looking(self, table: str = "") -> Iterator[None]:
        if self.stops:
            yield
        else:
            with refusing(self._connection, table, self.refusals):
                yield

    def stop_if_refused(self) -> None:
        if self.stops and self.refusals:
            raise CopydError(self.refusals[0].sentence)

    def groups(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Return all `items` in one group, or one by one so that each can be refused."""
        return iter([items] if self.stops else [[item] for item in items])
