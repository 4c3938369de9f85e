"""A transfer: what to copy, from which server to which, and how. Frozen; it does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from copyd.copyman import LinkName
    from copyd.transfers.server import Server

Format = Literal["text", "binary", "csv"]


@dataclass(frozen=True, slots=True)
class Table:
    """All rows of a table; the destinations' table has the same name."""

    name: str

    @property
    def into(self) -> str:
        """The destinations' table, written as in SQL."""
        return self.name


@dataclass(frozen=True, slots=True)
class Query:
    """The rows of a query, into a table that exists at every destination."""

    text: str
    into: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """One fan-out.

    Seconds: ``stall_timeout`` without progress, after which a destination is dropped;
    ``prepare_timeout`` for connecting and for what comes before its data; ``answer_timeout`` for
    what a server thinks over: the source before it sends more, a destination its verdict and its
    COMMIT. ``reintroduce``: how many more passes a dropped destination gets within the run.
    """

    source: Server
    destinations: tuple[Server, ...]
    what: Table | Query
    format: Format = "text"
    link: LinkName = "auto"
    truncate: bool = False
    stall_timeout: float = 60.0
    prepare_timeout: float = 30.0
    answer_timeout: float = 900.0
    reintroduce: int = 0
