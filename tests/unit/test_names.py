from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.errors import CopydError
from copyd.names import (
    LONGEST,
    Pattern,
    TableName,
    parse_identifier,
    parse_table_name,
    quote,
)

names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).filter(
    lambda name: len(name.encode()) <= LONGEST
)
tables = st.builds(TableName, names, names)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("id", "id"),
        ("Foo", "foo"),
        ('"Foo"', "Foo"),
        ('"a.b*"', "a.b*"),
        ('"say ""hi"""', 'say "hi"'),
        ("_a$1", "_a$1"),
        ("Éa", "Éa"),
        ("a" * 63, "a" * 63),
    ],
)
def test_a_name_is_folded_outside_double_quotes_and_kept_inside(text: str, name: str) -> None:
    assert parse_identifier(text) == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a name is empty"),
        ('""', "a name is empty"),
        ("a.b", "a dot needs double quotes here"),
        ("a*", r"\* and \? need double quotes here"),
        ("1a", "'1' at the start of a name needs double quotes around it"),
        ("$a", r"'\$' at the start"),
        ("a b", "' ' needs double quotes around the name"),
        ("a;", "';' needs double quotes"),
        ('"a', "a double quote is not closed"),
        ('"a"b', "a name is quoted as a whole"),
        ('a"b"', "a name is quoted as a whole"),
        ('"a""', "a double quote is not closed"),
        ('"a\0"', "a double quote is not closed"),
        ("a" * 64, "at most 63 bytes"),
        ("é" * 32, "at most 63 bytes"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(CopydError, match=reason) as caught:
        parse_identifier(text)
    assert str(caught.value).startswith('expected a name such as id or "Id", got ')


def test_a_table_name_has_a_schema_and_a_name() -> None:
    assert parse_table_name('Sales."Order"') == TableName("sales", "Order")
    assert parse_table_name('"a.b"."c.d"') == TableName("a.b", "c.d")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("orders", "write it as SCHEMA.TABLE"),
        ("shop.sales.orders", "write it as SCHEMA.TABLE"),
        ("sales.", "a name is empty"),
        (".orders", "a name is empty"),
        ("sales.*", r"\* and \? need double quotes here"),
        ("sales.order?", r"\* and \? need double quotes here"),
        ("sales.2024", "'2' at the start"),
    ],
)
def test_what_is_no_table_name_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(CopydError, match=reason):
        parse_table_name(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("orders", "orders"),
        ("Orders", '"Orders"'),
        ("order", '"order"'),
        ("a b", '"a b"'),
        ('a"b', '"a""b"'),
        ("1a", '"1a"'),
        ("a\n", '"a\n"'),
        ("é", '"é"'),
        ("name", "name"),
    ],
)
def test_a_name_is_quoted_only_where_it_must(name: str, text: str) -> None:
    assert quote(name) == text


def test_a_table_name_prints_as_sql() -> None:
    assert str(TableName("sales", "orders")) == "sales.orders"
    assert str(TableName("user", "Order")) == '"user"."Order"'


@given(names)
def test_every_name_comes_back_from_its_quoted_form(name: str) -> None:
    assert parse_identifier(quote(name)) == name


@given(tables)
def test_every_table_name_comes_back_from_its_text(table: TableName) -> None:
    assert parse_table_name(str(table)) == table


@given(tables, tables)
def test_an_exact_pattern_takes_one_table(table: TableName, other: TableName) -> None:
    pattern = Pattern.parse(str(table))
    assert pattern.exact == table
    assert pattern.matches(table)
    assert pattern.matches(other) == (table == other)


@given(st.text('ab.*?"$1 '))
def test_a_text_is_a_pattern_that_prints_as_written_or_is_refused(text: str) -> None:
    pattern = parsed(text)
    if pattern is not None:
        assert str(pattern) == text
        assert pattern == Pattern.parse(text)


def parsed(text: str) -> Pattern | None:
    try:
        return Pattern.parse(text)
    except CopydError:
        return None


@given(st.text("ab*?", min_size=1, max_size=6), st.text("ab", max_size=6))
def test_wildcards_take_what_a_plain_search_says(glob: str, name: str) -> None:
    assert Pattern.parse(f"s.{glob}").matches(TableName("s", name)) == takes(glob, name)


def takes(glob: str, name: str) -> bool:
    if not glob:
        return not name
    if glob[0] == "*":
        return any(takes(glob[1:], name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and glob[0] in {"?", name[0]} and takes(glob[1:], name[1:])


@pytest.mark.parametrize(
    ("pattern", "table", "is_taken"),
    [
        ("sales.*", TableName("sales", "Order\n"), True),
        ("sales.*", TableName("sales2", "orders"), False),
        ("public.order?", TableName("public", "orders"), True),
        ("public.order?", TableName("public", "order"), False),
        ("Public.ORDER*", TableName("public", "order_2024"), True),
        ("*.orders", TableName("eu", "orders"), True),
        ("s?.orders", TableName("s1", "orders"), True),
        ('public."order*"', TableName("public", "order*"), True),
        ('public."order*"', TableName("public", "orders"), False),
        ('public."Order"*', TableName("public", "Order_1"), True),
        ('public."Order"*', TableName("public", "order_1"), False),
        ("public.*_2024", TableName("public", "orders_2024"), True),
        ("public.*2024", TableName("public", "orders_2024"), True),
    ],
)
def test_a_pattern_is_wild_outside_double_quotes(
    pattern: str, table: TableName, is_taken: bool
) -> None:
    assert Pattern.parse(pattern).matches(table) is is_taken


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("sales.*", None),
        ("sale?.orders", None),
        ('Public."order*"', TableName("public", "order*")),
    ],
)
def test_a_pattern_without_a_wildcard_is_exact(text: str, exact: TableName | None) -> None:
    assert Pattern.parse(text).exact == exact


@pytest.mark.parametrize("text", ["orders", "*", "a.b.c"])
def test_a_pattern_needs_a_schema(text: str) -> None:
    with pytest.raises(CopydError, match=r"write it as SCHEMA\.TABLE"):
        Pattern.parse(text)


@pytest.mark.parametrize("text", ["public.[ab]", "public.2*", 'public."a"b*', "public.a-*"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(CopydError, match=r"expected a table or pattern such as sales\.orders"):
        Pattern.parse(text)


def test_patterns_are_equal_that_say_the_same() -> None:
    assert Pattern.parse("SALES.*") == Pattern.parse('"sales".*')
    assert len({Pattern.parse("SALES.*"), Pattern.parse('"sales".*')}) == 1
    assert Pattern.parse("sales.*") != Pattern.parse("sales.?")
    assert Pattern.parse("sales.*") != "sales.*"
