"""The configuration as frozen types: one section of the file, one class.

A key's docstring is its description, in the JSON schema too. Durations are seconds here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from copyd.config.units import parse_duration, parse_size
from copyd.config.values import (
    AbsolutePath,
    Conninfo,
    Cron,
    Identifier,
    Identifiers,
    Interval,
    Label,
    Listen,
    Overlap,
    Patience,
    Patterns,
    References,
    SettingName,
    SettingValue,
    Size,
    Statements,
    StatePath,
    TableName,
    TableText,
    Text,
    Timezone,
    Wait,
)

Mode = Literal["replace", "append", "merge"]
ReplaceWith = Literal["delete", "truncate"]
Triggers = Literal["fire", "skip"]
OnError = Literal["stop", "resume_next"]
OnExit = Literal["stop", "leave"]


class Section(BaseModel):
    """A section of the file: no unknown keys, no conversions, frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # it may be a password
        strict=True,
        use_attribute_docstrings=True,
    )


class Daemon(Section):
    """The daemon: its folders, its runs and its shutdown."""

    state_directory: AbsolutePath = Path("/var/lib/copyd")
    """The folder for files that must survive a restart. An ordinary user's default: XDG's."""
    runtime_directory: AbsolutePath = Path("/run/copyd")
    """The folder for sockets and locks. An ordinary user's default: XDG's."""
    workers: int = Field(default=4, ge=1, le=1000)
    """The number of runs at once."""
    shutdown_grace: Patience = parse_duration("30s")
    """How long runs may continue after the daemon is asked to stop; then they are cancelled."""
    keep_history: Interval = parse_duration("30d")
    """How long finished runs stay in the history."""


class Http(Section):
    """The daemon's read-only pages: /metrics, /livez, /readyz, /healthz, /status."""

    listen: Listen = "127.0.0.1:9632"
    """HOST:PORT; an IPv6 address in brackets. "" turns the pages off."""


class Log(Section):
    """The daemon's log on standard error, a line for each event."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is written."""
    format: Literal["auto", "json", "console"] = "auto"
    """The format; auto is console on a terminal, else JSON."""


class Server(Section):
    """A database of a PostgreSQL server: by conninfo, or in a cluster that copyd owns."""

    conninfo: Conninfo | None = None
    """The connection string, as for libpq: keywords, a URI, or service=NAME."""
    cluster: str | None = None
    """The NAME of a section [clusters.NAME], instead of conninfo."""
    dbname: Text | None = None
    """The database of the cluster."""
    password_file: AbsolutePath | None = None
    """A file whose first line is the password; others must not be able to read it."""
    passfile: AbsolutePath | None = None
    """A password file in libpq's format, instead of ~/.pgpass."""
    max_connections: int | None = Field(default=None, ge=1)
    """The most connections of the daemon's runs to this server at once; unlimited by default."""


class Cluster(Section):
    """A managed cluster: copyd creates, starts, watches, restarts and stops the server."""

    data_directory: AbsolutePath
    """The data directory."""
    version: int | None = Field(default=None, ge=13)
    """The major version; by default the data directory's, else the first that is installed."""
    pg_config: AbsolutePath | None = None
    """The pg_config of the installation to use, instead of a version."""
    init: bool = False
    """Create the data directory if the path is missing or empty and copyd never saw one there."""
    password_file: AbsolutePath | None = None
    """A file whose first line is the superuser's password; by default one is generated."""
    run_as: Text | None = None
    """The server's account if copyd runs as root; by default postgres, else nobody."""
    on_exit: OnExit | None = None
    """Whether the server stops with the daemon; by default only one that the daemon started."""
    allow_restart: bool = False
    """Restart the server for settings that need a restart."""
    settings: Mapping[SettingName, SettingValue] = Field(default_factory=dict)
    """Settings of postgresql.conf."""
    hba: Text | None = None
    """The whole text of pg_hba.conf; by default the one from initdb."""

    @property
    def takes_over(self) -> bool:
        """Whether copyd stops and restarts a server that somebody else started."""
        return self.on_exit == "stop"

    @property
    def is_stopped_at_exit(self) -> bool:
        """Whether a server that the daemon started stops with the daemon."""
        return self.on_exit != "leave"


