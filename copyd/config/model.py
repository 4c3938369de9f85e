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
    """A table of the file: nothing in it is unknown, nothing is converted, nothing changes."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        strict=True,
        use_attribute_docstrings=True,
    )


class Daemon(Section):
    """How the daemon works, and where it keeps what it must not forget, and what it may."""

    state_directory: AbsolutePath = Path("/var/lib/copyd")
    """What must survive a restart. An ordinary user's default: the XDG state folder."""
    runtime_directory: AbsolutePath = Path("/run/copyd")
    """Sockets and locks. An ordinary user's default: the XDG runtime folder."""
    workers: int = Field(default=4, ge=1, le=1000)
    """How many runs are carried out at once."""
    shutdown_grace: Patience = parse_duration("30s")
    """How long runs may go on when the daemon is told to stop; then they are cut off."""
    keep_history: Interval = parse_duration("30d")
    """How long a run is remembered."""


class Http(Section):
    """Where the daemon answers, read-only: /metrics, /livez, /readyz, /healthz, /status."""

    listen: Listen = "127.0.0.1:9632"
    """HOST:PORT; an IPv6 address in brackets. With "" it does not listen at all."""


class Log(Section):
    """What the daemon writes to standard error, an event a line."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important events that are written."""
    format: Literal["auto", "json", "console"] = "auto"
    """How; auto is console on a terminal, else JSON."""


class Server(Section):
    """A PostgreSQL server and a database of it: by conninfo, or a cluster that copyd owns."""

    conninfo: Conninfo | None = None
    """How to connect, as libpq takes it: keywords, a URI, or service=NAME."""
    cluster: str | None = None
    """The NAME of a section [clusters.NAME], instead of conninfo."""
    dbname: Text | None = None
    """The database of the cluster."""
    password_file: AbsolutePath | None = None
    """A file whose first line is the password; others must not be able to read it."""
    passfile: AbsolutePath | None = None
    """A password file in libpq's format, instead of ~/.pgpass."""
    max_connections: int | None = Field(default=None, ge=1)
    """The most connections that the daemon's runs hold there at once; by default any number."""


class Cluster(Section):
    """A PostgreSQL cluster that copyd owns: made, started, watched, restarted, stopped."""

    data_directory: AbsolutePath
    """The data directory."""
    version: int | None = Field(default=None, ge=13)
    """The major version; by default that of the data directory, else the best one here."""
    pg_config: AbsolutePath | None = None
    """The pg_config of the installation to use, instead of a version."""
    init: bool = False
    """Make the data directory where its path is absent or empty and copyd never saw one there."""
    password_file: AbsolutePath | None = None
    """A file whose first line is the superuser's password; by default init generates one."""
    run_as: Text | None = None
    """The server's account where copyd runs as root; by default postgres, else nobody."""
    on_exit: OnExit | None = None
    """What the daemon's end does to the server; by default stop, but leave for one it found."""
    allow_restart: bool = False
    """Restart the server for settings that need it."""
    settings: Mapping[SettingName, SettingValue] = Field(default_factory=dict)
    """Settings of postgresql.conf."""
    hba: Text | None = None
    """The whole text of pg_hba.conf; by default what init wrote."""

    @property
    def takes_over(self) -> bool:
        """Whether a server that somebody else started is stopped and restarted like an own one."""
        return self.on_exit == "stop"

    @property
    def is_stopped_at_exit(self) -> bool:
        """Whether a server that the daemon started ends with the daemon."""
        return self.on_exit != "leave"


class Reintroduce(Section):
    """How often, and after how long, a dropped destination comes back within a run."""

    attempts: int = Field(default=5, ge=0)
    """How often."""
    backoff: Patience = parse_duration("1s")
    """How long to wait before the first time; twice as long before each next one."""
    max_backoff: Patience = parse_duration("30s")
    """The longest such wait."""


class Breaker(Section):
    """When the daemon's runs leave a destination alone that fails, and for how long."""

    failures: int = Field(default=3, ge=1)
    """After how many runs in a row in which it failed."""
    backoff: Wait = parse_duration("30s")
    """For how long the first time; twice as long after each further failure."""
    max_backoff: Wait = parse_duration("15m")
    """The longest that it is left alone."""


class TableOptions(Section):
    """What holds for one table of a transfer."""

    columns: Identifiers | None = None
    """The columns to copy; by default all."""
    where: Text | None = None
    """Which rows to copy, as a condition in SQL; by default all."""
    cursor: Identifier | None = None
    """This table's cursor, instead of the transfer's."""
    key: Identifiers | None = None
    """This table's key, instead of the transfer's or the primary key."""


class Destination(Section):
    """What is different at one destination of a transfer."""

    tables: Mapping[TableText, TableName] = Field(default_factory=dict)
    """Which source table goes into which table here; by default that of the same name."""
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
    """Take over tables that hold rows already, or those of another transfer or source."""
    physical_clone: bool = False
    """The destination was made from the source's files: same identifier, another server."""


