"""The text of a configuration file: read as the server reads it, changed where it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.cluster.configfile import alter, as_text, checked_name, parse, quote, unquote


def effective(text: str) -> dict[str, str]:
    return {line.name: line.value for line in parse(text)}


NAMES = st.from_regex(r"\A[a-z_][a-z0-9_]{0,8}(\.[a-z_][a-z0-9_]{0,8})?\Z")
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"))
PROSE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0="))


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file such as people keep: settings, commented settings, prose, blank lines."""
    setting = st.builds(lambda name, value: f"{name} = {quote(value)}", NAMES, VALUES)
    line = st.one_of(
        setting,
        st.builds("#{}".format, setting),
        st.builds("# {}".format, PROSE),
        st.builds("{} # {}".format, setting, PROSE),
        st.just(""),
    )
    return "\n".join(draw(st.lists(line, max_size=12)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port = 5432", {"port": "5432"}),
        ("port=5432", {"port": "5432"}),
        ("port 5432", {"port": "5432"}),
        ("port'5432'", {"port": "5432"}),
        ("  port\t=\t5432\t\r", {"port": "5432"}),
        ("Port = 1", {"port": "1"}),
        ("port = 1\nport = 2", {"port": "2"}),
        ("#port = 1", {}),
        (" # port = 1", {}),
        ("# just prose", {}),
        ("", {}),
        ("port = 1 # the default", {"port": "1"}),
        ("port = 1# the default", {"port": "1"}),
        ("a = 'x # y' # z", {"a": "x # y"}),
        ("a.b = 'x'", {"a.b": "x"}),
        ("a = ''", {"a": ""}),
        ("a = 'it''s'", {"a": "it's"}),
        (r"a = 'it\'s'", {"a": "it's"}),
        (r"a = 'b\\c'", {"a": r"b\c"}),
        (r"a = 'one\ttwo\nthree'", {"a": "one\ttwo\nthree"}),
        (r"a = '\303\251'", {"a": "é"}),
        (r"a = '\q'", {"a": "q"}),
        ("work_mem = 64MB", {"work_mem": "64MB"}),
        ("a = -1.5e3", {"a": "-1.5e3"}),
        ("search_path = pg_catalog", {"search_path": "pg_catalog"}),
    ],
)
def test_a_line_is_read_as_the_server_reads_it(text: str, expected: dict[str, str]) -> None:
    assert effective(text) == expected


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        pytest.param(
            "a = x\na = x", {"a": "new"}, "a = 'new'\n#a = x", id="of two active lines the first"
        ),
        pytest.param(
            "#a = x\na = x", {"a": "new"}, "#a = x\na = 'new'", id="an active before a comment"
        ),
        pytest.param(
            "a = x\n#a = x", {"a": "new"}, "a = 'new'\n#a = x", id="a later comment stays"
        ),
        pytest.param("a = x\na = y", {"a": "x"}, "a = 'x'\n#a = y", id="the line with the value"),
        pytest.param(
            "#a = y\na = x", {"a": "y"}, "a = 'y'\n#a = x", id="a comment with the value comes back"
        ),
        pytest.param(
            "#a = x\n#a = y", {"a": "z"}, "a = 'z'\n#a = y", id="of two comments the first"
        ),
        pytest.param(
            "#a = y\n#a = x", {"a": "x"}, "#a = y\na = 'x'", id="the comment with the value"
        ),
        pytest.param("a = \n", {"a": "x"}, "a = 'x'\n", id="an empty value"),
        pytest.param("a = x", {"a": None}, "#a = x", id="none comments out"),
        pytest.param(
            "a = x and more", {"a": "y"}, "a = 'y' #and more", id="what follows becomes a comment"
        ),
        pytest.param(
            "#a = x and more", {"a": "y"}, "a = 'y' #and more", id="what follows in a comment"
        ),
        pytest.param(
            "#a = 'x'b and more", {"a": "y"}, "a = 'y' #and more", id="what sticks to a quote"
        ),
        pytest.param(
            "#a = 'x'#and more", {"a": "y"}, "a = 'y'#and more", id="a comment that sticks"
        ),
        pytest.param("", {"b": "x"}, "b = 'x'\n", id="into an empty file"),
        pytest.param("a = 'x'", {"b": "y"}, "a = 'x'\nb = 'y'", id="a new name at the end"),
        pytest.param(
            "a = 'x'", {"b": "it's"}, "a = 'x'\nb = 'it''s'", id="a new name with a quote"
        ),
        pytest.param("a = x\n", {"b": "y"}, "a = x\nb = 'y'\n", id="a final line break stays"),
        pytest.param(
            "#a = x\t\t# (change requires restart)",
            {"a": "y"},
            "a = 'y'\t\t# (change requires restart)",
            id="a trailing comment stays",
        ),
        pytest.param("Work_Mem = 1", {"work_mem": "2"}, "Work_Mem = '2'", id="case is kept"),
        pytest.param("a 1", {"a": "2"}, "a = '2'", id="a missing equals sign"),
        pytest.param("a = 1\nb = 2\na = 3", {"a": None}, "#a = 1\nb = 2\n#a = 3", id="none, twice"),
        pytest.param(
            "b = 1", {"a": "1", "b": "2", "c": "3"}, "b = '2'\na = '1'\nc = '3'", id="many at once"
        ),
    ],
)
def test_a_setting_changes_where_it_stands(
    before: str, changes: dict[str, str | None], after: str
) -> None:
    assert alter(before, changes) == after


@given(VALUES)
def test_a_quoted_value_is_read_back(value: str) -> None:
    assert unquote(quote(value)) == value


@given(files(), NAMES, VALUES)
def test_what_is_set_is_what_is_read(text: str, name: str, value: str) -> None:
    assert effective(alter(text, {name: value}))[name] == value


@given(files(), NAMES, VALUES)
def test_setting_one_name_changes_no_other(text: str, name: str, value: str) -> None:
    before, after = effective(text), effective(alter(text, {name: value}))
    assert {**before, name: value} == after


@given(files(), NAMES)
def test_what_is_taken_out_is_gone_and_the_rest_stays(text: str, name: str) -> None:
    expected = {key: value for key, value in effective(text).items() if key != name}
    assert effective(alter(text, {name: None})) == expected


@given(files(), NAMES, VALUES)
def test_setting_twice_is_setting_once(text: str, name: str, value: str) -> None:
    once = alter(text, {name: value})
    assert alter(once, {name: value}) == once


@given(files(), NAMES, VALUES)
def test_lines_of_other_names_are_kept_to_the_letter_and_in_order(
    text: str, name: str, value: str
) -> None:
    others = [line for line in text.split("\n") if line and name not in line.lower()]
    kept = [line for line in alter(text, {name: value}).split("\n") if line in others]
    assert kept == others


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_is_too_strange_to_read_or_to_leave_as_it_is(text: str) -> None:
    parse(text)
    assert alter(text, {}) == text


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_what_no_line_can_hold_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="line break or a NUL"):
        quote(value)


@pytest.mark.parametrize(
    ("value", "text"), [(5, "5"), (0.5, "0.5"), (True, "on"), (False, "off"), ("x", "x")]
)
def test_a_python_value_is_spelled_as_the_server_does(value: str | float, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize("name", ["", "a b", "a=b", "1a", "a.b.c", "a\n", "#a", "--a"])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected the name of a setting"):
        checked_name(name)
