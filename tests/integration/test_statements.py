"""Every SQL file is a statement that the server takes."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from psycopg import sql
from psycopg.pq import ExecStatus

from copyd.statements import statement
from tests.support.statements import PACKAGE, every_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import Server

HOLES = {
    "export": sql.SQL("NULL"),
    "is_enforced": sql.SQL("true"),
    "multirange": sql.SQL("NULL::oid"),
    "table": sql.Identifier("ledger"),
}


def prepared(path: Path) -> bytes:
    """Return the statement as the protocol has it: $1 for the first parameter, and so on."""
    package = ".".join(path.parents[1].relative_to(PACKAGE.parent).parts)
    text = statement(package, path.stem).format(**HOLES).as_string()
    numbers = itertools.count(1)
    named: defaultdict[str, int] = defaultdict(lambda: next(numbers))

    def number(match: re.Match[str]) -> str:
        return f"${named[match[1]] if match[1] else next(numbers)}"

    return re.sub(r"%(?:\((\w+)\))?s", number, text).encode()


@pytest.mark.parametrize("path", every_file(), ids=lambda path: path.stem)
def test_the_server_takes_the_statement(path: Path, server: Server) -> None:
    with server.connect() as connection:
        result = connection.pgconn.prepare(b"", prepared(path))
        assert result.status == ExecStatus.COMMAND_OK, result.error_message.decode()