class Transfer(Section):
    """What to copy from which server to which, and how."""

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
    """All rows anew; or new ones added; or new and changed ones merged by key."""
    replace_with: ReplaceWith = "delete"
    """How replace empties a table: readers never wait for delete; truncate is faster."""
    cursor: Identifier | None = None
    """append, merge: a column that grows with every change; an index on it narrows the scan."""
    overlap: Overlap = "all"
    """How far behind the cursor's mark to look: "all", a duration, or a number."""
    full_every: Interval = parse_duration("24h")
    """With another overlap than "all": how often to look everywhere."""
    key: Identifiers | None = None
    """append, merge: the columns that tell rows apart; by default the primary key."""
    delete_missing: bool = False
    """merge: remove rows that the source no longer has."""
    max_shrink: float = Field(default=0.9, ge=0, le=1, allow_inf_nan=False)
    """replace, delete_missing: the largest share of rows that may vanish in one run."""
    every: Interval | None = None
    """How often the daemon runs it."""
    cron: Cron | None = None
    """When the daemon runs it, instead of every: minute, hour, day, month, day of week."""
    timezone: Timezone = "UTC"
    """The time zone of cron."""
    jitter: Patience = 0.0
    """A run begins up to so much later than it is due, by chance, so that many do not coincide."""
    catch_up: Literal["once", "skip"] = "once"
    """What becomes of runs that were missed: one is made up for, or none."""
    breaker: Breaker = Field(default_factory=Breaker)
    """When a destination that fails is left alone."""
    deadline: Wait = parse_duration("30m")
    """How long a run may take."""
    prepare_timeout: Wait = parse_duration("10s")
    """How long the first pass waits for destinations to be ready."""
    stall_timeout: Wait = parse_duration("5s")
    """How long a destination may take nothing."""
    answer_timeout: Wait = parse_duration("15m")
    """How long a server may think: the source before it sends more, a destination its verdict."""
    max_wait: Patience = parse_duration("60s")
    """How long, per pass, the others may be held back by one destination."""
    lock_timeout: Wait = parse_duration("1s")
    """How long to wait for a lock at a destination."""
    reintroduce: Reintroduce = Field(default_factory=Reintroduce)
    """How a dropped destination comes back within a run."""
    minimum_destinations: int = Field(default=1, ge=1)
    """Where fewer succeed, the run has failed."""
    triggers: Triggers = "fire"
    """Whether triggers of destination tables fire."""
    before: Statements = ()
    """SQL at each destination, in the transaction, before the data."""
    after: Statements = ()
    """SQL at each destination, in the transaction, after the data."""
    after_commit: Statements = ()
    """SQL at each destination after the transaction, at least once."""
    analyze: bool = True
    """Whether to ANALYZE the destination tables."""
    format: Literal["auto", "text", "binary"] = "auto"
    """The COPY format; auto is binary where types agree and it is safe."""
    ledger_schema: Identifier = "copyd"
    """The schema, at each destination, of the table that records what was loaded."""
    on_error: OnError = "stop"
    """A refused row: fails its destination; or is put aside (resume_next), and the rest is loaded."""
    batch_rows: int = Field(default=250_000, ge=1)
    """resume_next: a batch is this many rows at most."""
    batch_size: Size = parse_size("20MB")
    """resume_next: a batch is about this many bytes at most."""
    max_rejects: int = Field(default=1_000, ge=0)
    """resume_next: with more rejects than this in a run a destination fails."""
    max_reject_ratio: float = Field(default=0.01, ge=0, le=1, allow_inf_nan=False)
    """resume_next: with a larger share of rejects in a run a destination fails."""
    reject_directory: StatePath = Path("rejects")
    """The folder of the files of rejects, below the state directory."""
    keep_rejects: Interval = parse_duration("30d")
    """How long the files of rejects are kept."""
    table: Mapping[TableText, TableOptions] = Field(default_factory=dict)
    """Options of single tables."""
    destination: Mapping[str, Destination] = Field(default_factory=dict)
    """Options of single destinations."""

    def at(self, destination: str) -> Destination:
        """Return what is different at `destination`."""
        return self.destination.get(destination) or Destination()

    def mode_at(self, destination: str) -> Mode:
        """Return how rows get into the tables of `destination`."""
        return self.at(destination).mode or self.mode

    def truncates_at(self, destination: str) -> bool:
        """Whether the tables of `destination` are truncated."""
        replace_with = self.at(destination).replace_with or self.replace_with
        return self.mode_at(destination) == "replace" and replace_with == "truncate"


class Config(Section):
    """A whole configuration file."""

    daemon: Daemon = Field(default_factory=Daemon)
    """The daemon's own."""
    http: Http = Field(default_factory=Http)
    """Where it answers."""
    log: Log = Field(default_factory=Log)
    """What it writes."""
    servers: Mapping[Label, Server] = Field(default_factory=dict)
    """Servers by name."""
    clusters: Mapping[Label, Cluster] = Field(default_factory=dict)
    """Clusters that copyd owns, by name."""
    transfers: Mapping[Label, Transfer] = Field(default_factory=dict)
    """Transfers by name."""

    def reject_directory_of(self, transfer: str) -> Path:
        """Return where the files of rejects of `transfer` are."""
        return self.daemon.state_directory / self.transfers[transfer].reject_directory
