"""Everything that a run would refuse is found before one begins, and nothing is touched."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from copyd.errors import CopydError
from copyd.transfers import Loading, Query, Replica, Server, Tables, Transfer, Verdict, run
from copyd.transfers.check.check import inspect
from copyd.transfers.transfer import TableOptions
from tests.support.fanout import SOURCE, Fanout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copyd.transfers.check.findings import Finding
    from tests.support import servers

READER, LOADER = "check_reader", "check_loader"
NOBODY = Server("nobody", "host=127.0.0.1 port=1 dbname=none user=none")
TABLES = Tables(("public.parents", "public.children"))
DDL = (
    "CREATE TABLE parents (id int PRIMARY KEY, name text);"
    "CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents, note text)"
)
WHO_HOLDS = """
SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid()
   AND (locktype = 'advisory' OR relation >= 16384)
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass
class CheckedFanout(Fanout):
    """Transfers of two tables by roles that may do only what they are granted."""

    def end(self, name: str, **options: str) -> Server:
        role = READER if name == SOURCE else LOADER
        return super().end(name, options=f"-c role={role}", **options)

    def books(self, *at: Server, loading: Loading | None = None, **options: Any) -> Transfer:
        replicas = at or tuple(map(self.end, self.replicas))
        return Transfer(**{
            "name": "books",
            "source": self.end(SOURCE),
            "replicas": tuple(Replica(each, loading or Loading()) for each in replicas),
            "what": TABLES,
            **options,
        })  # fmt: skip

    def errors(self, transfer: Transfer, **options: Any) -> list[tuple[str, str, str]]:
        """Server, table and sentence of every error."""
        found = self.inspect(transfer, **options)
        return [
            (each.server, each.table, each.sentence) for each in found if each.severity == "error"
        ]

    def inspect(self, transfer: Transfer, **options: Any) -> tuple[Finding, ...]:
        used = (transfer.source, *(replica.server for replica in transfer.replicas))
        return inspect([transfer], used, **options)


@pytest.fixture(scope="module")
def roles(quiet_server: servers.Server) -> Iterator[None]:
    """Roles that start with no privilege at all."""
    with quiet_server.connect() as admin:
        admin.execute(f"CREATE ROLE {READER}; CREATE ROLE {LOADER}".encode())
        yield
        admin.execute(f"DROP ROLE {READER}; DROP ROLE {LOADER}".encode())


@pytest.fixture
def site(
    quiet_server: servers.Server, databases: Mapping[str, str], roles: None
) -> Iterator[CheckedFanout]:
    del roles
    with ExitStack() as stack:
        made = CheckedFanout(quiet_server, stack, databases)
        made.create(DDL, replicas=2)
        for name in made.conninfos:
            made.do(name, f"REVOKE TEMPORARY ON DATABASE {databases[name]} FROM PUBLIC")
        yield made
        made.everywhere(f"DROP OWNED BY {READER}, {LOADER}")


def grant_all(site: CheckedFanout, privileges: str = "SELECT, INSERT, DELETE") -> None:
    """What a least-privilege role needs, by the example of replace."""
    site.do(SOURCE, f"GRANT SELECT ON parents, children TO {READER}")
    for name in site.replicas:
        site.do(
            name,
            f"GRANT {privileges} ON parents, children TO {LOADER}",
            f"CREATE SCHEMA copyd AUTHORIZATION {LOADER}",
            f"GRANT TEMPORARY ON DATABASE {site.databases[name]} TO {LOADER}",
        )


MODES = {
    "delete": (Loading(), "SELECT, INSERT, DELETE", {}),
    "truncate": (Loading(replace_with="truncate"), "SELECT, INSERT, TRUNCATE", {}),
    "append": (Loading(mode="append"), "SELECT, INSERT, UPDATE", {}),
    "merge": (
        Loading(mode="merge"),
        "SELECT, INSERT, UPDATE, DELETE",
        {"delete_missing": True},
    ),
}


