from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.config.units import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    parse_duration,
    parse_size,
    spell_duration,
    spell_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3_600.0),
        ("24h", 86_400.0),
        ("7d", 604_800.0),
        ("0s", 0.0),
        ("007s", 7.0),
    ],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "soon",
        "1.5h",
        "1h30m",
        "-1s",
        "+1s",
        "30 s",
        " 30s",
        "30S",
        "30s\n",
        "1w",
        "٣s",
    ],
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    expected = f'expected a duration such as "500ms", "30s", "5m", "24h" or "7d", got {text!r}'
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.5, "500ms"), (90, "90s"), (3600, "1h"), (86_400, "1d")]
)
def test_a_duration_is_spelled_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert spell_duration(seconds) == text


@given(st.integers(0, 999_999_999), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_every_duration_comes_back_from_its_spelling(number: int, unit: str) -> None:
    seconds = parse_duration(f"{number}{unit}")
    assert parse_duration(spell_duration(seconds)) == seconds


@given(st.from_regex(DURATION_PATTERN, fullmatch=True).filter(lambda text: not text.endswith("\n")))
def test_every_text_that_the_schema_allows_is_a_duration(text: str) -> None:
    assert parse_duration(text) >= 0


@given(st.text("0123456789mshd .-", max_size=6))
def test_every_text_that_is_a_duration_is_allowed_by_the_schema(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError:
        is_duration = False
    else:
        is_duration = True
    assert is_duration == bool(re.search(DURATION_PATTERN, text))


@pytest.mark.parametrize(
    ("text", "size"),
    [("1kB", 1024), ("20MB", 20 * 1024**2), ("3GB", 3 * 1024**3), ("0MB", 0)],
)
def test_a_size_has_the_units_of_postgresql(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "20", "20 MB", "20mb", "20KB", "-1MB", "1.5GB", "MB", "20MB ", "\u0661MB", "1TB"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'a size such as "512kB", "20MB" or "1GB"'):
        parse_size(text)
    assert not re.search(SIZE_PATTERN, text)


@given(st.integers(0, 999_999_999).map(lambda number: number * 1024))
def test_a_spelled_size_is_read_as_the_same(size: int) -> None:
    assert parse_size(spell_size(size)) == size
