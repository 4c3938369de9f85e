"""Statements in sessions of the tests' own, and the content of tables as SQL sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.connection import Connection

REFEREE = "referee"
"""The application name of these sessions: tests that end other sessions spare them."""


def ask(conninfo: str, query: str) -> list[Any]:
    """Ask a server with a session of the tests' own."""
    with _connect(conninfo) as connection:
        return connection.execute(query).fetchall()


def execute(conninfo: str, *statements: str) -> None:
    with _connect(conninfo) as connection:
        for statement in statements:
            connection.execute(statement)


def content(conninfo: str, tables: Sequence[str]) -> dict[str, tuple[int, str | None]]:
    """Count and hash every table, all in one snapshot, with nothing of copyd."""
    hashes = ", ".join(
        f"(SELECT ROW(count(*), md5(string_agg(t::text, '|' ORDER BY t::text)))::text FROM {name} t)"
        for name in tables
    )
    (row,) = ask(conninfo, f"SELECT {hashes}")
    return dict(zip(tables, row, strict=True))


def end_backends(conninfo: str) -> int:
    """Terminate every session of the database but the tests' own; returns how many there were."""
    query = f"""
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend'
            AND application_name <> '{REFEREE}'
    """
    count: int = ask(conninfo, query)[0][0]
    return count


def _connect(conninfo: str) -> Connection:
    return psycopg.connect(
        conninfo,
        autocommit=True,
        application_name=REFEREE,
        client_encoding="UTF8",
        options="-c statement_timeout=30s -c max_parallel_workers_per_gather=0",
    )
