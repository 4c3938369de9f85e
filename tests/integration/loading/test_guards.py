"""What makes a destination unfit, each with the sentence that says so."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from copyd.catalog.columns import copied
from copyd.catalog.relations import look_up_all
from copyd.errors import CopydError
from copyd.loading import staged_rows, strategies
from copyd.loading.guards import (
    delete_triggers,
    refusals,
    rows_left,
    rows_left_refusal,
    warnings,
)
from copyd.loading.privileges import Use
from copyd.loading.target import Target
from tests.support.loaded_tables import result_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copyd.connection import Connection
    from tests.support.servers import Server

INSERT, DELETE, TRUNCATE = Use("insert"), Use("replace"), Use("replace", replace_with="truncate")
APPEND, MERGE, MERGE_ALL = Use("append"), Use("merge"), Use("merge", deletes=True)
ALL = [INSERT, DELETE, TRUNCATE, APPEND, MERGE, MERGE_ALL]
ROLE = "copyd_loader"


@pytest.fixture(scope="module")
def own_database(server: Server) -> Iterator[str]:
    with server.database() as name:
        yield name


@pytest.fixture
def connection(server: Server, own_database: str) -> Iterator[Connection]:
    """A superuser's, in a transaction that is never committed; one role has no privilege at all."""
    database, role = sql.Identifier(own_database), sql.Identifier(ROLE)
    with closing(server.connect(own_database, autocommit=False)) as opened:
        opened.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        opened.execute('CREATE TABLE public.t (id int PRIMARY KEY, note text, "Other" text)')
        opened.execute(sql.SQL("CREATE ROLE {}").format(role))
        opened.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
        yield opened


@contextmanager
def loader(connection: Connection) -> Iterator[Connection]:
    """The connection as the role without privileges sees it."""
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(ROLE)))
    try:
        yield connection
    finally:
        connection.execute("SET LOCAL ROLE NONE")


def refused(connection: Connection, use: Use, found: Sequence[Target]) -> tuple[str, ...]:
    """The reasons that the role is given."""
    with loader(connection):
        return sentences(connection, found, use)


def sentences(connection: Connection, found: Sequence[Target], use: Use) -> tuple[str, ...]:
    return tuple(each.sentence for each in refusals(connection, found, use))


def targets(
    connection: Connection, *names: str, without: tuple[str, ...] = (), is_keyed: bool = True
) -> list[Target]:
    found = []
    for number, relation in enumerate(look_up_all(connection, names or ["public.t"])):
        columns = [each for each in copied(relation.columns) if each.name not in without]
        key = relation.keys[0] if is_keyed and relation.keys else None
        found.append(Target(relation=relation, columns=tuple(columns), key=key, number=number))
    return found


def grant(connection: Connection, *privileges: str, table: str = "public.t") -> None:
    for privilege in privileges:
        place = table
        if privilege == "TEMPORARY":
            place = f'DATABASE "{connection.info.dbname}"'
        connection.execute(f"GRANT {privilege} ON {place} TO {ROLE}".encode())


def load(connection: Connection, use: Use, target: Target) -> None:
    """Do what a run does with a table, as the role, and undo it."""
    with loader(connection), connection.transaction(force_rollback=True):
        if use.mode != "insert":
            result_of(connection, strategies.count(target))
        if use.truncates:
            connection.execute(strategies.truncate([target]))
        elif use.mode != "insert":
            connection.execute(strategies.lock([target]))
        if use == DELETE:
            connection.execute(strategies.delete(target))
        if use.mode == "merge" or (use.mode == "append" and target.key):
            _load_staged(connection, use, target)
        else:
            _copy(connection, strategies.copy_rows(target, format="text"), target)


def _load_staged(connection: Connection, use: Use, target: Target) -> None:
    connection.execute(staged_rows.stage(target))
    if use.deletes:
        connection.execute(staged_rows.stage_keys(target))
    _copy(connection, staged_rows.copy_into_stage(target, format="text"), target)
    if use.mode == "append":
        strategies.apply(connection, strategies.append(target))
    else:
        strategies.apply(connection, strategies.merge(target, delete_missing=use.deletes))
    if use.deletes:
        result_of(connection, *strategies.remove_missing(target))


def _copy(connection: Connection, statement: sql.Composed, target: Target) -> None:
    with connection.cursor().copy(statement) as copy:
        copy.write_row(["2"] * len(target.columns))


