from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.config.sizes import PATTERN, parse, spell


@pytest.mark.parametrize(
    ("text", "size"),
    [("1kB", 1024), ("20MB", 20 * 1024**2), ("3GB", 3 * 1024**3), ("0MB", 0)],
)
def test_a_size_has_the_units_of_postgresql(text: str, size: int) -> None:
    assert parse(text) == size


@pytest.mark.parametrize(
    "text", ["", "20", "20 MB", "20mb", "20KB", "-1MB", "1.5GB", "MB", "20MB ", "\u0661MB", "1TB"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'a size such as "512kB", "20MB" or "1GB"'):
        parse(text)
    assert not re.search(PATTERN, text)


@given(st.integers(0, 999_999_999).map(lambda number: number * 1024))
def test_a_spelled_size_is_read_as_the_same(size: int) -> None:
    assert parse(spell(size)) == size
