"""A named conninfo; readable errors when connecting fails."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from copyd.conninfo import parse
from copyd.errors import CopydError
from copyd.transfers.faults import one_line

if TYPE_CHECKING:
    from copyd.connection import Connection

NEVER = 1_000_000_000  # a prepare_threshold that is never reached
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
    """A named conninfo, keywords or URI. ``problem``: why connecting is pointless, if it is."""

    name: str
    conninfo: str = field(repr=False)
    problem: str | None = None

    @classmethod
    def parse(cls, conninfo: str) -> Server:
        """Name `conninfo` by database, host and port; raises CopydError, without quoting any of it."""
        return cls(_name(parse(conninfo)), conninfo)

    def connect(self, *, like: Connection | None = None) -> Connection:
        """Open a connection with transactions in READ COMMITTED, and UTF-8.

        `like`: connect to the same host as this connection, if there are several.

        Raises CopydError caused by psycopg's error, or without a cause if there is a ``problem``:
        then trying again is pointless.
        """
        if self.problem is not None:
            raise CopydError(f"cannot connect to {self.name}: {self.problem}")
        given = conninfo_to_dict(self.conninfo)
        missing = {key: value for key, value in DEFAULTS.items() if key not in given}
        if "PGCONNECT_TIMEOUT" in os.environ or "service" in given or "PGSERVICE" in os.environ:
            missing.pop("connect_timeout", None)  # libpq's own sources may set it
        try:
            connection = psycopg.connect(
                make_conninfo(self.conninfo, **missing, **_host_of(like), client_encoding="UTF8")
            )
        except psycopg.Error as error:
            reason = one_line(error)
            password = given.get("password")
            if password:
                reason = reason.replace(str(password), "***")
            raise CopydError(f"cannot connect to {self.name}: {reason}") from error
        # Whatever the role's or the database's default: a snapshot must not precede the locks.
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        # Poolers may not return a statement that psycopg has prepared.
        connection.prepare_threshold = NEVER
        return connection


def _host_of(connection: Connection | None) -> dict[str, str]:
    if connection is None:
        return {}
    info = connection.info
    parameters = info.get_parameters()
    several = [key for key in ("host", "hostaddr") if "," in parameters.get(key, "")]
    if not several:
        return {}
    chosen = {"host": info.host, "hostaddr": info.hostaddr}
    return {"port": str(info.port), **{key: chosen[key] for key in several}}


def _name(given: dict[str, Any]) -> str:
    if "service" in given and "dbname" not in given:
        return f"service {given['service']}"
    place = given.get("host") or given.get("hostaddr") or "local"
    port = f":{given['port']}" if "port" in given else ""
    return f"{given.get('dbname', 'default')}@{place}{port}"