NEEDED = [
    (INSERT, True, ["INSERT"]),
    (DELETE, True, ["INSERT", "DELETE", "SELECT (id)"]),
    (TRUNCATE, True, ["INSERT", "TRUNCATE", "SELECT (id)"]),
    (APPEND, False, ["INSERT", "TRUNCATE", "SELECT (id)"]),
    (APPEND, True, ["INSERT", "TRUNCATE", "SELECT", "TEMPORARY"]),
    (MERGE, True, ["SELECT", "INSERT", "UPDATE", "TEMPORARY"]),
    (MERGE_ALL, True, ["SELECT", "INSERT", "UPDATE", "DELETE", "TEMPORARY"]),
]


@pytest.mark.parametrize(("use", "is_keyed", "privileges"), NEEDED)
def test_least_privileges_do(
    connection: Connection, use: Use, is_keyed: bool, privileges: list[str]
) -> None:
    connection.execute("INSERT INTO public.t VALUES (1, 'a', 'b')")
    grant(connection, *privileges)
    (target,) = targets(connection, is_keyed=is_keyed)
    assert refused(connection, use, [target]) == ()
    load(connection, use, target)


@pytest.mark.parametrize(
    ("use", "is_keyed", "privileges"),
    [
        (use, is_keyed, [each for each in privileges if each != lacking])
        for use, is_keyed, privileges in NEEDED
        for lacking in privileges
    ],
)
def test_a_guard_refuses_what_the_server_would_and_names_the_cure(
    connection: Connection, use: Use, is_keyed: bool, privileges: list[str]
) -> None:
    connection.execute("INSERT INTO public.t VALUES (1, 'a', 'b')")
    grant(connection, *privileges)
    (target,) = targets(connection, is_keyed=is_keyed)
    (reason,) = refused(connection, use, [target])
    assert reason.startswith(f"role {ROLE} may not ")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        load(connection, use, target)
    connection.execute(reason.rpartition(": ")[2].encode())
    assert refused(connection, use, [target]) == ()
    load(connection, use, target)


@pytest.mark.parametrize("use", [DELETE, APPEND, MERGE])
def test_privileges_on_the_copied_columns_do(connection: Connection, use: Use) -> None:
    columns = '(id, "Other")'
    grant(connection, f"SELECT {columns}", f"INSERT {columns}", f"UPDATE {columns}")
    grant(connection, "DELETE", "TEMPORARY")
    (target,) = targets(connection, without=("note",))
    assert refused(connection, use, [target]) == ()
    load(connection, use, target)


def test_only_a_merge_deletes_what_is_missing(connection: Connection) -> None:
    grant(connection, "INSERT", "SELECT", "TRUNCATE", "TEMPORARY")
    append = Use("append", deletes=True)
    assert refused(connection, append, targets(connection)) == ()


def test_privileges_on_other_columns_do_not(connection: Connection) -> None:
    grant(connection, "INSERT (id, note)", "SELECT", "UPDATE (id)", "DELETE", "TEMPORARY")
    (reason,) = refused(connection, MERGE, targets(connection))
    assert reason == (
        f'role {ROLE} may not INSERT ("Other"), UPDATE (note, "Other") on table public.t: '
        f'GRANT INSERT ("Other"), UPDATE (note, "Other") ON public.t TO {ROLE}'
    )


def test_updating_columns_is_not_enough_to_lock(connection: Connection) -> None:
    grant(connection, "SELECT", "INSERT", 'UPDATE (id, note, "Other")', "TEMPORARY")
    (target,) = targets(connection)
    (reason,) = refused(connection, MERGE, [target])
    assert "may not lock table public.t" in reason
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        load(connection, MERGE, target)


def test_maintain_is_enough_to_lock(connection: Connection) -> None:
    if connection.info.server_version < 170_000:
        pytest.skip("PostgreSQL has it from 17 on")
    grant(connection, "INSERT", "SELECT (id)", "MAINTAIN")
    (target,) = targets(connection, is_keyed=False)
    assert refused(connection, APPEND, [target]) == ()
    load(connection, APPEND, target)


def test_a_merge_that_writes_rows_anew_needs_to_delete_them(connection: Connection) -> None:
    connection.execute(
        """ALTER TABLE public.t ADD seq int GENERATED ALWAYS AS IDENTITY, ADD own int;
        INSERT INTO public.t VALUES (1, 'a', 'b')"""
    )
    grant(connection, "SELECT (id, note, seq)", "INSERT (id, note, seq)", "UPDATE", "TEMPORARY")
    (target,) = targets(connection, without=("Other", "own"))
    (reason,) = refused(connection, MERGE, [target])
    lacking = 'SELECT ("Other", own), INSERT ("Other", own), DELETE'
    assert f"may not {lacking} on table public.t" in reason
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        load(connection, MERGE, target)
    grant(connection, lacking)
    assert refused(connection, MERGE, [target]) == ()
    load(connection, MERGE, target)


