"""Ways to load, and small tables to try them on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from copyd.transfers import Loading

if TYPE_CHECKING:
    from tests.support.fanout import Fanout

DELETE, TRUNCATE = Loading(), Loading(replace_with="truncate")
APPEND, MERGE = Loading(mode="append"), Loading(mode="merge")


def each_of(*ways: Loading) -> pytest.MarkDecorator:
    """Parametrize a test's ``way``."""
    names = [way.replace_with if way.mode == "replace" else way.mode for way in ways]
    return pytest.mark.parametrize("way", ways, ids=names)


ALL_WAYS = each_of(DELETE, TRUNCATE, APPEND, MERGE)
REPLACE = each_of(DELETE, TRUNCATE)
INCREMENTAL = each_of(APPEND, MERGE)
EXACT = each_of(DELETE, TRUNCATE, MERGE)

KEYED = "CREATE TABLE t (id int PRIMARY KEY, note text)"
KEYLESS = "CREATE TABLE t (id int, note text)"
TEN = "INSERT INTO t SELECT i, 'first' FROM generate_series(1, 10) i"
BY_HAND = "UPDATE t SET note = 'by hand' WHERE id = 5"
ROWS = "SELECT id, note FROM t ORDER BY id"


def adopting(way: Loading) -> Loading:
    return replace(way, adopt=True)


def ids(fanout: Fanout, where: str = "eu") -> list[int]:
    return [row[0] for row in fanout.ask(where, "SELECT id FROM t ORDER BY id")]


def note_of_five(fanout: Fanout) -> str:
    return str(fanout.ask("eu", "SELECT note FROM t WHERE id = 5")[0][0])
