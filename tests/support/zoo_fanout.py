"""A source full of every kind of table and three destinations, and what is to be the same there."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from copyd.transfers import Loading, Replica, Server, Tables, Transfer, Verdict, run
from tests.support import zoo
from tests.support.sql import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.transfers import Report
    from copyd.transfers.transfer import Format
    from tests.support import servers
    from tests.support.zoo import Zoo

NAMES = ("eu", "us", "asia")
ALL = ("inserts", "updates", "deletes")
PARTITIONED = ("measures", "readings")  # what references a table is replaced with it
KEYLESS = ("log",)


@dataclass(frozen=True)
class Case:
    """A way to load, the changes that it can follow, and the tables that it is not for."""

    loading: Loading
    changes: tuple[str, ...] = ALL
    unfit: tuple[str, ...] = ()
    delete_missing: bool = False


CASES = {
    "replace by delete": Case(Loading()),
    "replace by truncate": Case(Loading(replace_with="truncate"), unfit=PARTITIONED),
    "append": Case(Loading(mode="append"), ("inserts",)),
    "merge": Case(Loading(mode="merge"), unfit=KEYLESS, delete_missing=True),
}


@dataclass(frozen=True)
class ZooFanout:
    """A source and three destinations, and who judges them."""

    zoo: Zoo
    majors: tuple[int, int]
    source: str
    ends: tuple[str, ...]
    psql: str | None

    def transfer(self, case: Case = CASES["replace by delete"], **options: object) -> Transfer:
        whole = Transfer(
            name="zoo",
            source=Server("source", self.source),
            replicas=tuple(
                Replica(Server(name, end), case.loading)
                for name, end in zip(NAMES, self.ends, strict=True)
            ),
            what=Tables(self.zoo.names),
            delete_missing=case.delete_missing,
        )
        return replace(whole, **options)  # type: ignore[arg-type]

    def fit(self, case: Case, format_: Format = "text") -> ZooFanout:
        """Leave out the tables that are not for `case`, or cannot travel in binary."""
        tables = self.zoo.without(*case.unfit).tables
        if format_ == "binary":
            tables = tuple(each for each in tables if each.travels_in_binary(self.majors))
        return replace(self, zoo=zoo.Zoo(tables))

    def assert_equal(self) -> dict[str, tuple[int, str]]:
        expected = self.zoo.digest(self.source, self.psql)
        for name, end in zip(NAMES, self.ends, strict=True):
            found = self.zoo.digest(end, self.psql)
            assert {each for each in expected if found[each] != expected[each]} == set(), name
        return expected


def copied(transfer: Transfer) -> Report:
    """Run, and succeed everywhere."""
    report = run(transfer)
    assert report.verdict is Verdict.SUCCEEDED, [each.cause for each in report.outcomes]
    return report


@dataclass(frozen=True)
class ZooServers:
    """Two servers, with a database to make sources of on one, and destinations on the other."""

    zoo: Zoo
    source: servers.Server
    destination: servers.Server
    psql: str | None
    filled: str
    ends: tuple[str, ...]

    @property
    def majors(self) -> tuple[int, int]:
        return major(self.source), major(self.destination)

    @contextmanager
    def fanout(self) -> Iterator[ZooFanout]:
        """A source of its own, and the destinations, empty."""
        with zoo.database(self.source, template=self.filled) as filled:
            ends = tuple(map(self.destination.conninfo, self.ends))
            for dbname, conninfo in zip(self.ends, ends, strict=True):
                zoo.execute(conninfo, [*self.zoo.empty(), f"ALTER DATABASE {dbname} RESET ALL"])
            yield ZooFanout(self.zoo, self.majors, self.source.conninfo(filled), ends, self.psql)


@contextmanager
def open_zoo(
    source: servers.Server, destination: servers.Server, psql: str | None
) -> Iterator[ZooServers]:
    """Three destinations; the second has all columns in the opposite order."""
    is_xml = all(zoo.has_xml(each.conninfo()) for each in (source, destination))
    whole = zoo.Zoo.common([major(source), major(destination)], has_xml=is_xml)
    with ExitStack() as stack:
        filled = stack.enter_context(zoo.database(source, *whole.create(), *whole.fill()))
        ends = tuple(
            stack.enter_context(zoo.database(destination, *whole.create(backwards=name == "us")))
            for name in NAMES
        )
        yield ZooServers(whole, source, destination, psql, filled, ends)


def major(server: servers.Server) -> int:
    return int(ask(server.conninfo(), "SHOW server_version_num")[0][0]) // 10_000


def follow(fanout: ZooFanout, case: Case, format_: Format) -> None:
    """Copy, change the source, copy again; each time the destinations must be equal to it."""
    fanout = fanout.fit(case, format_)
    transfer = fanout.transfer(case, format=format_)
    report = copied(transfer)
    before = fanout.assert_equal()
    rows = sum(number for number, _ in before.values())
    assert [outcome.counts.rows for outcome in report.outcomes] == [rows] * 3
    zoo.execute(fanout.source, fanout.zoo.change(*case.changes))
    copied(transfer)
    after = fanout.assert_equal()
    unchanged = {
        table.name for table in fanout.zoo.tables if before[table.name] == after[table.name]
    }
    assert unchanged <= {'"zoo"."nobody"'}
