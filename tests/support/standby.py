"""A streaming standby of a server: a copy of its stopped data directory that follows it."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from copyd.cluster import Cluster
from copyd.cluster.poll import wait_for
from tests.support.servers import Server, free_port, private_folder
from tests.support.sql import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE = 30.0


@contextmanager
def standby_of(primary: Server) -> Iterator[Server]:
    """Copy `primary`, which is restarted for it, and follow it.

    Queries that keep the standby from replaying are cancelled after a second.
    """
    with private_folder() as folder:
        cluster = Cluster(primary.cluster.installation, folder / "data")
        shut_down(primary)
        subprocess.run(
            ["/bin/cp", "-a", primary.cluster.data_directory, cluster.data_directory], check=True
        )
        start_again(primary)
        port = free_port()
        cluster.settings.update({
            "port": str(port),
            "primary_conninfo": make_conninfo(
                primary.tcp_conninfo(), dbname=None, application_name="referee"
            ),
            "max_standby_streaming_delay": "1s",
            "hot_standby": "on",
        })  # fmt: skip
        signal = cluster.data_directory / "standby.signal"
        signal.touch()
        cluster.account.own(signal)
        with cluster:
            yield Server(cluster, port, primary.has_tls)


def shut_down(server: Server) -> None:
    server.cluster.shutdown()
    server.cluster.wait_until_stopped(DEADLINE)


def start_again(server: Server) -> None:
    server.cluster.start()
    server.cluster.wait_until_started(DEADLINE)


def crash(server: Server) -> None:
    """Kill a server; what it had committed is in its log."""
    server.cluster.kill()
    server.cluster.wait_until_stopped(DEADLINE)


def wait_until_caught_up(primary: Server, standby: Server) -> None:
    """Wait until everything that `primary` has committed by now can be seen on `standby`."""
    ((end,),) = ask(primary.conninfo(), "SELECT pg_current_wal_lsn()::text")
    query = f"SELECT pg_last_wal_replay_lsn() >= '{end}'"
    assert wait_for(lambda: ask(standby.conninfo(), query) == [(True,)], timeout=DEADLINE), (
        "the standby does not catch up"
    )
