"""A server: a named connection, and the sentences for when there is none."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from copyd.conninfo import parse
from copyd.errors import CopydError
from copyd.transfers.wording import one_line

Connection = psycopg.Connection[Any]

DEFAULTS = {
    "fallback_application_name": "copyd",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A connection string (keywords or URI, as libpq takes it) and the name to call it by."""

    name: str
    conninfo: str = field(repr=False)

    @classmethod
    def parse(cls, conninfo: str) -> Server:
        """Take `conninfo`; the name says database, host and port.

        Raises CopydError, without repeating any of it, where libpq cannot read it.
        """
        given = parse(conninfo)
        return cls(_name(given), conninfo)

    def connect(self) -> Connection:
        """Open a connection that begins transactions by itself, READ COMMITTED, and speaks UTF-8.

        Both whatever the role or the database is set to: a snapshot must not be older than what
        is locked, and names can be in any language. Raises CopydError where the server cannot be reached or refuses; the cause is psycopg's.
        """
        given = conninfo_to_dict(self.conninfo)
        missing = {key: value for key, value in DEFAULTS.items() if key not in given}
        if "PGCONNECT_TIMEOUT" in os.environ or "service" in given or "PGSERVICE" in os.environ:
            missing.pop("connect_timeout", None)  # libpq's own sources may say it
        try:
            connection = psycopg.connect(
                make_conninfo(self.conninfo, **missing, client_encoding="UTF8")
            )
        except psycopg.Error as error:
            reason = one_line(error)
            password = given.get("password")
            if password:
                reason = reason.replace(str(password), "***")
            raise CopydError(f"cannot connect to {self.name}: {reason}") from error
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        return connection


def _name(given: dict[str, Any]) -> str:
    if "service" in given and "dbname" not in given:
        return f"service {given['service']}"
    place = given.get("host") or given.get("hostaddr") or "local"
    port = f":{given['port']}" if "port" in given else ""
    return f"{given.get('dbname', 'default')}@{place}{port}"
