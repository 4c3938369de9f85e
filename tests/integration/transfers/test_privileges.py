"""The statements of docs/transfers.md are what roles need: all of them do, and none can be missing.

What PostgreSQL gives to everybody is taken back in these databases, so that nothing else helps.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from copyd.errors import CopydError
from copyd.transfers import Loading
from copyd.transfers.source.source import hold
from copyd.transfers.verify.comparison import Likeness
from copyd.transfers.verify.verify import verify
from tests.support.fanout import SOURCE, Fanout
from tests.support.servers import PASSWORD, Server
from tests.support.sql import ask, execute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PAGE = Path(__file__).parents[3] / "docs/transfers.md"
BLOCK = re.compile(r"<!-- privileges: ([a-z, ]+) -->\n```sql\n(.*?)```", re.DOTALL)
READER, LOADER = "shop_reader", "shop_loader"
PLACES = {SOURCE: READER, "eu": LOADER}

TABLE = "public.orders"
KEYED = f"CREATE TABLE {TABLE} (id int PRIMARY KEY, note text)"
KEYLESS = f"CREATE TABLE {TABLE} (id int, note text)"
TEN = f"INSERT INTO {TABLE} SELECT i, 'first' FROM generate_series(1, 10) i"
INSERT = f"INSERT INTO {TABLE} VALUES (11, 'new')"
UPDATE = f"UPDATE {TABLE} SET note = 'changed' WHERE id = 2"
REMOVE = f"DELETE FROM {TABLE} WHERE id = 1"

SENTENCE = re.compile("GRANT |CREATE SCHEMA |permission denied|there is no table")
"""Ours has the cure; PostgreSQL's own words do where it lets nobody in."""


def one_by_one(statement: str) -> list[str]:
    """The statement, once for each privilege."""
    grant = re.fullmatch(r"GRANT ([A-Z, ]+) (ON .*)", statement)
    if grant is None:
        return [statement]
    return [f"GRANT {privilege} {grant[2]}" for privilege in grant[1].split(", ")]


DOCUMENTED = {
    name: [single for line in text.splitlines() for single in one_by_one(line)]
    for name, text in BLOCK.findall(PAGE.read_text())
}


@dataclass(frozen=True)
class Way:
    """How to load, what to do to the source before it is done again, what is granted for it."""

    loading: Loading
    granted: str
    changes: tuple[str, ...] = (INSERT, UPDATE, REMOVE)
    create: str = KEYED
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def statements(self) -> list[str]:
        return [*DOCUMENTED["source"], *DOCUMENTED["destination"], *DOCUMENTED[self.granted]]


APPEND, MERGE = Loading(mode="append", analyze=False), Loading(mode="merge", analyze=False)
DELETE = Loading(analyze=False)
WAYS = {
    "replace by delete": Way(DELETE, "replace by delete"),
    "replace by truncate": Way(replace(DELETE, replace_with="truncate"), "replace by truncate"),
    "append without a key": Way(APPEND, "append without a key", (INSERT,), KEYLESS),
    "append": Way(APPEND, "append", (INSERT,)),
    "merge": Way(MERGE, "merge", (INSERT, UPDATE)),
    "merge and delete": Way(MERGE, "merge and delete", options={"delete_missing": True}),
}
FULL = {
    "append without a key": replace(WAYS["append without a key"], changes=(INSERT, UPDATE, REMOVE)),
    "append": replace(WAYS["append"], changes=(INSERT, UPDATE, REMOVE)),
    "merge": replace(WAYS["merge and delete"], options={}),
}
NEEDED = [
    pytest.param("replace by delete", missing, id=missing)
    for missing in [*DOCUMENTED["source"], *DOCUMENTED["destination"]]
    if not missing.startswith("CREATE ROLE")
] + [
    pytest.param(name, missing, id=f"{name}, {missing}")
    for name, way in WAYS.items()
    for missing in DOCUMENTED[way.granted]
]


@pytest.fixture(scope="module")
def own_databases(quiet_server: Server) -> Iterator[Mapping[str, str]]:
    with ExitStack() as stack:
        names = {place: stack.enter_context(quiet_server.database()) for place in PLACES}
        yield names


