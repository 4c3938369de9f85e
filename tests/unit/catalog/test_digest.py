from __future__ import annotations

import pytest

from copyd.catalog.digest import Form, digest_of, forms
from copyd.catalog.relations import Column


def column(type_: str, signature: str) -> Column:
    return Column("x", type_, signature=signature)


def test_columns_of_one_type_are_compared_as_they_are() -> None:
    given = [column("numeric(4,1)", "numeric")]
    assert forms(given, given) == ((Form("x"),), (Form("x"),))


@pytest.mark.parametrize(
    ("type_", "signature", "spelled"),
    [
        ("bigint", "int8", "pg_catalog.int8"),
        ("numeric(10,2)", "numeric", "pg_catalog.numeric(10,2)"),
        ("numeric(2,-3)[]", "numeric[]", "pg_catalog.numeric(2,-3)[]"),
        ("timestamp(0) with time zone", "timestamptz", "pg_catalog.timestamptz(0)"),
        ("interval(3)", "interval", "interval(3)"),
        ("interval day to second(3)", "interval", None),
        ("character varying(3)", "varchar", None),
        ("bit(3)", "bit", None),
        ("text", "text", None),
        ("s.cents", "numeric", None),
        ("s.mood", 'enum("a")', None),
    ],
)
def test_a_given_value_is_spelled_as_its_column_there_would(
    type_: str, signature: str, spelled: str | None
) -> None:
    given, stored = forms([column("json", "json")], [column(type_, signature)])
    assert given == (Form("x", as_type=spelled),)
    assert stored == (Form("x"),)


def test_blanks_that_a_type_pads_with_are_nothing_where_the_other_has_none() -> None:
    trimmed = (Form("x", is_trimmed=True),)
    padded, plain = [column("character(5)", "bpchar")], [column("text", "text")]
    assert forms(padded, plain) == forms(plain, padded) == (trimmed, trimmed)


def test_nothing_that_a_server_says_of_a_type_becomes_sql() -> None:
    hostile = column("numeric(1)); DROP TABLE t; --(2", "numeric")
    given, _ = forms([column("integer", "int4")], [hostile])
    assert given == (Form("x", as_type="pg_catalog.numeric(1)"),)
    hostile = column("integer", "int8); DROP TABLE t; --")
    assert forms([column("text", "text")], [hostile])[0] == (Form("x"),)


def test_names_are_quoted() -> None:
    assert 'ROW("a""b", "C")' in digest_of([Form('a"b'), Form("C")]).as_string()