@pytest.mark.parametrize("how", MODES)
def test_roles_with_exactly_the_needed_privileges_have_no_errors_and_a_run_succeeds(
    site: CheckedFanout, how: str
) -> None:
    loading, privileges, options = MODES[how]
    grant_all(site, privileges)
    site.do("source", "INSERT INTO parents VALUES (1, 'x')")
    transfer = site.books(loading=replace(loading, analyze=False), **options)
    found = site.inspect(transfer)
    assert {each.severity for each in found} == {"ok"}, found
    assert {(each.server, each.table) for each in found if each.transfer} == {
        (server, f"public.{table}")
        for server in ("source", "eu", "us")
        for table in ("parents", "children")
    }
    assert run(transfer).verdict is Verdict.SUCCEEDED
    assert site.errors(transfer) == []


def test_many_errors_are_found_at_once(site: CheckedFanout) -> None:
    site.do("source", "GRANT SELECT (id) ON parents TO check_reader")
    site.do("eu", "ALTER TABLE children RENAME note TO remark")
    site.do("eu", "ALTER TABLE parents ALTER name TYPE int USING 0")
    site.do("us", "DROP TABLE children")
    site.do("us", f"GRANT SELECT ON parents TO {LOADER}; INSERT INTO parents VALUES (1)")
    site.do("us", "CREATE TABLE logs (parent int REFERENCES parents ON DELETE CASCADE)")
    gone = Tables((*TABLES.names, "public.gone", "attic.*"))
    found = site.errors(site.books(site.end("eu"), site.end("us"), NOBODY, what=gone))
    missing = "role check_loader may not"
    expected = [
        ("nobody", "", "cannot connect to nobody"),
        ("source", "public.gone", "there is no table public.gone"),
        ("source", "attic.*", "no table matches attic.*"),
        ("source", "public.children", "role check_reader may not read id, parent, note of table"),
        ("source", "public.parents", "role check_reader may not read name of table public.parents"),
        ("eu", "", "the ledger needs a schema copyd"),
        ("eu", "public.children", "it has no column note"),
        ("eu", "public.children", f"{missing} INSERT, SELECT, DELETE on table public.children"),
        ("eu", "public.parents", "its column name is integer, the source's is text"),
        ("eu", "public.parents", f"{missing} INSERT, SELECT, DELETE on table public.parents"),
        ("us", "", "the ledger needs a schema copyd"),
        ("us", "public.children", "there is no table public.children"),
        ("us", "public.parents", f"{missing} INSERT, DELETE on table public.parents"),
        ("us", "public.parents", "would change rows of public.logs (ON DELETE CASCADE)"),
        ("nobody", "", "it is a destination of this transfer, and could not be looked at"),
    ]
    for server, table, sentence in expected:
        assert any((server, table) == each[:2] and sentence in each[2] for each in found), (
            server,
            table,
            sentence,
            found,
        )
    assert len(found) == len(expected), found


def test_nothing_is_created_or_kept_locked(site: CheckedFanout) -> None:
    grant_all(site)
    site.do("eu", "DROP SCHEMA copyd")
    name = site.value("eu", "SELECT current_database()")
    site.do("eu", f'GRANT CREATE ON DATABASE "{name}" TO {LOADER}')
    try:
        assert site.errors(site.books()) == []
        for server in site.conninfos:
            assert site.value(server, WHO_HOLDS) == 0
            site.do(server, "SET lock_timeout = '1ms'; ALTER TABLE children ADD more int")
        assert site.value("eu", "SELECT to_regnamespace('copyd')") is None
        assert site.value("us", "SELECT to_regclass('copyd.ledger')") is None
    finally:
        site.do("eu", f'REVOKE CREATE ON DATABASE "{name}" FROM {LOADER}')


def test_what_is_there_already_has_to_be_adopted(site: CheckedFanout) -> None:
    grant_all(site)
    site.do("eu", "INSERT INTO parents VALUES (1, 'ours')")
    transfer = site.books(site.end("eu"))
    ((server, table, sentence),) = site.errors(transfer)
    assert (server, table) == ("eu", "public.parents")
    assert "is not empty and no run has loaded it" in sentence
    adopting = Replica(site.end("eu"), Loading(adopt=True))
    assert site.errors(replace(transfer, replicas=(adopting,))) == []


