from __future__ import annotations

import pytest

from copyd import conninfo
from copyd.errors import CopydError


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("host=db1 port=5433 dbname=shop", {"host": "db1", "port": "5433", "dbname": "shop"}),
        ("postgresql://anna@db1/shop", {"user": "anna", "host": "db1", "dbname": "shop"}),
        ("postgresql://db1,db2", {"host": "db1,db2", "port": ","}),
        ("postgresql://db1:5433,db2:5434", {"host": "db1,db2", "port": "5433,5434"}),
        ("service=shop", {"service": "shop"}),
        ("host=@abstract", {"host": "@abstract"}),
        ("", {}),
    ],
)
def test_keywords_uris_and_services_are_read(text: str, given: dict[str, str]) -> None:
    assert conninfo.parse(text) == given


@pytest.mark.parametrize(
    "text",
    [
        "host=db1 pasword=hush",
        "hush",
        "postgresql://anna:hu/sh@db1",
        "postgresql://anna:hu@sh@db1/shop",
        "postgresql://db1:hush",
        "password='hush",
        "host=db1\0 password=hush",
    ],
)
def test_what_cannot_be_read_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(CopydError, match="the connection string cannot be read") as caught:
        conninfo.parse(text)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
