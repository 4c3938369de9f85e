"""Random mixtures of rows that a server refuses, against the same rows loaded one by one."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from copyd.copyman import BatchReceiver, IteratorProducer, Reject, transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.copyman.conftest import Bench

COLUMNS = {"id": "int", "n": "int", "w": "varchar(3)", "x": "text", "u": "int", "r": "int4range"}
MIXED = """
    CREATE TABLE {0} (
        id int, n int CHECK (n > 0), w varchar(3), x text NOT NULL, u int {1}, r int4range,
        EXCLUDE USING gist (r WITH &&));
    CREATE TRIGGER judge BEFORE INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION judge();
"""
JUDGE = """
    CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.x = 'raise' THEN RAISE 'no'; END IF;
        RETURN NEW;
    END $$;
"""
FAMILY = """
    CREATE TABLE {0} (id int PRIMARY KEY, p int CONSTRAINT {0}_fk REFERENCES {0}{1},
                      n int CHECK (n > 0))
"""
DEFERRED = " DEFERRABLE INITIALLY DEFERRED"

good_or = {
    "n": st.sampled_from([b"1", b"2", b"5", b"-1", b"word"]),
    "w": st.sampled_from([b"abc", b"a", b"\\N", b"abcd"]),
    "x": st.sampled_from([b"x", b"", b"a\\tb", b"\\N", b"raise", b"\xff"]),
    "u": st.sampled_from([b"\\N"] + [b"%d" % number for number in range(6)]),
    "r": st.sampled_from([b"empty", b"\\N", b"[1,3)", b"[2,5)", b"[7,9)", b"[9,7)"]),
}


@st.composite
def mixed_rows(draw: st.DrawFn) -> list[bytes]:
    """Rows of the mixed table, most of them good in most columns, each with its number."""
    rows = []
    for number in range(draw(st.integers(0, 14))):
        spoilt = draw(st.sets(st.sampled_from([*good_or]), max_size=2))
        good = {"n": b"3", "w": b"w", "x": b"t", "u": b"\\N", "r": b"\\N"}
        values = [draw(good_or[name]) if name in spoilt else good[name] for name in good]
        extra = draw(st.sampled_from([b""] * 15 + [b"\textra"]))
        rows.append(b"\t".join([b"%d" % number, *values]) + extra + b"\n")
    return rows


@st.composite
def family_rows(draw: st.DrawFn) -> list[bytes]:
    """Rows that reference one another, before and after, or what is nowhere."""
    ids = draw(st.permutations(range(draw(st.integers(0, 14)))))
    parents = st.sampled_from([b"\\N", b"99"]) | st.integers(0, 13).map(lambda i: b"%d" % i)
    values = st.sampled_from([b"1"] * 6 + [b"-1", b"x"])
    return [b"%d\t%s\t%s\n" % (i, draw(parents), draw(values)) for i in ids]


@dataclass(frozen=True)
class Outcome:
    """Which rows are there, and which are not for what."""

    loaded: list[Any]
    rejected: list[tuple[bytes, str]]


@contextmanager
def rolled_back(connection: psycopg.Connection[Any]) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


def in_batches(
    connection: psycopg.Connection[Any], table: str, rows: list[bytes], batch_rows: int,
    **options: Any,
) -> Outcome:  # fmt: skip
    rejects: list[Reject] = []
    with rolled_back(connection):
        receiver = BatchReceiver(
            connection, f"COPY {table} FROM STDIN", batch_rows=batch_rows,
            on_reject=rejects.append, **options,
        )  # fmt: skip
        transfer(IteratorProducer([rows[i : i + 4] for i in range(0, len(rows), 4)]), receiver)
        assert receiver.read == receiver.loaded + receiver.rejected == len(rows)
        assert [rows[reject.ordinal - 1] for reject in rejects] == [r.row for r in rejects]
        loaded = connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
    rejects.sort(key=lambda reject: reject.ordinal)
    return Outcome(loaded, [(reject.row, reject.refusal.sqlstate) for reject in rejects])


def one_by_one(connection: psycopg.Connection[Any], table: str, rows: list[bytes]) -> Outcome:
    """The oracle: each row alone, and what a foreign key refuses again until no more is taken."""
    refused: dict[int, str] = {}
    left = list(range(len(rows)))
    with rolled_back(connection):
        while left:
            before = len(left)
            for number in left:
                refused.pop(number, None)
                state = _refusal(connection, table, rows[number])
                if state is not None:
                    refused[number] = state
            left = [number for number in left if refused.get(number) == "23503"]
            if len(left) == before:
                break
        loaded = connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
    return Outcome(loaded, [(rows[number], refused[number]) for number in sorted(refused)])


def _refusal(connection: psycopg.Connection[Any], table: str, row: bytes) -> str | None:
    try:
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                copy.write(row)
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as error:
        return error.sqlstate
    return None


quick = settings(
    max_examples=int(os.environ.get("COPYD_TEST_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def test_any_mixture_ends_as_if_each_row_had_been_tried_alone(plain_bench: Bench) -> None:
    connection = plain_bench.connect()
    connection.execute(JUDGE)
    connection.execute(MIXED.format("at_once", "UNIQUE").encode())
    connection.execute(MIXED.format("later", "CONSTRAINT u UNIQUE DEFERRABLE").encode())

    @quick
    @given(rows=mixed_rows(), batch_rows=st.integers(1, 16), skips=st.booleans())
    def compare(rows: list[bytes], batch_rows: int, skips: bool) -> None:
        columns = COLUMNS if skips else None
        for table, immediate in (("at_once", []), ("later", [sql.Identifier("u")])):
            found = in_batches(
                connection, table, rows, batch_rows, columns=columns, immediate=immediate
            )
            assert found == one_by_one(connection, table, rows)

    compare()


def test_any_family_ends_as_if_its_rows_had_been_tried_again_and_again(plain_bench: Bench) -> None:
    """A COPY takes circles, which rows alone never are: there it may take more, never less."""
    connection = plain_bench.connect()
    connection.execute(FAMILY.format("at_once", "").encode())
    connection.execute(FAMILY.format("later", DEFERRED).encode())

    @quick
    @given(rows=family_rows(), batch_rows=st.integers(1, 16), skips=st.booleans())
    def compare(rows: list[bytes], batch_rows: int, skips: bool) -> None:
        columns = {"id": "int", "p": "int", "n": "int"} if skips else None
        for table, immediate in (("at_once", []), ("later", [sql.Identifier("later_fk")])):
            found = in_batches(
                connection, table, rows, batch_rows, columns=columns, immediate=immediate
            )
            expected = one_by_one(connection, table, rows)
            assert set(found.rejected) <= set(expected.rejected)
            there = {row[0] for row in found.loaded}
            in_circles = set(expected.rejected) - set(found.rejected)
            assert all(int(row.split(b"\t")[1]) in there for row, _ in in_circles)
            assert len(found.loaded) + len(found.rejected) == len(rows)

    compare()