@dataclass
class Office:
    """A source, a destination, and one role for each that may do what it was granted."""

    fanout: Fanout
    logins: Mapping[str, str]

    def open(self, create: str, statements: Sequence[str]) -> None:
        """Make the tables and the roles, and carry out `statements` where they belong."""
        self.fanout.create(create)
        for place, role in PLACES.items():
            database = self.fanout.databases[place]
            self.fanout.do(place, f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
            self.fanout.do(place, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
            self.grant(place, *(each for each in statements if role in each))
            self.fanout.do(place, f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
        self.fanout.do(SOURCE, TEN)

    def grant(self, place: str, *statements: str) -> None:
        database = self.fanout.databases[place]
        for statement in statements:
            self.fanout.do(place, statement.replace("DATABASE shop ", f"DATABASE {database} "))

    def options(self, way: Way) -> dict[str, Any]:
        return {"loading": way.loading, "conninfos": self.logins, **way.options}

    def close(self) -> None:
        conninfos = [self.fanout.server.conninfo(each) for each in self.fanout.databases.values()]
        for role in PLACES.values():
            if ask(conninfos[0], f"SELECT FROM pg_roles WHERE rolname = '{role}'"):
                for conninfo in conninfos:
                    execute(conninfo, f"DROP OWNED BY {role}")
                execute(conninfos[0], f"DROP ROLE {role}")


@pytest.fixture
def office(quiet_server: Server, own_databases: Mapping[str, str]) -> Iterator[Office]:
    with ExitStack() as stack:
        fanout = Fanout(quiet_server, stack, own_databases)
        logins = {
            place: make_conninfo(quiet_server.tcp_conninfo(own_databases[place]), user=role)
            for place, role in PLACES.items()
        }
        opened = Office(fanout, logins)
        stack.callback(opened.close)
        yield opened


def copy_twice(office: Office, way: Way, *, is_full: bool = False) -> None:
    options = office.options(way)
    office.fanout.succeed(TABLE, **options)
    office.fanout.assert_equal(TABLE)
    office.fanout.do(SOURCE, *way.changes)
    office.fanout.succeed(TABLE, is_full=is_full, **options)
    office.fanout.assert_equal(TABLE)


@pytest.mark.parametrize("name", WAYS)
def test_the_documented_privileges_do(office: Office, name: str) -> None:
    way = WAYS[name]
    office.open(way.create, way.statements)
    copy_twice(office, way)


@pytest.mark.parametrize("name", FULL)
def test_the_documented_privileges_do_for_a_full_run(office: Office, name: str) -> None:
    way = FULL[name]
    office.open(way.create, way.statements)
    copy_twice(office, way, is_full=True)


@pytest.mark.parametrize(("name", "missing"), NEEDED)
def test_each_documented_privilege_is_needed(office: Office, name: str, missing: str) -> None:
    way = WAYS[name]
    assert missing in way.statements
    office.open(way.create, [each for each in way.statements if each != missing])
    try:
        said = office.fanout.fail(TABLE, **office.options(way))
    except CopydError as error:  # the source refuses: no destination was touched
        said = str(error)
    assert SENTENCE.search(said), said
    assert office.fanout.ask("eu", f"SELECT count(*) FROM {TABLE}") == [(0,)]


def test_a_role_that_may_create_in_the_database_needs_no_schema_of_its_own(office: Office) -> None:
    way = WAYS["merge"]
    schema = DOCUMENTED["destination"][-1]
    assert schema.startswith("CREATE SCHEMA")
    office.open(way.create, [each for each in way.statements if each != schema])
    office.grant("eu", f"GRANT CREATE ON DATABASE shop TO {LOADER}")
    copy_twice(office, way)


def test_a_reader_that_sees_others_is_told_of_writers(office: Office) -> None:
    way = WAYS["append without a key"]
    office.open(way.create, way.statements)
    office.fanout.open(SOURCE, INSERT)
    transfer = office.fanout.transfer(TABLE, **office.options(way))
    with hold(transfer) as source:
        assert source.snapshot.oldest_writer is None
    office.grant(SOURCE, *DOCUMENTED["source, told of writers"])
    with hold(transfer) as source:
        assert source.snapshot.oldest_writer is not None


def test_triggers_are_skipped_with_the_documented_privilege(office: Office) -> None:
    way = replace(WAYS["merge"], loading=replace(MERGE, triggers="skip"))
    office.open(way.create, way.statements)
    (skipping,) = DOCUMENTED["skipping triggers"]
    said = office.fanout.fail(TABLE, **office.options(way))
    assert "session_replication_role" in said
    if not has_major(office, 15):
        assert "GRANT" not in said
        return
    office.grant("eu", skipping)
    copy_twice(office, way)


def test_tables_are_analyzed_with_the_documented_privilege(office: Office) -> None:
    way = replace(WAYS["merge"], loading=Loading(mode="merge"))
    office.open(way.create, way.statements)
    statistics = "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'orders'"
    copy_twice(office, way)
    assert office.fanout.ask("eu", statistics) == [(False,)]
    if not has_major(office, 17):
        return
    office.grant("eu", *DOCUMENTED["analyze"])
    office.fanout.succeed(TABLE, **office.options(way))
    assert office.fanout.ask("eu", statistics) == [(True,)]


def test_reading_is_enough_to_verify(office: Office) -> None:
    way = WAYS["replace by delete"]
    entering = [each for each in DOCUMENTED["destination"] if "SCHEMA copyd" not in each]
    reading = f"GRANT SELECT ON {TABLE} TO {LOADER}"
    office.open(way.create, [*DOCUMENTED["source"], *entering, reading])
    office.fanout.do("eu", TEN)
    assert verify(office.fanout.transfer(TABLE, **office.options(way))).likeness is Likeness.EQUAL


def has_major(office: Office, major: int) -> bool:
    ((number,),) = office.fanout.ask("eu", "SELECT current_setting('server_version_num')::int")
    return int(number) >= major * 10_000
