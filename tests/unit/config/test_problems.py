from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.config import ConfigError
from copyd.config.problems import KeyPath, Problem, kind, shown, spelled, suggestion
from copyd.errors import CopydError
from tests.support import toml

FILE = Path("/etc/copyd/config.toml")


def test_one_error_is_one_line() -> None:
    assert str(ConfigError(FILE, ["daemon: no"])) == f"{FILE}: daemon: no"


def test_several_errors_are_counted_and_have_a_line_each() -> None:
    assert str(ConfigError(FILE, ["a: no", "b: no"])) == f"{FILE}: 2 errors\n  a: no\n  b: no"


def test_an_error_keeps_its_file_and_its_problems() -> None:
    error = ConfigError(FILE, ["a: no"])
    assert isinstance(error, CopydError)
    assert (error.file, error.problems) == (FILE, ("a: no",))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("transfers", "orders", "key", 0), "transfers.orders.key[0]"),
        (("transfers", "a", "table", "public.x"), "transfers.a.table.'public.x'"),
        (("transfers", "it's"), 'transfers."it\'s"'),
        (("servers", "a\nb"), 'servers."a\\nb"'),
        (("servers", "host=db1 password=hush"), "servers.'...'"),
        (("servers", ""), "servers.''"),
        (("\x7f", "\x9b", "\U000e0001"), r'"\u007f"."\u009b"."\U000e0001"'),
    ],
)
def test_a_key_is_spelled_as_in_toml(path: KeyPath, text: str) -> None:
    assert spelled(path) == text


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=1, max_size=4))
def test_a_spelled_key_is_the_key_for_toml(parts: list[str]) -> None:
    path = tuple(part for part in parts if "=" not in part and "://" not in part) or ("x",)
    expected: object = 1
    for part in reversed(path):
        expected = {part: expected}
    assert toml.parse(f"{spelled(path)} = 1") == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("soon", '"soon"'),
        ('say "hi"\n', '"say \\"hi\\"\\n"'),
        ("host=db1 password=hush", "a string"),
        ("postgresql://anna:hush@db1", "a string"),
        ("x" * 81, "a string"),
        (5, "5"),
        (True, "true"),
        (0.5, "0.5"),
        (float("nan"), "nan"),
        ([1], "a list"),
        ({"password": "hush"}, "a table"),
        (date(2024, 1, 1), "a date or time"),
    ],
)
def test_a_value_is_shown_where_it_can_hold_no_secret(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [("hush", "a string"), (5, "a number"), (True, "true or false")]
)
def test_a_kind_tells_no_value(value: object, text: str) -> None:
    assert kind(value) == text


def test_a_near_word_is_suggested_and_a_far_one_is_not() -> None:
    assert suggestion("repalce", ["replace", "merge"]) == '; did you mean "replace"?'
    assert suggestion("x", ["replace", "merge"]) == ""
    assert suggestion(5, ["replace"]) == ""


@pytest.mark.parametrize(
    ("broken", "rests"),
    [
        (("t", "a", "mode"), True),
        (("t", "a"), True),
        (("t", "a", "list", 0), True),
        (("t", "a", "key", 1), True),
        (("t", "a", "key"), True),
        (("t", "a", "key", 0), False),
        (("t", "b", "mode"), False),
    ],
)
def test_a_judgement_rests_on_what_it_is_at_and_what_it_reads(broken: KeyPath, rests: bool) -> None:
    problem = Problem(("t", "a", "key", 1), "no", (("t", "a", "mode"), ("t", "a", "list")))
    assert problem.rests_on([broken]) is rests
