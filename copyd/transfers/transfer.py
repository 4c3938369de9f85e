"""A transfer: what to copy, from which server to which, and how. Frozen; it does nothing.

All durations are seconds.
"""

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
"""``insert`` adds all rows and keeps no ledger: it is what ``copyd copy`` does."""
Format = Literal["auto", "text", "binary", "csv"]


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is said of one table; None: nothing.

    ``where`` is a condition in SQL, ``cursor`` the column that narrows an incremental scan, ``key``
    what tells two rows apart.
    """

    columns: tuple[str, ...] | None = None
    where: str | None = None
    cursor: str | None = None
    key: tuple[str, ...] | None = None


PLAIN = TableOptions()


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables by name or pattern, as written in SQL; ``options`` by a table's name (TableName)."""

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
    ``tables`` maps a source table to its name there, where it is another one.
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
        """Whether tables are emptied by TRUNCATE."""
        return self.mode == "replace" and self.replace_with == "truncate"

    @property
    def deletes(self) -> bool:
        """Whether tables are emptied by DELETE."""
        return self.mode == "replace" and self.replace_with == "delete"


@dataclass(frozen=True, slots=True)
class Replica:
    """A destination: where, and how its tables are loaded."""

    server: Server
    loading: Loading = Loading()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reintroduce:
    """How often, and after how long, a dropped destination comes back within a run."""

    attempts: int = 5
    backoff: float = 1.0
    max_backoff: float = 30.0

    def wait(self, faults: int, jitter: float) -> float:
        """Return the seconds before the next try; `jitter` is a random number from 0 to 1."""
        return backoff(faults, first=self.backoff, longest=self.max_backoff, jitter=jitter)


OnError = Literal["stop", "resume_next"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectPolicy:
    """How rows that a destination refuses are put aside.

    A batch closes on ``batch_rows`` or on ``batch_size`` bytes. Beyond ``max_rejects``, or beyond
    ``max_reject_ratio`` of the rows read, a destination fails. ``directory`` is where the files of
    rejects are, and ``keep`` for how many seconds.
    """

    directory: Path
    batch_rows: int = 250_000
    batch_size: int = 20 * 1024 * 1024
    max_rejects: int = 1_000
    max_reject_ratio: float = 0.01
    keep: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One fan-out; the keys of a ``[transfers.NAME]`` section have the same names.

    ``overlap``: "all", or how far behind the mark of the cursor to look.
    ``max_wait``: how long, per pass, one destination may hold the others back; None: until it
    stalls, and then it is dropped at once.
    ``answer_timeout``: what a server may think over: the source before it sends more, a
    destination its verdict. ``ledger``: the schema of the ledger; None keeps none. ``on_error``:
    a refused row fails its destination ("stop"), or is put aside as ``rejects`` says.
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
        """Whether refused rows are written to files; they need a ledger that says what was committed."""
        return self.on_error != "stop" and self.rejects is not None and self.ledger is not None