def test_a_schema_that_cannot_be_entered_is_refused(connection: Connection) -> None:
    connection.execute('CREATE SCHEMA "My"; CREATE TABLE "My".t (id int PRIMARY KEY)')
    grant(connection, "INSERT", table='"My".t')
    assert refused(connection, INSERT, targets(connection, '"My".t')) == (
        f'role {ROLE} may not use the schema of table "My".t: GRANT USAGE ON SCHEMA "My" TO {ROLE}',
    )


@pytest.mark.parametrize("use", ALL)
@pytest.mark.parametrize(
    ("definition", "what"),
    [
        ("VIEW public.x AS SELECT * FROM public.t", "a view"),
        ("MATERIALIZED VIEW public.x AS SELECT * FROM public.t", "a materialized view"),
        ("FOREIGN TABLE public.x (id int) SERVER far", "a foreign table"),
    ],
)
def test_what_is_no_table_is_refused(
    connection: Connection, use: Use, definition: str, what: str
) -> None:
    connection.execute("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w")
    connection.execute(f"CREATE {definition}".encode())
    (reason,) = sentences(connection, targets(connection, "public.x"), use)
    assert reason == f"public.x is {what}: name an ordinary or partitioned table"


@pytest.mark.parametrize("use", ALL)
def test_ordinary_tables_are_fit(connection: Connection, use: Use) -> None:
    assert sentences(connection, targets(connection), use) == ()


@pytest.fixture
def parted(connection: Connection) -> Connection:
    connection.execute(
        """CREATE TABLE public.p (id int PRIMARY KEY) PARTITION BY LIST (id);
        CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES IN (1)"""
    )
    return connection


@pytest.mark.parametrize("use", ALL)
def test_only_truncate_is_refused_for_partitioned_tables(parted: Connection, use: Use) -> None:
    reasons = sentences(parted, targets(parted, "public.p"), use)
    assert (reasons == ()) == (use != TRUNCATE)
    assert all('use replace_with = "delete"' in reason for reason in reasons)


def test_partitions_can_be_truncated(parted: Connection) -> None:
    assert sentences(parted, targets(parted, "public.p1"), TRUNCATE) == ()


@pytest.mark.parametrize("use", ALL)
def test_foreign_partitions_are_refused(connection: Connection, use: Use) -> None:
    connection.execute(
        """CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w;
        CREATE TABLE public.p (id int NOT NULL) PARTITION BY LIST (id);
        CREATE FOREIGN TABLE public."P2" PARTITION OF public.p FOR VALUES IN (2) SERVER far"""
    )
    reasons = sentences(connection, targets(connection, "public.p"), use)
    assert 'foreign tables as partitions (public."P2")' in reasons[0]


@pytest.mark.parametrize("use", ALL)
@pytest.mark.parametrize("name", ["u", "p", "p1"])
def test_unlogged_tables_are_refused_where_the_ledger_would_outlive_them(
    parted: Connection, use: Use, name: str
) -> None:
    parted.execute("CREATE UNLOGGED TABLE public.u (id int PRIMARY KEY)")
    parted.execute("ALTER TABLE public.p1 SET UNLOGGED")
    reasons = sentences(parted, targets(parted, f"public.{name}"), use)
    told = [reason for reason in reasons if "is UNLOGGED" in reason]
    assert len(told) == (use.mode in ("append", "merge"))
    unlogged = "public.p1" if name == "p" else f"public.{name}"
    assert all(reason.startswith(f"table {unlogged} is UNLOGGED") for reason in told)


@pytest.mark.parametrize("use", ALL)
def test_row_security_that_applies_is_refused(connection: Connection, use: Use) -> None:
    connection.execute("ALTER TABLE public.t ENABLE ROW LEVEL SECURITY")
    grant(connection, "ALL", "TEMPORARY")
    (reason,) = refused(connection, use, targets(connection))
    assert reason.startswith("row security of table public.t applies to this role")
    assert sentences(connection, targets(connection), use) == ()


