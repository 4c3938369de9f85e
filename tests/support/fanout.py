"""A source and replicas in databases of their own, and runs of transfers between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from copyd import events
from copyd.transfers import Loading, Query, Reintroduce, Replica, Server, Tables, Transfer, run
from tests.support.sql import ask, content, execute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import ExitStack

    from copyd.events import Event, Observer
    from copyd.transfers import Outcome, Report
    from tests.support.servers import Server as Running

SOURCE = "source"
REPLICAS = ("eu", "us", "ap")

OTHERS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
SCHEMAS = """
SELECT quote_ident(nspname) FROM pg_namespace
WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
"""

Row = tuple[Any, ...]


@dataclass
class Fanout:
    """``conninfos`` are those of the ``databases`` in use: ``source``, and the replicas of a run.

    What a run says is kept in ``seen`` until the next one.
    """

    server: Running
    stack: ExitStack
    databases: Mapping[str, str]
    conninfos: dict[str, str] = field(default_factory=dict)
    seen: list[Event] = field(default_factory=list)

    def create(self, *statements: str, replicas: int = 1, more: str = "", fill: str = "") -> None:
        """Make a source and replicas with the same tables.

        ``more`` runs at the replicas only, ``fill`` at the source.
        """
        for name in (SOURCE, *REPLICAS[:replicas]):
            self.conninfos[name] = self.server.conninfo(self.databases[name])
            empty(self.conninfos[name])
            execute(self.conninfos[name], *statements)
            if more and name != SOURCE:
                execute(self.conninfos[name], more)
        if fill:
            self.do(SOURCE, fill)

    @property
    def replicas(self) -> tuple[str, ...]:
        return tuple(name for name in self.conninfos if name != SOURCE)

    def ask(self, where: str, query: str) -> list[Row]:
        return ask(self.conninfos[where], query)

    def do(self, where: str, *statements: str) -> None:
        execute(self.conninfos[where], *statements)

    def everywhere(self, *statements: str, at: tuple[str, ...] = ()) -> None:
        """At the source and all replicas, or only at those named."""
        for name in at or tuple(self.conninfos):
            self.do(name, *statements)

    def value(self, where: str, query: str) -> Any:
        """The first column of the first row."""
        return self.ask(where, query)[0][0]

    def end(self, name: str, **options: str) -> Server:
        """The source or a replica, with these options of a connection."""
        return Server(name, make_conninfo(self.conninfos[name], **options))

    def open(self, where: str, *statements: str) -> psycopg.Connection[Any]:
        """Begin a transaction that stays open until it is ended, or the test is."""
        connection = self.stack.enter_context(psycopg.connect(self.conninfos[where]))
        self.stack.callback(connection.close)  # before the block would commit
        for statement in statements:
            connection.execute(statement)
        return connection

    def transfer(
        self,
        *tables: str,
        to: tuple[str, ...] = (),
        query: Query | None = None,
        what: Tables | None = None,
        loading: Loading | None = None,
        at: Mapping[str, Loading] | None = None,
        conninfos: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Transfer:
        """A transfer of ``public.t``, or what is named, to all replicas or those named.

        ``loading`` holds for all that ``at`` does not name; ``conninfos`` instead of the usual.
        """
        where = {**self.conninfos, **(conninfos or {})}
        ways = at or {}
        usual = loading or Loading()
        quick = Reintroduce(attempts=0, backoff=0.05, max_backoff=0.2)
        return Transfer(
            **{
                "name": "books",
                "source": Server(SOURCE, where[SOURCE]),
                "replicas": tuple(
                    Replica(Server(name, where[name]), ways.get(name, usual))
                    for name in to or self.replicas
                ),
                "what": query or what or Tables(tables or ("public.t",)),
                "reintroduce": quick,
                "deadline": 60.0,
                **options,
            }
        )

    def run(
        self,
        *tables: str,
        is_full: bool = False,
        observe: Observer = events.ignore,
        **options: Any,
    ) -> Report:
        """Carry out what `transfer` makes of the same arguments."""
        return self.carry_out(self.transfer(*tables, **options), is_full=is_full, observe=observe)

    def carry_out(
        self, transfer: Transfer, *, is_full: bool = False, observe: Observer = events.ignore
    ) -> Report:
        self.seen.clear()

        def see(event: Event) -> None:
            self.seen.append(event)
            observe(event)

        return run(transfer, is_full=is_full, observe=see)

    def succeed(self, *tables: str, **options: Any) -> tuple[Outcome, ...]:
        """Carry it out; every destination must succeed."""
        report = self.run(*tables, **options)
        assert {each.verdict.value for each in report.outcomes} == {"succeeded"}, report
        return report.outcomes

    def fail(self, *tables: str, **options: Any) -> str:
        """Carry it out; every destination must fail. Returns the causes."""
        report = self.run(*tables, **options)
        assert {each.verdict.value for each in report.outcomes} == {"failed"}, report
        assert {each.counts.rows for each in report.outcomes} == {0}
        return "; ".join(each.cause or "" for each in report.outcomes)

    @property
    def relayed(self) -> int:
        """Rows that the last run read at the source and sent on, each once a pass."""
        return sum(e.messages for e in self.seen if isinstance(e, events.DataRelayed))

    def passes(self) -> Iterator[frozenset[str]]:
        """Who shared the passes of the last run, in their order."""
        for event in self.seen:
            if isinstance(event, events.PassStarted):
                yield frozenset(event.destinations)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.seen if isinstance(event, kind)]

    def assert_equal(self, *tables: str, to: tuple[str, ...] = ()) -> None:
        """Every row is the source's, as SQL of the test's own sees it."""
        names = tables or ("public.t",)
        expected = content(self.conninfos[SOURCE], names)
        for name in to or self.replicas:
            assert content(self.conninfos[name], names) == expected, name


def empty(conninfo: str) -> None:
    """Make a database as good as new, which takes less time than a new one."""
    schemas = [schema for (schema,) in ask(conninfo, SCHEMAS)]
    database = conninfo_to_dict(conninfo)["dbname"]
    execute(
        conninfo,
        OTHERS,
        f"ALTER DATABASE {database} RESET ALL",
        f"GRANT TEMPORARY ON DATABASE {database} TO PUBLIC",
        *(f"DROP SCHEMA {schema} CASCADE" for schema in schemas),
        "CREATE SCHEMA public",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
    )