def test_another_transfers_table_is_refused(site: CheckedFanout) -> None:
    grant_all(site)
    transfer = site.books(site.end("eu"), loading=Loading(analyze=False))
    assert run(transfer).verdict is Verdict.SUCCEEDED
    assert [each[2].partition(":")[0] for each in site.errors(replace(transfer, name="other"))] == [
        "table public.children is loaded by transfer books",
        "table public.parents is loaded by transfer books",
    ]


def test_other_columns_than_those_of_the_last_run_are_refused(site: CheckedFanout) -> None:
    grant_all(site, "SELECT, INSERT, UPDATE")
    loading = Loading(mode="append", analyze=False)
    transfer = site.books(site.end("eu"), loading=loading)
    site.do("source", "INSERT INTO parents VALUES (1, 'x')")
    assert run(transfer).verdict is Verdict.SUCCEEDED
    fewer = replace(TABLES, options={"public.parents": TableOptions(columns=("id",))})
    ((_, table, sentence),) = site.errors(replace(transfer, what=fewer))
    assert table == "public.parents"
    assert "--full" in sentence


def test_tables_that_reference_one_another_in_a_circle_are_refused(site: CheckedFanout) -> None:
    grant_all(site)
    site.do("us", "ALTER TABLE parents ADD FOREIGN KEY (id) REFERENCES children")
    ((server, _, sentence),) = site.errors(site.books())
    assert server == "us"
    assert "in a circle of foreign keys" in sentence


def test_the_source_is_no_destination_of_itself(site: CheckedFanout) -> None:
    grant_all(site)
    site.do("source", f"GRANT SELECT, INSERT, DELETE ON parents, children TO {LOADER}")
    site.do("source", f"CREATE SCHEMA copyd AUTHORIZATION {LOADER}")
    given = f"{site.conninfos['source']} options='-c role={LOADER}'"
    assert site.errors(site.books(Server("mirror", given))) == [
        ("mirror", f"public.{name}", f"table public.{name} there is the source itself")
        for name in ("children", "parents")
    ]


def test_one_table_under_two_names_of_servers_is_found(site: CheckedFanout) -> None:
    grant_all(site)
    again = Server("again", site.end("eu").conninfo)
    found = site.errors(site.books(site.end("eu"), again))
    assert sorted(each[1:] for each in found) == [
        (f"public.{name}", f"table public.{name} there is a destination of this run already")
        for name in ("children", "parents")
    ]


def test_unlogged_tables_and_tables_without_a_key_are_refused_by_merge(site: CheckedFanout) -> None:
    grant_all(site, "ALL")
    site.do("eu", "ALTER TABLE children SET UNLOGGED")
    site.do("us", "ALTER TABLE children DROP CONSTRAINT children_pkey")
    found = site.errors(site.books(loading=Loading(mode="merge")))
    assert [each[:2] for each in found] == [("eu", "public.children"), ("us", "public.children")]
    assert "is UNLOGGED" in found[0][2]
    assert "has no primary key" in found[1][2]


def test_row_security_at_the_source_is_an_error(site: CheckedFanout) -> None:
    grant_all(site)
    site.do("source", "ALTER TABLE parents ENABLE ROW LEVEL SECURITY")
    ((server, table, sentence),) = site.errors(site.books())
    assert (server, table) == ("source", "public.parents")
    assert "row security of table public.parents applies to role check_reader" in sentence


def test_privileges_on_all_columns_do_not_let_a_run_lock_its_source(site: CheckedFanout) -> None:
    grant_all(site)
    site.do("source", f"REVOKE SELECT ON parents FROM {READER}")
    site.do("source", f"GRANT SELECT (id, name) ON parents TO {READER}")
    ((server, table, sentence),) = site.errors(site.books())
    assert (server, table) == ("source", "public.parents")
    assert "may not lock table public.parents" in sentence
    with pytest.raises(CopydError, match="permission denied"):
        run(site.books(site.end("eu")))