@pytest.mark.parametrize("use", [DELETE, TRUNCATE])
@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_tables_outside_that_would_change_are_refused_by_name(
    connection: Connection, use: Use, action: str
) -> None:
    connection.execute(
        f"""CREATE TABLE public."Line" (id int REFERENCES public.t ON DELETE {action});
        CREATE TABLE public.note (id int REFERENCES public.t ON DELETE {action});
        CREATE TABLE public.self (id int PRIMARY KEY REFERENCES public.self ON DELETE {action})
        """.encode()
    )
    (reason,) = sentences(connection, targets(connection), use)
    expected = f'public."Line" (ON DELETE {action}), public.note (ON DELETE {action})'
    assert reason.startswith(f"replacing table public.t would change rows of {expected}, which")
    assert sentences(connection, targets(connection, "public.self"), use) == ()
    inside = targets(connection, "public.t", 'public."Line"', "public.note")
    assert sentences(connection, inside, use) == ()


@pytest.mark.parametrize("use", [APPEND, MERGE, MERGE_ALL, INSERT])
def test_other_modes_may_be_referenced(connection: Connection, use: Use) -> None:
    connection.execute("CREATE TABLE public.l (id int REFERENCES public.t ON DELETE CASCADE)")
    assert sentences(connection, targets(connection), use) == ()


def test_what_is_referenced_from_outside_cannot_be_truncated(connection: Connection) -> None:
    connection.execute("CREATE TABLE public.l (id int REFERENCES public.t)")
    (reason,) = sentences(connection, targets(connection), TRUNCATE)
    assert reason.startswith("table public.t cannot be truncated while public.l references it")
    assert sentences(connection, targets(connection), DELETE) == ()
    assert sentences(connection, targets(connection, "public.l", "public.t"), TRUNCATE) == ()


def test_a_partition_that_is_referenced_from_outside_counts(parted: Connection) -> None:
    parted.execute("CREATE TABLE public.l (id int REFERENCES public.p1 ON DELETE CASCADE)")
    (reason,) = sentences(parted, targets(parted, "public.p"), DELETE)
    assert "would change rows of public.l (ON DELETE CASCADE)" in reason


def test_triggers_are_skipped_only_with_the_right_to(connection: Connection) -> None:
    grant(connection, "ALL", "TEMPORARY")
    skip = Use("replace", triggers="skip")
    (reason,) = refused(connection, skip, targets(connection))
    assert reason.startswith('triggers = "skip" needs the right to set session_replication_role')
    denied = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with denied, loader(connection), connection.transaction():
        connection.execute("SET LOCAL session_replication_role = 'replica'")
    if connection.info.server_version >= 150_000:
        cure = reason.rpartition(": ")[2].partition(", or use")[0]
        connection.execute(cure.encode())
        assert refused(connection, skip, targets(connection)) == ()
    else:
        assert "connect as a superuser" in reason
    assert sentences(connection, targets(connection), skip) == ()


def test_looking_changes_nothing(connection: Connection) -> None:
    grant(connection, "ALL", "TEMPORARY")
    skip = Use("replace", triggers="skip")
    assert sentences(connection, targets(connection), skip) == ()
    assert len(refused(connection, skip, targets(connection))) == 1
    assert connection.execute("SHOW session_replication_role").fetchone() == ("origin",)


def test_all_reasons_of_all_tables_are_told(connection: Connection) -> None:
    connection.execute("CREATE UNLOGGED TABLE public.u (id int PRIMARY KEY)")
    connection.execute("CREATE VIEW public.v AS SELECT 1 AS id")
    found = targets(connection, "public.u", "public.v", "public.t")
    reasons = refused(connection, Use("merge", triggers="skip"), found)
    assert [" ".join(reason.split()[:5]) for reason in reasons] == [
        "table public.u is UNLOGGED and",
        "public.v is a view: name",
        f"role {ROLE} may not SELECT,",
        f"role {ROLE} may not create",
        'triggers = "skip" needs the',
    ]


def test_a_table_that_has_just_been_dropped_is_refused(connection: Connection) -> None:
    found = targets(connection)
    connection.execute("DROP TABLE public.t")
    with pytest.raises(CopydError, match=r"^table public\.t was dropped just now"):
        sentences(connection, found, DELETE)


RULES = {
    "INSERT": [APPEND, MERGE, MERGE_ALL],
    "UPDATE": [MERGE, MERGE_ALL],
    "DELETE": [DELETE, MERGE, MERGE_ALL],
}


@pytest.mark.parametrize("event", RULES)
def test_rules_on_what_a_run_sends_are_refused(connection: Connection, event: str) -> None:
    rule = f'CREATE RULE "My" AS ON {event} TO public.t DO INSTEAD NOTHING'
    connection.execute(rule.encode())
    found = targets(connection)
    heeding = [use for use in ALL if sentences(connection, found, use)]
    assert heeding == RULES[event]
    (said,) = sentences(connection, found, heeding[-1])
    assert said == (
        'table public.t has rules that change what a run writes or deletes ("My"): '
        'ALTER TABLE public.t DISABLE RULE "My"'
    )


