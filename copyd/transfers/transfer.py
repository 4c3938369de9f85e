"""A transfer as configured: tables or query, servers, options. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from copyd.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path

    from copyd.copyman import LinkName
    from copyd.transfers.server import Server

Mode = Literal["insert", "replace", "append", "merge"]
"""``insert``, the mode of ``copyd copy``, adds all rows and keeps no ledger."""
Format = Literal["auto", "text", "binary", "csv"]


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Options of a table. ``where``: an SQL condition. ``cursor``: the watermark column."""

    columns: tuple[str, ...] | None = None
    where: str | None = None
    cursor: str | None = None
    key: tuple[str, ...] | None = None


PLAIN = TableOptions()


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables by name or pattern, as written in SQL; ``options`` by table name (TableName)."""

    names: tuple[str, ...]
    options: Mapping[str, TableOptions] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """The rows of a query, into a table that exists at every destination."""

    text: str
    into: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How rows get into the tables of one destination.

    ``before`` and ``after`` are SQL in the transaction of the data, ``after_commit`` outside it.
    ``tables`` maps source tables to names at the destination, if they differ.
    """

    mode: Mode = "replace"
    replace_with: Literal["delete", "truncate"] = "delete"
    triggers: Literal["fire", "skip"] = "fire"
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    after_commit: tuple[str, ...] = ()
    analyze: bool = True
    adopt: bool = False
    physical_clone: bool = False
    tables: Mapping[str, str] = field(default_factory=dict)

    @property
    def truncates(self) -> bool:
        """Whether the run empties tables by TRUNCATE."""
        return self.mode == "replace" and self.replace_with == "truncate"

    @property
    def deletes(self) -> bool:
        """Whether the run empties tables by DELETE."""
        return self.mode == "replace" and self.replace_with == "delete"


@dataclass(frozen=True, slots=True)
class Replica:
    """A destination, and how to load its tables."""

    server: Server
    loading: Loading = Loading()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reintroduce:
    """How often, and after which backoff, a dropped destination is tried again within a run."""

    attempts: int = 5
    backoff: float = 1.0
    max_backoff: float = 30.0

    def wait(self, faults: int, jitter: float) -> float:
        """Return the seconds before the next try; `jitter` is a random number from 0 to 1."""
        return backoff(faults, first=self.backoff, longest=self.max_backoff, jitter=jitter)


OnError = Literal["stop", "resume_next"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectPolicy:
    """Limits of rejects, and where their files are.

    A batch closes at ``batch_rows`` or ``batch_size`` bytes. A destination fails beyond
    ``max_rejects``, or ``max_reject_ratio`` of the rows read. ``keep``: seconds to keep the files.
    """

    directory: Path
    batch_rows: int = 250_000
    batch_size: int = 20 * 1024 * 1024
    max_rejects: int = 1_000
    max_reject_ratio: float = 0.01
    keep: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A fan-out; the keys of a ``[transfers.NAME]`` section have the same names.

    ``overlap`` is the lookback: "all", or how far before the last watermark a scan begins.
    ``max_wait``: how long, per pass, one destination may hold back the others; None: until a stall,
    which then drops it at once. ``answer_timeout``: for the source to send more, for a destination to
    answer. ``ledger``: its schema, None without one. ``on_error``: "stop" (a refused row fails its
    destination) or "resume_next" (it is rejected, within the limits of ``rejects``).
    """

    name: str
    source: Server
    replicas: tuple[Replica, ...]
    what: Tables | Query
    key: tuple[str, ...] | None = None
    cursor: str | None = None
    overlap: Literal["all"] | timedelta | int = "all"
    full_every: float = 86_400.0
    delete_missing: bool = False
    max_shrink: float = 0.9
    deadline: float = 1_800.0
    prepare_timeout: float = 10.0
    stall_timeout: float = 5.0
    answer_timeout: float = 900.0
    max_wait: float | None = 60.0
    lock_timeout: float = 1.0
    reintroduce: Reintroduce = Reintroduce()
    minimum_destinations: int = 1
    format: Format = "auto"
    link: LinkName = "auto"
    ledger: str | None = "copyd"
    on_error: OnError = "stop"
    rejects: RejectPolicy | None = None

    @property
    def keeps_rejects(self) -> bool:
        """Whether rejects are written to files; without a ledger nobody knows if they hold."""
        return self.on_error != "stop" and self.rejects is not None and self.ledger is not None
