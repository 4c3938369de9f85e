"""A name of any kind is one file name, and another name another one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copyd.loading.rejects.file_names import LONGEST, decode, encode, encode_table

ANY = st.text(st.characters(), max_size=90)
"""Lone surrogates too."""
NASTY = st.text(st.sampled_from('./~%-_aA2F\0"\nä'), max_size=90)
NAMES = st.one_of(ANY, NASTY)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("orders", "orders"),
        ("Orders_2-x", "Orders_2-x"),
        ("a.b", "a%2Eb"),
        ("../../x", "%2E%2E%2F%2E%2E%2Fx"),
        (".", "%2E"),
        ("", "%"),
        ("100%", "100%25"),
        ("ä b", "%C3%A4%20b"),
        ("a~b", "a%7Eb"),
    ],
)
def test_what_is_no_plain_character_is_percent_encoded(name: str, file: str) -> None:
    assert encode(name) == file
    assert decode(file) == name


def test_a_table_is_its_schema_a_dot_and_its_name() -> None:
    assert encode_table("public", "orders") == "public.orders"
    assert encode_table("a.b", "c/d") == "a%2Eb.c%2Fd"


@given(NAMES)
@example("x" * 200)
@example("ä" * 90)
@example("\ud800")
def test_a_file_name_leads_nowhere_is_not_hidden_and_fits(name: str) -> None:
    file = encode(name)
    assert file
    assert "/" not in file
    assert "\0" not in file
    assert "." not in file
    assert file.isascii()
    assert len(file) <= LONGEST


@given(NAMES)
def test_what_is_not_cut_can_be_read_again(name: str) -> None:
    file = encode(name)
    assert decode(file) == (None if "~" in file else name)


@given(NAMES, NAMES)
def test_two_names_are_never_one_file(one: str, other: str) -> None:
    assert (encode(one) == encode(other)) == (one == other)


@given(st.text("ä~%", min_size=60, max_size=90), st.text("ä~%", max_size=5))
def test_names_that_are_cut_are_told_apart_by_what_is_missing(name: str, more: str) -> None:
    assert (encode(name) == encode(name + more)) == (more == "")
    assert encode(encode(name)) != encode(name) or encode(name) == name


@given(NAMES, NAMES, NAMES, NAMES)
@example("a", "b.c", "a.b", "c")
def test_two_tables_are_never_one_file(one: str, a: str, other: str, b: str) -> None:
    same = (one, a) == (other, b)
    assert (encode_table(one, a) == encode_table(other, b)) == same
    assert len(encode_table(one, a)) <= LONGEST


@given(ANY)
def test_what_copyd_did_not_write_is_not_read_as_a_name(part: str) -> None:
    name = decode(part)
    assert name is None or encode(name) == part