def test_only_rules_that_are_enabled_are_refused(connection: Connection) -> None:
    connection.execute("CREATE RULE r AS ON DELETE TO public.t DO INSTEAD NOTHING")
    fire, skip = DELETE, Use("replace", triggers="skip")
    refused_ones = {"ENABLE": [fire], "DISABLE": [], "ENABLE REPLICA": [skip]}
    for how, expected in {**refused_ones, "ENABLE ALWAYS": [fire, skip]}.items():
        connection.execute(f"ALTER TABLE public.t {how} RULE r".encode())
        found = targets(connection)
        assert [use for use in (fire, skip) if sentences(connection, found, use)] == expected, how


def test_rules_of_a_partition_count_where_it_is_loaded_itself(parted: Connection) -> None:
    parted.execute("INSERT INTO public.p VALUES (1)")
    parted.execute("CREATE RULE r AS ON DELETE TO public.p1 DO INSTEAD NOTHING")
    root, leaf = targets(parted, "public.p", "public.p1")
    assert sentences(parted, [leaf], DELETE)
    assert sentences(parted, [root], DELETE) == ()
    assert parted.execute(strategies.delete(root)).rowcount == 1


def test_triggers_that_can_keep_a_row_from_its_delete_are_found(parted: Connection) -> None:
    parted.execute(
        """CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keeps BEFORE INSERT OR DELETE ON public.t
               FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER once BEFORE DELETE ON public.t EXECUTE FUNCTION public.f();
        CREATE TRIGGER later AFTER DELETE ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER other BEFORE UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER off BEFORE DELETE ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER replica BEFORE DELETE ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();
        ALTER TABLE public.t DISABLE TRIGGER off, ENABLE REPLICA TRIGGER replica;
        CREATE TRIGGER leaf BEFORE DELETE ON public.p1 FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER root BEFORE DELETE ON public.p FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TABLE public.free (id int)"""
    )
    t, p, free = found = targets(parted, "public.t", "public.p", "public.free")
    assert delete_triggers(parted, found, triggers="fire") == {
        t.relation.oid: ("keeps",),
        p.relation.oid: ("leaf", "root"),
    }
    skipping = delete_triggers(parted, found, triggers="skip")
    assert skipping == {t.relation.oid: ("replica",)}
    for target in found:
        assert not result_of(parted, rows_left(target))
    parted.execute("INSERT INTO public.free VALUES (1)")
    assert result_of(parted, rows_left(free))
    sentence = rows_left_refusal(free, ["soft"])
    assert sentence.startswith("DELETE left rows in table public.free, ")
    assert "(soft)" in sentence


def test_a_superuser_is_warned_of_once(connection: Connection) -> None:
    relations = look_up_all(connection, ["public.t", "pg_catalog.pg_class"])
    (warning,) = warnings(connection, relations)
    assert warning.startswith("role tester is a superuser")
    with loader(connection):
        assert warnings(connection, relations) == ()


def test_triggers_that_fire_for_each_row_are_warned_of(parted: Connection) -> None:
    parted.execute(
        """CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER "My" BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER always AFTER DELETE ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER off BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER once BEFORE INSERT ON public.t EXECUTE FUNCTION public.f();
        CREATE TRIGGER replica BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();
        ALTER TABLE public.t DISABLE TRIGGER off, ENABLE ALWAYS TRIGGER always,
                             ENABLE REPLICA TRIGGER replica;
        CREATE TABLE public.child (id int REFERENCES public.p UNIQUE DEFERRABLE);
        CREATE TABLE public.other (id int REFERENCES public.t) PARTITION BY LIST (id);
        CREATE TABLE public.other1 PARTITION OF public.other DEFAULT;
        CREATE TRIGGER leaf AFTER UPDATE ON public.p1 FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER root AFTER INSERT ON public.p FOR EACH ROW EXECUTE FUNCTION public.f()"""
    )
    names = ["public.t", "public.p", "public.p1", "public.child", "public.other1"]
    relations = look_up_all(parted, names)
    with loader(parted):
        told = warnings(parted, relations)
        assert warnings(parted, relations, triggers="skip") == ()
    assert [warning.partition(":")[0] for warning in told] == [
        'table public.t has triggers that fire for each row ("My", always)',
        "table public.p has triggers that fire for each row (leaf, root)",
        "table public.p1 has triggers that fire for each row (leaf, root)",
    ]
