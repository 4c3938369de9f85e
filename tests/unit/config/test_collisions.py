"""Two transfers into one destination table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.config.conftest import Loaded, Refused

SERVERS = """
[servers]
source = { conninfo = "host=source" }
b = { conninfo = "host=b password=one" }
twin = { conninfo = "postgresql://b?password=two" }
c = { conninfo = "host=c" }
k = { cluster = "k", dbname = "x" }
k2 = { cluster = "k", dbname = "x" }
other = { cluster = "k", dbname = "y" }
[clusters]
k = { data_directory = "k" }
"""


def two(one: str, other: str, *, here: str = "b", there: str = "b") -> str:
    """Return a configuration with two transfers, to `here` and to `there`."""
    return (
        f'{SERVERS}\n[transfers.one]\nsource = "source"\ndestinations = ["{here}"]\n{one}\n'
        f'[transfers.two]\nsource = "source"\ndestinations = ["{there}"]\n{other}\n'
    )


def renamed(transfer: str, old: str, new: str) -> str:
    return f"[transfers.{transfer}.destination.b]\ntables = {{ '{old}' = '{new}' }}"


@pytest.mark.parametrize(
    ("one", "other", "key", "table"),
    [
        ('tables = ["s.x"]', 'tables = ["s.y", "S.X"]', "tables[1]", "s.x"),
        ('tables = ["s.*"]', 'tables = ["s.x"]', "tables[0]", "s.x"),
        ('tables = ["s.x"]', 'tables = ["t.*", "s.*"]', "tables[1]", "s.x"),
        ('tables = ["s.*"]', "tables = ['\"s\".*']", "tables[0]", '"s".*'),
        ('tables = ["s.x"]', 'query = "q"\ninto = "s.x"', "into", "s.x"),
        ('query = "q"\ninto = "s.x"', 'tables = ["s.?"]', "tables[0]", "s.x"),
        (
            'tables = ["s.x"]',
            f'tables = ["t.x"]\n{renamed("two", "t.x", "s.x")}',
            "destination.b.tables.'t.x'",
            "s.x",
        ),
        (
            f'tables = ["t.x"]\n{renamed("one", "t.x", "s.x")}',
            'tables = ["s.*"]',
            "tables[0]",
            "s.x",
        ),
        (
            'tables = ["s.x"]',
            f'query = "q"\ninto = "t.x"\n{renamed("two", "t.x", "s.x")}',
            "destination.b.tables.'t.x'",
            "s.x",
        ),
    ],
)
def test_two_transfers_cannot_load_one_table(
    refused: Refused, one: str, other: str, key: str, table: str
) -> None:
    assert refused(two(one, other)) == [
        (
            f"transfers.two.{key}: expected tables that no other transfer loads, got {table}, "
            "which transfers.one loads into b"
        )
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('tables = ["s.x"]', 'tables = ["s.y"]'),
        ('tables = ["s.a*"]', 'tables = ["s.b*"]'),
        # Only the servers know whether there is a table that both take.
        ('tables = ["s.*a"]', 'tables = ["s.a*"]'),
        (f'tables = ["s.x"]\n{renamed("one", "s.x", "t.x")}', 'tables = ["s.x"]'),
        (f'tables = ["s.*"]\n{renamed("one", "s.x", "t.x")}', 'tables = ["s.x"]'),
        ('query = "q"\ninto = "s.x"', f'tables = ["s.*"]\n{renamed("two", "s.x", "t.x")}'),
    ],
)
def test_transfers_into_different_tables_are_taken(loaded: Loaded, one: str, other: str) -> None:
    assert len(loaded(two(one, other)).transfers) == 2


@pytest.mark.parametrize(("here", "there"), [("b", "twin"), ("twin", "b"), ("k", "k2")])
def test_one_database_under_two_names_is_one_destination(
    refused: Refused, here: str, there: str
) -> None:
    text = two('tables = ["s.x"]', 'tables = ["s.x"]', here=here, there=there)
    assert refused(text) == [
        (
            "transfers.two.tables[0]: expected tables that no other transfer loads, got s.x, "
            f"which transfers.one loads into {here}"
        )
    ]


@pytest.mark.parametrize(("here", "there"), [("b", "c"), ("k", "other")])
def test_one_name_in_two_databases_is_two_tables(loaded: Loaded, here: str, there: str) -> None:
    text = two('tables = ["s.x"]', 'tables = ["s.x"]', here=here, there=there)
    assert len(loaded(text).transfers) == 2


def test_servers_that_are_unknown_are_no_collision(refused: Refused) -> None:
    text = two('tables = ["s.x"]', 'tables = ["s.x"]', here="zz", there="zz")
    assert refused(text) == [
        f'transfers.{name}.destinations[0]: expected the name of a server, got "zz"'
        for name in ("one", "two")
    ]


def test_tables_that_are_in_error_are_no_collision(refused: Refused) -> None:
    text = two('tables = ["s.x", "y"]', 'tables = ["s.x"]')
    (problem,) = refused(text)
    assert problem.startswith("transfers.one.tables[1]: ")
