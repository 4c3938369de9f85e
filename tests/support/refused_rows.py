"""Every kind of row that a server refuses: the table that refuses it, and such a row."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha512

ROWS = 12
BATCH_ROWS = 4
POSITIONS: dict[str, tuple[int, ...]] = {
    "none": (),
    "first": (0,),
    "last": (ROWS - 1,),
    "batch edges": (0, 3, 4, 7, 8, 11),
    "adjacent": (5, 6),
    "all": tuple(range(ROWS)),
}


@dataclass(frozen=True)
class Kind:
    """A table ``t (id, v)`` that takes ``good`` for ``v``, and refuses ``bad`` with ``sqlstate``.

    ``{}`` in either is the row's number; None is no ``v`` at all. ``cure`` has the table take what it refused, where anything
    has. ``spared`` is how many bad rows it takes all the same, from the first on. ``immediate``:
    constraints that are deferred. ``from_server``: whether a server would send such a row.
    ``last`` is a further row, a good one.
    """

    table: str
    good: bytes
    bad: bytes | None
    sqlstate: str
    cure: str | None = None
    type: str = "int"
    spared: int = 0
    immediate: tuple[str, ...] = ()
    from_server: bool = True
    last: bytes | None = None

    def row(self, number: int, *, is_bad: bool) -> bytes:
        value = self.bad if is_bad else self.good
        if value is None:
            return b"%d\n" % number
        return b"%d\t%s\n" % (number, value.replace(b"{}", b"%d" % number))

    def rows(self, bad: tuple[int, ...]) -> list[bytes]:
        rows = [self.row(number, is_bad=number in bad) for number in range(ROWS)]
        return rows + ([self.last] if self.last is not None else [])


_RAISES = """
    CREATE TABLE t (id int, v int);
    CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.v < 0 THEN RAISE 'no debts: %', NEW.v {using}; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER judge {when} INSERT ON t FOR EACH ROW EXECUTE FUNCTION judge();
"""
_PARENTS = "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);"
_TEXT = "ALTER TABLE t ALTER v TYPE text"
_LONG = b"".join(sha512(b"%d" % number).hexdigest().encode() for number in range(64))

KINDS = {
    "cast": Kind("CREATE TABLE t (id int, v int)", b"{}", b"x{}", "22P02", _TEXT),
    "cast of null's spelling": Kind(
        "CREATE TABLE t (id int, v int)", rb"\N", b"NULL", "22P02", _TEXT
    ),
    "cast of escapes": Kind(
        "CREATE TABLE t (id int, v int)", b"{}", rb"\\\t\n{}", "22P02", _TEXT
    ),
    "date out of range": Kind(
        "CREATE TABLE t (id int, v date)", b"2024-02-29", b"2023-02-29", "22008", _TEXT,
        type="date",
    ),
    "overlong": Kind(
        "CREATE TABLE t (id int, v varchar(3))", b"{}", b"{}+++", "22001", _TEXT,
        type="varchar(3)",
    ),
    "numeric overflow": Kind(
        "CREATE TABLE t (id int, v numeric(4, 2))", b"{}.5", b"123.45", "22003", _TEXT,
        type="numeric(4, 2)",
    ),
    "integer overflow": Kind(
        "CREATE TABLE t (id int, v int)", b"{}", b"99999999999", "22003", _TEXT
    ),
    "not null": Kind(
        "CREATE TABLE t (id int, v int NOT NULL)", b"{}", rb"\N", "23502",
        "ALTER TABLE t ALTER v DROP NOT NULL",
    ),
    "check": Kind(
        "CREATE TABLE t (id int, v int CONSTRAINT c CHECK (v >= 0))", b"{}", b"-{}1", "23514",
        "ALTER TABLE t DROP CONSTRAINT c",
    ),
    "domain": Kind(
        "CREATE DOMAIN positive AS int CONSTRAINT c CHECK (VALUE >= 0);"
        "CREATE TABLE t (id int, v positive)",
        b"{}", b"-{}1", "23514", "ALTER DOMAIN positive DROP CONSTRAINT c",
        type="positive",
    ),
    "unique within the data": Kind(
        "CREATE TABLE t (id int, v int CONSTRAINT c UNIQUE)", b"{}", b"77", "23505",
        "ALTER TABLE t DROP CONSTRAINT c", spared=1,
    ),
    "unique against the table": Kind(
        "CREATE TABLE t (id int, v int CONSTRAINT c UNIQUE); INSERT INTO t VALUES (-1, 77)",
        b"{}", b"77", "23505", "ALTER TABLE t DROP CONSTRAINT c",
    ),
    "unique deferred": Kind(
        "CREATE TABLE t (id int, v int CONSTRAINT c UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        b"{}", b"77", "23505", "ALTER TABLE t DROP CONSTRAINT c", spared=1, immediate=("c",),
    ),
    "exclusion": Kind(
        "CREATE TABLE t (id int, v int4range, CONSTRAINT c EXCLUDE USING gist (v WITH &&));"
        "INSERT INTO t VALUES (-1, '[100,200)')",
        b"[{},{}]", b"[150,{}500)", "23P01", "ALTER TABLE t DROP CONSTRAINT c", type="int4range",
    ),
    "foreign key": Kind(
        f"{_PARENTS} CREATE TABLE t (id int, v int CONSTRAINT c REFERENCES parent)",
        b"1", b"2{}", "23503", "ALTER TABLE t DROP CONSTRAINT c",
    ),
    "foreign key deferred": Kind(
        f"{_PARENTS} CREATE TABLE t (id int, "
        "v int CONSTRAINT c REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        b"1", b"2{}", "23503", "ALTER TABLE t DROP CONSTRAINT c", immediate=("c",),
    ),
    "foreign key to itself": Kind(
        "CREATE TABLE t (id int PRIMARY KEY, v int CONSTRAINT c REFERENCES t)",
        b"500", b"2{}0", "23503", "ALTER TABLE t DROP CONSTRAINT c", last=b"500\t500\n",
    ),
    "no partition": Kind(
        "CREATE TABLE t (id int, v int) PARTITION BY RANGE (v);"
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (100)",
        b"{}", b"5{}00", "23514", "CREATE TABLE others PARTITION OF t DEFAULT",
    ),
    "trigger before": Kind(
        _RAISES.format(when="BEFORE", using=""), b"{}", b"-{}1", "P0001", "DROP TRIGGER judge ON t"
    ),
    "trigger before with a state of its own": Kind(
        _RAISES.format(when="BEFORE", using="USING ERRCODE = '42501'"), b"{}", b"-{}1", "42501",
        "DROP TRIGGER judge ON t",
    ),
    "trigger after": Kind(
        _RAISES.format(when="AFTER", using=""), b"{}", b"-{}1", "P0001", "DROP TRIGGER judge ON t"
    ),
    "index entry too large": Kind(
        "CREATE TABLE t (id int, v text); CREATE INDEX i ON t (v)", b"{}", _LONG, "54000",
        "DROP INDEX i", type="text",
    ),
    "column missing": Kind(
        "CREATE TABLE t (id int, v int)", b"{}", None, "22P04", from_server=False
    ),
    "column too many": Kind(
        "CREATE TABLE t (id int, v int)", b"{}", b"{}\t{}", "22P04", from_server=False
    ),
    "bad encoding": Kind(
        "CREATE TABLE t (id int, v text)", b"\xc3\xa4", b"\xff{}", "22021", type="text",
        from_server=False,
    ),
    "NUL byte": Kind(
        "CREATE TABLE t (id int, v text)", b"{}", b"a\0{}", "22021", type="text",
        from_server=False,
    ),
}  # fmt: skip