class Reintroduce(Section):
    """How often, and when, a dropped destination is reintroduced within a run."""

    attempts: int = Field(default=5, ge=0)
    """How often a destination may be reintroduced."""
    backoff: Patience = parse_duration("1s")
    """The wait before the first attempt; doubled for each further one."""
    max_backoff: Patience = parse_duration("30s")
    """The longest wait."""


class Breaker(Section):
    """The circuit breaker: when runs skip a failing destination, and for how long."""

    failures: int = Field(default=3, ge=1)
    """The number of failed runs in a row that opens the breaker."""
    backoff: Wait = parse_duration("30s")
    """How long runs skip the destination at first; doubled after each further failure."""
    max_backoff: Wait = parse_duration("15m")
    """The longest time for which runs skip the destination."""


class TableOptions(Section):
    """Options of one table of a transfer."""

    columns: Identifiers | None = None
    """The columns to copy; by default all."""
    where: Text | None = None
    """The rows to copy, as an SQL condition; by default all."""
    cursor: Identifier | None = None
    """This table's cursor (watermark column), instead of the transfer's."""
    key: Identifiers | None = None
    """This table's key, instead of the transfer's or the primary key."""


class Destination(Section):
    """Options of one destination of a transfer."""

    tables: Mapping[TableText, TableName] = Field(default_factory=dict)
    """Destination tables by source table; by default the table of the same name."""
    mode: Mode | None = None
    """Instead of the transfer's."""
    replace_with: ReplaceWith | None = None
    """Instead of the transfer's."""
    triggers: Triggers | None = None
    """Instead of the transfer's."""
    before: Statements | None = None
    """Instead of the transfer's."""
    after: Statements | None = None
    """Instead of the transfer's."""
    after_commit: Statements | None = None
    """Instead of the transfer's."""
    analyze: bool | None = None
    """Instead of the transfer's."""
    adopt: bool = False
    """Take over tables that already contain rows, or those of another transfer or source."""
    physical_clone: bool = False
    """The destination is a physical copy of the source, not the same server."""