def test_a_condition_that_the_server_does_not_understand_is_an_error(site: CheckedFanout) -> None:
    grant_all(site)
    options = {"public.parents": TableOptions(where="nme = 'x'", cursor="later")}
    what = replace(TABLES, options=options)
    ((_, table, sentence),) = site.errors(site.books(what=what))
    assert (table, "no column later" in sentence) == ("public.parents", True)
    what = replace(TABLES, options={"public.parents": TableOptions(where="nme = 'x'")})
    ((_, table, sentence),) = site.errors(site.books(what=what))
    assert (table, '"nme" does not exist' in sentence) == ("public.parents", True)


def test_a_query_is_looked_at_like_a_table(site: CheckedFanout) -> None:
    grant_all(site)
    what = Query("SELECT id, name AS title FROM parents", into="public.parents")
    assert site.errors(site.books(site.end("eu"), what=what)) == [
        ("eu", "public.parents", "table public.parents does not fit: it has no column title")
    ]
    site.do("source", f"REVOKE SELECT ON parents FROM {READER}")
    ((server, _, sentence),) = site.errors(site.books(site.end("eu"), what=what))
    assert (server, "permission denied" in sentence) == ("source", True)


def test_superusers_triggers_and_needless_options_are_warnings(site: CheckedFanout) -> None:
    grant_all(site)
    site.do(
        "eu",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER told BEFORE INSERT ON parents FOR EACH ROW EXECUTE FUNCTION f()",
    )
    owner = Server("eu", site.conninfos["eu"])
    site.do("eu", "ALTER SCHEMA copyd OWNER TO tester")
    what = replace(TABLES, options={"public.other": TableOptions(where="true")})
    found = site.inspect(site.books(owner, what=what))
    warned = [each for each in found if each.severity == "warning"]
    assert [(each.transfer, each.server, each.table) for each in warned] == [
        ("", "eu", ""),
        ("books", "source", "public.other"),
        ("books", "eu", "public.parents"),
    ]
    assert "is a superuser" in warned[0].sentence
    assert "(told)" in warned[2].sentence
    assert not [each for each in found if each.severity == "error"]


def test_a_table_that_somebody_has_locked_is_a_warning(site: CheckedFanout) -> None:
    grant_all(site)
    with closing(psycopg.connect(site.conninfos["eu"])) as holder:
        holder.execute("LOCK TABLE parents")
        found = site.inspect(replace(site.books(), lock_timeout=0.05))
    warned = [each for each in found if each.severity != "ok"]
    assert [(each.server, each.table, each.severity) for each in warned] == [
        ("eu", "public.parents", "warning")
    ]


def test_a_server_that_never_answers_is_a_finding_in_time(site: CheckedFanout) -> None:
    grant_all(site)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        mute = Server("mute", f"host=127.0.0.1 port={port} dbname=x user=x connect_timeout=2")
        found = site.errors(site.books(site.end("eu"), mute), within=0.5)
        assert ("mute", "", "no answer within 0.5 s") in found
        assert {each[0] for each in found} == {"mute"}
        silent.settimeout(10)
        held, _ = silent.accept()
        held.close()


def test_without_a_source_destinations_are_still_looked_at(site: CheckedFanout) -> None:
    transfer = replace(site.books(site.end("eu")), source=NOBODY)
    found = site.errors(transfer)
    assert [each[0] for each in found] == ["nobody", "nobody", "eu"]
    assert "the ledger needs a schema copyd" in found[2][2]


def test_a_destination_whose_transactions_are_read_only_is_an_error(site: CheckedFanout) -> None:
    grant_all(site)
    options = f"-c role={LOADER} -c default_transaction_read_only=on"
    eu = Server("eu", f"{site.conninfos['eu']} options='{options}'")
    assert [each[0] for each in site.errors(site.books(eu))] == ["eu"]
