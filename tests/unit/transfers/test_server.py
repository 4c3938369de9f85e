from __future__ import annotations

import pytest

from copyd.errors import CopydError
from copyd.transfers import Server


@pytest.mark.parametrize(
    ("conninfo", "name"),
    [
        ("host=db1 port=5433 dbname=shop password=hush", "shop@db1:5433"),
        ("postgresql://anna:hush@db1/shop", "shop@db1"),
        ("dbname=shop", "shop@local"),
        ("service=shop", "service shop"),
        ("", "default@local"),
    ],
)
def test_a_server_is_called_by_database_host_and_port(conninfo: str, name: str) -> None:
    assert Server.parse(conninfo).name == name


@pytest.mark.parametrize(
    "conninfo",
    [
        "host=db1 password=hush hush2",
        "postgresql://anna:hu/sh@db1/shop",
        "postgresql://anna:hush@hush2@db1/shop",
        "postgresql://anna:hush%zz@db1/shop",
        "postgresql://anna:123/hush@db1/shop",
        "host=db1 dbname=postgresql://anna:hush@db1/shop",
        "hush=hush2",
    ],
)
def test_a_connection_string_that_cannot_be_read_is_not_repeated(conninfo: str) -> None:
    with pytest.raises(CopydError, match="cannot be read") as caught:
        Server.parse(conninfo)
    assert "hu" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_is_not_in_the_repr() -> None:
    assert "hush" not in repr(Server.parse("dbname=shop password=hush"))