class Transfer(Section):
    """A transfer: the rows to copy, their source and destinations, the mode and the schedule."""

    source: str
    """The server to copy from: the NAME of a section [servers.NAME]."""
    destinations: References
    """The servers to copy to."""
    tables: Patterns | None = None
    """The tables: SCHEMA.TABLE as in SQL, with the wildcards * and ? outside double quotes."""
    query: Text | None = None
    """A query whose rows are copied, instead of tables."""
    into: TableName | None = None
    """The destination table of a query."""
    mode: Mode = "replace"
    """replace loads all rows; append adds new rows; merge applies new and changed rows by key."""
    replace_with: ReplaceWith = "delete"
    """How replace empties a table: delete never blocks readers, truncate is faster."""
    cursor: Identifier | None = None
    """append, merge: the watermark column, which grows with every change and should be indexed."""
    overlap: Overlap = "all"
    """The lookback: how far below the watermark to read again: "all", a duration, or a number."""
    full_every: Interval = parse_duration("24h")
    """With an overlap other than "all": how often to read everything."""
    key: Identifiers | None = None
    """append, merge: the columns that identify a row; by default the primary key."""
    delete_missing: bool = False
    """merge: delete rows that the source no longer has."""
    max_shrink: float = Field(default=0.9, ge=0, le=1, allow_inf_nan=False)
    """replace, delete_missing: the largest share of rows that may vanish in one run."""
    every: Interval | None = None
    """How often the daemon runs the transfer."""
    cron: Cron | None = None
    """When the daemon runs the transfer, instead of every: minute, hour, day, month, day of week."""
    timezone: Timezone = "UTC"
    """The time zone of cron."""
    jitter: Patience = 0.0
    """The longest random delay of a run, so that runs do not all begin at once."""
    catch_up: Literal["once", "skip"] = "once"
    """Missed runs: make up for one of them, or skip all."""
    breaker: Breaker = Field(default_factory=Breaker)
    """When runs skip a failing destination."""
    deadline: Wait = parse_duration("30m")
    """How long a run may take."""
    prepare_timeout: Wait = parse_duration("10s")
    """How long the first pass waits for destinations to be ready."""
    stall_timeout: Wait = parse_duration("5s")
    """How long a destination may accept no data."""
    answer_timeout: Wait = parse_duration("15m")
    """How long a server may take to answer: the source with data, a destination with its verdict."""
    max_wait: Patience = parse_duration("60s")
    """How long one destination may hold the others back, in each pass."""
    lock_timeout: Wait = parse_duration("1s")
    """How long to wait for a lock at a destination."""
    reintroduce: Reintroduce = Field(default_factory=Reintroduce)
    """How a dropped destination is reintroduced within a run."""
    minimum_destinations: int = Field(default=1, ge=1)
    """A run fails if fewer destinations succeed."""
    triggers: Triggers = "fire"
    """Whether triggers of destination tables fire."""
    before: Statements = ()
    """SQL to run at each destination, in the transaction, before the data."""
    after: Statements = ()
    """SQL to run at each destination, in the transaction, after the data."""
    after_commit: Statements = ()
    """SQL to run at each destination after COMMIT, at least once."""
    analyze: bool = True
    """Whether to ANALYZE the destination tables."""
    format: Literal["auto", "text", "binary"] = "auto"
    """The COPY format; auto is binary where types agree and it is safe."""
    ledger_schema: Identifier = "copyd"
    """The schema, at each destination, of the table that records what was loaded."""
    on_error: OnError = "stop"
    """A refused row: stop fails its destination; resume_next rejects the row and loads the rest."""
    batch_rows: int = Field(default=250_000, ge=1)
    """resume_next: the most rows of a batch."""
    batch_size: Size = parse_size("20MB")
    """resume_next: the most bytes of a batch, approximately."""
    max_rejects: int = Field(default=1_000, ge=0)
    """resume_next: with more rejects in a run, a destination fails."""
    max_reject_ratio: float = Field(default=0.01, ge=0, le=1, allow_inf_nan=False)
    """resume_next: with a larger share of rejects in a run (0 to 1), a destination fails."""
    reject_directory: StatePath = Path("rejects")
    """The folder of reject files, below the state directory."""
    keep_rejects: Interval = parse_duration("30d")
    """How long reject files are kept."""
    table: Mapping[TableText, TableOptions] = Field(default_factory=dict)
    """Options of single tables."""
    destination: Mapping[str, Destination] = Field(default_factory=dict)
    """Options of single destinations."""

    def at(self, destination: str) -> Destination:
        """Return the options of `destination`."""
        return self.destination.get(destination) or Destination()

    def mode_at(self, destination: str) -> Mode:
        """Return the mode at `destination`."""
        return self.at(destination).mode or self.mode

    def truncates_at(self, destination: str) -> bool:
        """Whether the tables of `destination` are truncated."""
        replace_with = self.at(destination).replace_with or self.replace_with
        return self.mode_at(destination) == "replace" and replace_with == "truncate"


class Config(Section):
    """A whole configuration file."""

    daemon: Daemon = Field(default_factory=Daemon)
    """Options of the daemon."""
    http: Http = Field(default_factory=Http)
    """The daemon's pages."""
    log: Log = Field(default_factory=Log)
    """The daemon's log."""
    servers: Mapping[Label, Server] = Field(default_factory=dict)
    """Servers by name."""
    clusters: Mapping[Label, Cluster] = Field(default_factory=dict)
    """Managed clusters by name."""
    transfers: Mapping[Label, Transfer] = Field(default_factory=dict)
    """Transfers by name."""

    def reject_directory_of(self, transfer: str) -> Path:
        """Return the folder of the reject files of `transfer`."""
        return self.daemon.state_directory / self.transfers[transfer].reject_directory
