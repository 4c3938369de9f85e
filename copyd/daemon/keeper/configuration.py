"""Settings and hba: written, judged by PostgreSQL itself, taken back where it refuses them.

What stood there before copyd is kept in the cluster's record, and comes back when the
configuration does not speak of it any more.
"""

from __future__ import annotations

import re
import stat
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo

from copyd.cluster import ClusterError, as_text, read_file, replace_file, superuser_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.cluster import Cluster
    from copyd.config import Cluster as Section
    from copyd.daemon.keeper.records import Files

JUDGE_TIMEOUT = 30.0
RELOAD_TIMEOUT = 10.0
CONNECT_TIMEOUT = 5

_VALUE = re.compile(r'(parameter "[^"]*"): .*')
_SAID = re.compile(r"(?:LOG|FATAL|ERROR):\s+(.*)")


@dataclass(frozen=True)
class Configured:
    """What became of a cluster's settings and hba."""

    changed: tuple[str, ...] = ()
    """What was written: names of settings, and ``hba``."""
    problems: tuple[str, ...] = ()
    pending_restart: tuple[str, ...] = ()
    """What the server will only take when it is restarted."""

    def with_problem(self, text: str) -> Configured:
        """Add a sentence."""
        return replace(self, problems=(*self.problems, text))


def conninfo(cluster: Cluster, files: Files, dbname: str = "postgres") -> str:
    """Return how to connect as the superuser; a password stays in its file.

    Raises `ClusterNotRunningError` while there is no server to connect to.
    """
    user = superuser_of(cluster.data_directory) or cluster.account.name
    more = {"passfile": str(files.passfile)} if files.passfile.exists() else {}
    return make_conninfo(cluster.conninfo(dbname, user), **more)


def write_settings(cluster: Cluster, section: Section, files: Files) -> Configured:
    """Write the settings into ``postgresql.conf``, unless PostgreSQL refuses them.

    Works with and without a server. Raises OSError, `ClusterError` where it cannot be done.
    """
    record = files.read()
    path = cluster.settings.path
    wanted = {name.lower(): as_text(value) for name, value in section.settings.items()}
    given_up = {name: value for name, value in record.former.items() if name not in wanted}
    if not wanted and not given_up:
        return Configured()
    _check_own(path, cluster)
    before, stood = read_file(path), cluster.settings.getset((*wanted, *given_up))
    former = {name: record.former.get(name, stood[name]) for name in wanted}
    files.write(replace(record, former={**given_up, **former}))
    overriding = cluster.settings.update({**given_up, **wanted})
    refusal = None if read_file(path) == before else _refusal(cluster)
    if refusal is not None:
        replace_file(path, before)
        return Configured().with_problem(f"its settings are refused and not taken: {refusal}")
    files.write(replace(record, former=former))
    changes = {**given_up, **wanted}
    return Configured(
        changed=tuple(name for name, value in changes.items() if stood[name] != value),
        problems=tuple(
            f"{entry.name} is written, but {entry.path}, line {entry.line}, overrides it"
            for entry in overriding
            if entry.value != changes[entry.name]
        ),
    )


def configure(
    cluster: Cluster, section: Section, files: Files, *, written: Configured | None = None
) -> Configured:
    """Bring a running server to its settings and hba, without a restart.

    ``written`` is what `write_settings` returned immediately before the server was started.
    What the server, or the disk, refuses is among the problems.
    """
    record = files.read()
    has_hba = section.hba is not None or record.former_hba is not None
    has_settings = bool(section.settings or record.former)
    if not has_hba and (written is not None or not has_settings):
        return replace(written or Configured(), changed=())
    done = replace(written, changed=()) if written else _written(cluster, section, files)
    try:
        return _apply(cluster, section, files, done)
    except psycopg.Error as error:
        cluster.reload()
        words = str(error).strip().partition("\n")[0]
        return done.with_problem(f"it cannot be asked about its configuration: {words}")
    except (ClusterError, OSError) as error:
        return done.with_problem(f"its configuration cannot be brought on: {error}")


def _written(cluster: Cluster, section: Section, files: Files) -> Configured:
    try:
        return write_settings(cluster, section, files)
    except (ClusterError, OSError, subprocess.SubprocessError) as error:
        return Configured().with_problem(f"its settings cannot be written: {error}")


def _apply(cluster: Cluster, section: Section, files: Files, done: Configured) -> Configured:
    with _asking(cluster, files) as connection:
        loaded = _loaded_at(connection)
        done = _write_hba(connection, cluster, section, files, done)
        if not done.changed:
            return replace(done, pending_restart=_pending(connection))
    cluster.reload()

    def is_loaded() -> bool:
        with _asking(cluster, files) as connection:
            return _loaded_at(connection) != loaded

    if not wait_for(is_loaded, timeout=RELOAD_TIMEOUT, delay=0.05):
        done = done.with_problem("it has not read its configuration again")
    with _asking(cluster, files) as connection:
        return replace(done, pending_restart=_pending(connection))


@contextmanager
def _asking(cluster: Cluster, files: Files) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(
        conninfo(cluster, files),
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT,
        application_name="copyd",
        options="-c statement_timeout=10s",
    ) as connection:
        yield connection


def _write_hba(
    connection: psycopg.Connection[Any],
    cluster: Cluster,
    section: Section,
    files: Files,
    done: Configured,
) -> Configured:
    record, path = files.read(), cluster.hba_file
    text = record.former_hba if section.hba is None else f"{section.hba.rstrip()}\n"
    if text is None or (before := read_file(path)) == text:
        return done
    _check_own(path, cluster)
    if record.former_hba is None:
        files.write(replace(record, former_hba=before))
    replace_file(path, text)
    # The view reads the file, whatever the server has loaded.
    errors = connection.execute(
        "SELECT line_number, error FROM pg_catalog.pg_hba_file_rules"
        " WHERE error IS NOT NULL ORDER BY line_number"
    ).fetchall()
    if errors:
        replace_file(path, before)
        told = "; ".join(f"line {number}: {error}" for number, error in errors)
        return done.with_problem(f"its hba is refused and not taken: {told}")
    if section.hba is None:
        files.write(replace(record, former_hba=None))
    return replace(done, changed=(*done.changed, "hba"))


def _loaded_at(connection: psycopg.Connection[Any]) -> object:
    return connection.execute("SELECT pg_catalog.pg_conf_load_time()").fetchone()


def _pending(connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    query = "SELECT name FROM pg_catalog.pg_settings WHERE pending_restart ORDER BY name"
    return tuple(str(name) for (name,) in connection.execute(query))


def _refusal(cluster: Cluster) -> str | None:
    """Ask PostgreSQL what it thinks of the files, with the server running or not.

    Without the values, one of which may be a secret. PostgreSQL docs, "postgres", -C.
    """
    directory = str(cluster.data_directory)
    command = [str(cluster.daemon_path), "-D", directory, "-C", "data_directory"]
    done = cluster.account.run(command, timeout=JUDGE_TIMEOUT)
    if done.returncode == 0:
        return None
    said = _SAID.findall(done.stderr) or ["no reason given"]
    return _VALUE.sub(r"\1", said[0])


def _check_own(path: Path, cluster: Cluster) -> None:
    """Refuse to write, as root, a file that the server's account has put in another's place."""
    found = path.lstat()
    is_plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if not is_plain or found.st_uid != cluster.account.uid:
        raise ClusterError(
            f"{path} is not a plain file of {cluster.account.name} alone: put one there"
        )
