"""What ends a copy in batches; rows that are held, and those that a server skips by itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from psycopg import errors, sql
from psycopg.pq import TransactionStatus

from copyd.copyman import (
    BatchReceiver,
    CopyFail,
    CopyManager,
    IteratorProducer,
    Reject,
    transfer,
)
from copyd.errors import CopydError
from tests.contract.copyman.conftest import is_usable
from tests.support.batches import CHECKED, batch_receiver, faults_of, numbers

if TYPE_CHECKING:
    from tests.contract.copyman.conftest import Bench


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("COPY t FROM STDIN (FORMAT csv)", "text format only"),
        ("COPY t FROM STDIN WITH BINARY", "text format only"),
        ("COPY BINARY t FROM STDIN", "text format only"),
        ("COPY t FROM STDIN (FORMAT 'binary')", "text format only"),
        ("COPY missing FROM STDIN", 'relation "missing" does not exist'),
        ("COPY t (j) FROM STDIN", 'column "j" of relation "t" does not exist'),
        ("SELECT 1", "not one COPY ... FROM STDIN"),
    ],
)
def test_a_statement_that_cannot_be_is_refused_at_the_start(
    bench: Bench, statement: str, complaint: str
) -> None:
    bench.execute(CHECKED)
    receiver = batch_receiver(bench, [], statement)
    with pytest.raises(CopyFail, match=re.escape(complaint)):
        transfer(IteratorProducer(numbers(10)), receiver)
    assert is_usable(receiver.connection)


def test_autocommit_is_refused(bench: Bench) -> None:
    bench.execute(CHECKED)
    receiver = batch_receiver(bench, [], connection=bench.connect(autocommit=True))
    with pytest.raises(CopyFail, match="in autocommit"):
        transfer(IteratorProducer(numbers(10)), receiver)
    assert is_usable(receiver.connection)
    with receiver.connection.transaction():
        transfer(IteratorProducer(numbers(10)), receiver)
    assert bench.count("t") == 10


def end_of(bench: Bench, receiver: BatchReceiver, chunks: list[list[bytes]]) -> BaseException:
    """What ends the copy at `receiver`; its transaction is as it was, and a neighbour completes."""
    bench.execute("CREATE TABLE neighbour (x text)")
    receiver.connection.execute("CREATE TEMP TABLE mine (i int)")
    neighbour = bench.receiver("COPY neighbour FROM STDIN")
    producer = IteratorProducer(chunks)
    faults = faults_of(CopyManager(producer, receiver, neighbour, drops_at_start=True))
    assert set(faults) == {receiver}
    assert bench.count("neighbour") == sum(row.count(b"\n") for chunk in chunks for row in chunk)
    assert receiver.connection.info.transaction_status is TransactionStatus.INTRANS
    assert receiver.connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert receiver.connection.execute("SELECT count(*) FROM mine").fetchone() == (0,)
    with pytest.raises(errors.InvalidSavepointSpecification):
        receiver.connection.execute("ROLLBACK TO SAVEPOINT copyd_copy")
    return faults[receiver]


def on_insert(body: str, *, when: str, each: str) -> str:
    return f"""
        CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
        CREATE TRIGGER act {when} INSERT ON t FOR EACH {each} EXECUTE FUNCTION act()"""


def test_a_trigger_that_swallows_rows_fails_loudly(bench: Bench) -> None:
    body = "IF NEW.i = 25 THEN RETURN NULL; END IF; RETURN NEW;"
    bench.execute(f"{CHECKED}; {on_insert(body, when='BEFORE', each='ROW')}")
    fault = end_of(bench, batch_receiver(bench, [], columns={"i": "int"}), numbers(40, 3))
    assert isinstance(fault, CopydError)
    assert "a trigger" in str(fault)


def test_a_where_clause_that_leaves_rows_out_fails_loudly(plain_bench: Bench) -> None:
    plain_bench.execute(CHECKED)
    receiver = batch_receiver(plain_bench, [], "COPY t FROM STDIN WHERE i <> 7")
    fault = end_of(plain_bench, receiver, numbers(40))
    assert "a condition" in str(fault)


def test_lines_that_are_not_one_row_each_fail_loudly(plain_bench: Bench) -> None:
    plain_bench.execute(CHECKED)
    fault = end_of(plain_bench, batch_receiver(plain_bench, []), [[b"1\n2\n", b"3\n"]])
    assert "a line is not one row" in str(fault)


def test_a_trigger_that_refuses_every_statement_is_an_error_and_rejects_no_row(
    bench: Bench,
) -> None:
    bench.execute(
        f"{CHECKED}; {on_insert('RAISE $m$not now$m$;', when='BEFORE', each='STATEMENT')}"
    )
    rejects: list[Reject] = []
    fault = end_of(bench, batch_receiver(bench, rejects, batch_rows=10_000), numbers(3_000))
    assert isinstance(fault, errors.RaiseException)
    assert not rejects


def test_an_error_that_is_nobodys_row_ends_the_copy(bench: Bench) -> None:
    body = "PERFORM missing_function(); RETURN NEW;"
    bench.execute(f"{CHECKED}; {on_insert(body, when='BEFORE', each='ROW')}")
    rejects: list[Reject] = []
    fault = end_of(bench, batch_receiver(bench, rejects), numbers(40))
    assert isinstance(fault, errors.UndefinedFunction)
    assert not rejects


def test_what_on_reject_raises_ends_the_copy(bench: Bench) -> None:
    def refuse(reject: Reject) -> None:
        raise KeyError(reject.ordinal)

    bench.execute(CHECKED)
    receiver = batch_receiver(bench, [], on_reject=refuse)
    assert repr(end_of(bench, receiver, numbers(40, 25))) == "KeyError(25)"


@pytest.mark.parametrize("skips", [False, True], ids=["long way", "one pass"])
def test_as_many_rows_may_be_rejected_as_were_allowed(plain_bench: Bench, skips: bool) -> None:
    plain_bench.execute(CHECKED)
    chunks = numbers(40, 2, 3, 17, 18, 40)
    chunks[2][5] = b"word\n"
    columns = {"i": "int"} if skips else None
    for allowed in (0, 1, 3, 5):
        receiver = batch_receiver(plain_bench, [], max_rejects=allowed, columns=columns)
        fault = end_of(plain_bench, receiver, chunks)
        assert str(fault) == f"more than {allowed} rows were rejected (max_rejects)"
        plain_bench.execute("DROP TABLE neighbour")
    receiver = batch_receiver(plain_bench, [], max_rejects=6, columns=columns)
    transfer(IteratorProducer(chunks), receiver)
    assert (receiver.loaded, receiver.rejected) == (34, 6)


def test_a_constraint_that_is_not_there_is_an_error_at_the_start(bench: Bench) -> None:
    bench.execute(CHECKED)
    receiver = batch_receiver(bench, [], immediate=[sql.Identifier("missing")])
    with pytest.raises(CopyFail, match='constraint "missing" does not exist'):
        transfer(IteratorProducer(numbers(10)), receiver)
    assert is_usable(receiver.connection)


DEFERRED = """
    CREATE TABLE parent (i int PRIMARY KEY);
    CREATE TABLE t (i int CONSTRAINT c REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"""


@pytest.mark.parametrize("is_completed", [True, False])
def test_a_constraint_is_deferred_again_afterwards(bench: Bench, is_completed: bool) -> None:
    bench.execute(DEFERRED)
    receiver = batch_receiver(
        bench, [], immediate=[sql.Identifier("c")], max_rejects=10 if is_completed else 0
    )
    if is_completed:
        transfer(IteratorProducer(numbers(10)), receiver)
        assert receiver.rejected == 10
    else:
        with pytest.raises(CopyFail):
            transfer(IteratorProducer(numbers(10)), receiver)
    receiver.connection.execute("INSERT INTO t VALUES (1)")
    receiver.connection.execute("INSERT INTO parent VALUES (1)")
    receiver.connection.commit()
    assert bench.count("t") == 1


def test_rows_are_held_for_a_table_that_comes_later(bench: Bench) -> None:
    bench.execute("CREATE TABLE parent (i int PRIMARY KEY)")
    bench.execute("CREATE TABLE t (i int CONSTRAINT c REFERENCES parent)")
    rejects: list[Reject] = []
    receiver = batch_receiver(bench, rejects, keeps_held=True)
    transfer(IteratorProducer(numbers(40)), receiver)
    assert (receiver.loaded, receiver.held, receiver.rejected) == (0, 40, 0)
    assert receiver.retry(stall_timeout=10) == 0
    receiver.connection.execute("INSERT INTO parent SELECT generate_series(1, 38)")
    assert receiver.retry(stall_timeout=10) == 38
    assert (receiver.loaded, receiver.held, receiver.rejected) == (38, 2, 0)
    receiver.refuse()
    assert (receiver.loaded, receiver.held, receiver.rejected) == (38, 0, 2)
    assert [(reject.ordinal, reject.batch, reject.row) for reject in rejects] == [
        (39, 10, b"39\n"), (40, 10, b"40\n"),
    ]  # fmt: skip
    receiver.connection.commit()
    assert bench.count("t") == 38


def test_a_retry_that_the_server_cannot_carry_out_is_an_error(bench: Bench) -> None:
    bench.execute(DEFERRED)
    receiver = batch_receiver(bench, [], keeps_held=True, immediate=[sql.Identifier("c")])
    transfer(IteratorProducer(numbers(10)), receiver)
    receiver.connection.execute("INSERT INTO t VALUES (77)")
    with pytest.raises(errors.ForeignKeyViolation):
        receiver.retry(stall_timeout=10)
    assert receiver.connection.info.transaction_status is TransactionStatus.INERROR
    assert is_usable(receiver.connection)


def test_what_a_server_skipped_by_itself_is_explained(bench: Bench) -> None:
    if bench.connect().info.server_version < 170000:
        pytest.skip("this PostgreSQL cannot skip rows by itself")
    bench.execute("CREATE TABLE t (i int, d date, w varchar(3))")
    rows = [b"1\t2024-02-30\tok\n", b"2\t2024-02-29\tlong\n", b"x\t2024-02-29\tok\n"]
    rows += [b"4\t2024-02-29\tok\n", b"99999999999\t\\N\t\\N\n", b"6\n"]
    rejects: list[Reject] = []
    columns = {"i": "int", "d": "date", "w": "varchar(3)"}
    receiver = batch_receiver(bench, rejects, batch_rows=100, columns=columns)
    transfer(IteratorProducer([rows]), receiver)
    rejects.sort(key=lambda reject: reject.ordinal)
    assert [(r.ordinal, r.refusal.sqlstate, r.refusal.column) for r in rejects] == [
        (1, "22008", "d"), (2, "22001", "w"), (3, "22P02", "i"), (5, "22003", "i"),
        (6, "22P04", None),
    ]  # fmt: skip
    assert {reject.refusal.line for reject in rejects[:-1]} == {None}
    assert rejects[2].refusal.message == 'invalid input syntax for type integer: "x"'
    assert (receiver.loaded, receiver.rejected) == (1, 5)


@pytest.mark.parametrize(
    "columns", [{"i": "no_such_type"}, {"i": "text"}, {"other": "int"}, {}], ids=str
)
def test_columns_that_explain_nothing_cost_time_and_no_rows(
    plain_bench: Bench, columns: dict[str, str]
) -> None:
    plain_bench.execute("CREATE TABLE t (i int)")
    rejects: list[Reject] = []
    receiver = batch_receiver(plain_bench, rejects, columns=columns)
    transfer(IteratorProducer([[b"1\n", b"two\n", b"3\n"]]), receiver)
    assert [(reject.row, reject.refusal.sqlstate) for reject in rejects] == [(b"two\n", "22P02")]
    assert receiver.loaded == 2


def test_notices_that_the_session_does_not_get_are_not_needed(plain_bench: Bench) -> None:
    plain_bench.execute("CREATE TABLE t (i int)")
    connection = plain_bench.connect(autocommit=False)
    connection.execute("SET client_min_messages = error")
    rejects: list[Reject] = []
    receiver = batch_receiver(plain_bench, rejects, columns={"i": "int"}, connection=connection)
    transfer(IteratorProducer([[b"1\n", b"two\n", b"3\n"]]), receiver)
    assert [(reject.row, reject.refusal.sqlstate) for reject in rejects] == [(b"two\n", "22P02")]


def test_a_row_is_no_reject_where_the_one_in_its_way_is_not_loaded(plain_bench: Bench) -> None:
    plain_bench.execute("CREATE TABLE parent (i int PRIMARY KEY)")
    plain_bench.execute("INSERT INTO parent VALUES (1)")
    plain_bench.execute("CREATE TABLE t (i int PRIMARY KEY, p int REFERENCES parent)")
    rejects: list[Reject] = []
    receiver = batch_receiver(plain_bench, rejects)
    transfer(IteratorProducer([[b"1\t99\n", b"1\t1\n"]]), receiver)
    receiver.connection.commit()
    assert [reject.row for reject in rejects] == [b"1\t99\n"]
    assert plain_bench.rows("SELECT * FROM t") == [(1, 1)]
