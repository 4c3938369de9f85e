"""Settings and hba: written, checked by PostgreSQL itself, and reverted if refused.

The cluster's record keeps the values from before copyd; a setting removed from the configuration
gets its former value back.
"""

from __future__ import annotations

import re
import stat
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from copyd.cluster import ClusterError, as_text, read_file, replace_file, superuser_of, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from copyd.cluster import Cluster
    from copyd.config import Cluster as Section
    from copyd.connection import Connection
    from copyd.daemon.keeper.records import Files

JUDGE_TIMEOUT = 30.0
RELOAD_TIMEOUT = 10.0
CONNECT_TIMEOUT = 5

_VALUE = re.compile(r'(parameter "[^"]*"): .*')
_SAID = re.compile(r"(?:LOG|FATAL|ERROR):\s+(.*)")


@dataclass(frozen=True)
class Configured:
    """The result for settings and hba. ``changed``: settings written, and ``hba``.

    ``pending_restart``: settings without effect until the server restarts.
    """

    changed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    pending_restart: tuple[str, ...] = ()

    def with_problem(self, text: str) -> Configured:
        return replace(self, problems=(*self.problems, text))


def conninfo(cluster: Cluster, files: Files, dbname: str = "postgres") -> str:
    """Return the superuser's conninfo, without a password; the passfile has it.

    Raises `ClusterNotRunningError` if no server runs.
    """
    user = superuser_of(cluster.data_directory) or cluster.account.name
    more = {"passfile": str(files.passfile)} if files.passfile.exists() else {}
    return make_conninfo(cluster.conninfo(dbname, user), **more)


def write_settings(cluster: Cluster, section: Section, files: Files) -> Configured:
    """Write the settings to ``postgresql.conf``, unless PostgreSQL refuses them.

    Works with and without a running server. Raises OSError and `ClusterError`.
    """
    record = files.read()
    path = cluster.settings.path
    wanted = {name.lower(): as_text(value) for name, value in section.settings.items()}
    given_up = {name: value for name, value in record.former.items() if name not in wanted}
    changes = {**given_up, **wanted}
    if not changes:
        return Configured()
    _check_own(path, cluster)
    before, stood = read_file(path), cluster.settings.getset(changes)
    former = {name: record.former.get(name, stood[name]) for name in wanted}
    # Before the change, so that a daemon that is killed in between still knows the old values.
    files.write(replace(record, former={**given_up, **former}))
    overriding = cluster.settings.update(changes)
    refusal = None if read_file(path) == before else _refusal(cluster)
    if refusal is not None:
        replace_file(path, before)
        return Configured().with_problem(f"settings refused, the old ones are kept: {refusal}")
    files.write(replace(record, former=former))
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
    """Apply settings and hba to a running server, without a restart.

    ``written``: the result of `write_settings` if the server was started right after it.
    Errors of the server and of the disk become problems.
    """
    record = files.read()
    has_hba = section.hba is not None or record.former_hba is not None
    has_settings = bool(section.settings or record.former)
    if not has_hba and (written is not None or not has_settings):
        return replace(written or Configured(), changed=())
    done = replace(written or Configured(), changed=())
    if written is None:
        try:
            done = write_settings(cluster, section, files)
        except (ClusterError, OSError, subprocess.SubprocessError) as error:
            done = done.with_problem(f"cannot write its settings: {error}")
    try:
        return _apply(cluster, section, files, done)
    except psycopg.Error as error:
        cluster.reload()  # without a connection nothing else loads the settings
        words = str(error).strip().partition("\n")[0]
        return done.with_problem(f"cannot query its configuration: {words}")
    except (ClusterError, OSError) as error:
        return done.with_problem(f"cannot apply its configuration: {error}")


def _apply(cluster: Cluster, section: Section, files: Files, done: Configured) -> Configured:
    with _connect(cluster, files) as connection:
        loaded = _loaded_at(connection)
        done = _write_hba(connection, cluster, section, files, done)
        if not done.changed:
            return replace(done, pending_restart=_pending(connection))
    cluster.reload()

    def is_loaded() -> bool:
        with _connect(cluster, files) as connection:
            return _loaded_at(connection) != loaded

    if not wait_for(is_loaded, timeout=RELOAD_TIMEOUT, delay=0.05):
        done = done.with_problem("the server has not reloaded its configuration")
    with _connect(cluster, files) as connection:
        return replace(done, pending_restart=_pending(connection))


def _connect(cluster: Cluster, files: Files) -> Connection:
    return psycopg.connect(
        conninfo(cluster, files),
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT,
        application_name="copyd",
        options="-c statement_timeout=10s",
    )


def _write_hba(
    connection: Connection, cluster: Cluster, section: Section, files: Files, done: Configured
) -> Configured:
    record, path = files.read(), cluster.hba_file
    text = record.former_hba if section.hba is None else f"{section.hba.rstrip()}\n"
    if text is None or (before := read_file(path)) == text:
        return done
    _check_own(path, cluster)
    if record.former_hba is None:
        files.write(replace(record, former_hba=before))
    replace_file(path, text)
    # The view reads the file, not the rules that the server has loaded.
    # Decision: PostgreSQL judges settings before they hold
    errors = connection.execute(
        "SELECT line_number, error FROM pg_catalog.pg_hba_file_rules"
        " WHERE error IS NOT NULL ORDER BY line_number"
    ).fetchall()
    if errors:
        replace_file(path, before)
        told = "; ".join(f"line {number}: {error}" for number, error in errors)
        return done.with_problem(f"hba refused, the old file is kept: {told}")
    if section.hba is None:
        files.write(replace(record, former_hba=None))
    return replace(done, changed=(*done.changed, "hba"))


def _loaded_at(connection: Connection) -> object:
    return connection.execute("SELECT pg_catalog.pg_conf_load_time()").fetchone()


def _pending(connection: Connection) -> tuple[str, ...]:
    query = "SELECT name FROM pg_catalog.pg_settings WHERE pending_restart ORDER BY name"
    return tuple(str(name) for (name,) in connection.execute(query))


def _refusal(cluster: Cluster) -> str | None:
    """Return PostgreSQL's first objection to its files, without values: they may be secrets.

    Needs no running server: PostgreSQL docs, "postgres", -C.
    """
    # Decision: PostgreSQL judges settings before they hold
    directory = str(cluster.data_directory)
    command = [str(cluster.daemon_path), "-D", directory, "-C", "data_directory"]
    done = cluster.account.run(command, timeout=JUDGE_TIMEOUT)
    if done.returncode == 0:
        return None
    said = _SAID.findall(done.stderr) or ["no reason given"]
    return _VALUE.sub(r"\1", said[0])


def _check_own(path: Path, cluster: Cluster) -> None:
    """Raise unless `path` is a plain file: root must not write where the server's account links to."""
    found = path.lstat()
    is_plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if not is_plain or found.st_uid != cluster.account.uid:
        raise ClusterError(
            f"{path} is not a plain file of {cluster.account.name}: replace it by one"
        )
