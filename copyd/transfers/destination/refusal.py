"""Why a run would not load a table: a value, so that a run raises the first and a check shows all."""

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
    """Why a run cannot load ``table`` (all, if empty); ``may_pass``: another session's lock."""

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
    """Collects refusals. It `stops` at the first one, as a run does, or goes on, as a check does.

    Errors that are raised while something is looked up are refusals too, unless it stops.
    """

    def __init__(self, connection: Connection, *, stops: bool) -> None:
        self.stops = stops
        self.refusals: list[Refusal] = []
        self._connection = connection

    def refuse(self, table: str, sentence: str) -> None:
        """Add one."""
        self.refusals.append(Refusal(table, sentence))

    @contextmanager
    def looking(self, table: str = "") -> Iterator[None]:
        """Add what the block raises, unless it stops there."""
        if self.stops:
            yield
        else:
            with refusing(self._connection, table, self.refusals):
                yield

    def stop_if_refused(self) -> None:
        """Raise CopydError with the first refusal, where it `stops`."""
        if self.stops and self.refusals:
            raise CopydError(self.refusals[0].sentence)

    def groups(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Return what is looked up together: all, or one by one so that each can be refused."""
        return iter([items] if self.stops else [[item] for item in items])
