"""What is compared, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from copyd.catalog import Digest, Form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.loading import Target
    from copyd.transfers.source import Scan


class Likeness(Enum):
    """What came of comparing."""

    EQUAL = "equal"
    DIFFERS = "differs"
    UNKNOWN = "not compared"


@dataclass(frozen=True, slots=True)
class Compared:
    """A table at a destination; rows are None if not counted; ``reason``: why not equal."""

    destination: str
    table: str
    there: str
    source_rows: int | None
    rows: int | None
    likeness: Likeness
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every table at every destination; ``cause``: why the source could not be compared."""

    transfer: str
    seconds: float
    tables: tuple[Compared, ...]
    cause: str | None = None

    @property
    def likeness(self) -> Likeness:
        """Of all of them: one that differs makes it differ, else one that nobody knows."""
        return sum_up(self.tables, is_whole=self.cause is None)

    def likeness_at(self, destination: str) -> Likeness:
        """Of the tables at one destination."""
        return sum_up(self.at(destination), is_whole=self.cause is None)

    def at(self, destination: str) -> tuple[Compared, ...]:
        """The tables at one destination."""
        return tuple(each for each in self.tables if each.destination == destination)


def sum_up(tables: Sequence[Compared], *, is_whole: bool) -> Likeness:
    """Return DIFFERS if any table differs, else UNKNOWN if any was not compared."""
    found = {each.likeness for each in tables}
    if Likeness.DIFFERS in found:
        return Likeness.DIFFERS
    return Likeness.UNKNOWN if Likeness.UNKNOWN in found or not is_whole else Likeness.EQUAL


class DigestQuery(NamedTuple):
    """What the source is asked: a digest of the rows of a scan, its columns rendered so."""

    scan: Scan
    rendered: tuple[Form, ...]


class TablePair(NamedTuple):
    """One table to be compared: the query for the source, and the destination's table."""

    query: DigestQuery
    target: Target
    rendered: tuple[Form, ...]


DigestResult = Digest | str  # a digest, or the reason why there is none
