"""``copyd cluster``: controls a PostgreSQL server by hand, like pg_ctl.

Exit codes are pg_ctl's: 0 done, 1 failed; status: 3 not running, 4 no data directory.
"""

from __future__ import annotations

import json
import os
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from copyd.cli.assembly import json_option
from copyd.cli.console import say
from copyd.cli.options import Seconds
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from copyd.cluster import Cluster, Installation

    Opener = Callable[[Path], Cluster]

NOT_RUNNING = 3
NO_DATA_DIRECTORY = 4

DataDirectory = click.Path(file_okay=False, path_type=Path, resolve_path=True)
path_argument = click.argument("path", type=DataDirectory)
timeout_option = click.option(
    "--timeout", type=Seconds(), default=60.0, show_default=True, help="Seconds to wait."
)
log_option = click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file for the server's output; default: server.log in PATH.",
)
mode_option = click.option(
    "--mode",
    type=click.Choice(["fast", "smart", "immediate"]),
    default="fast",
    show_default=True,
    help="fast: end connections, smart: wait for clients, immediate: stop without a checkpoint.",
)


@click.group(short_help="Create, start, stop and configure a PostgreSQL server.")
@click.option("--bindir", metavar="FOLDER", help="The folder of PostgreSQL's programs.")
@click.option("--run-as", metavar="ACCOUNT", help="The server's account, if run by root.")
@click.pass_context
def cluster(context: click.Context, bindir: str | None, run_as: str | None) -> None:
    """Create, start, stop and configure the PostgreSQL server of a data directory.

    Without --bindir, uses an installation with the version of the data directory.
    """
    context.obj = lambda path: _open(path, bindir=bindir, run_as=run_as)


@cluster.command()
@path_argument
@click.option("--user", metavar="NAME", help="The superuser; default: the server's account.")
@click.option(
    "--password-file",
    type=click.File("r"),
    metavar="FILE",
    help="A file with the superuser's password in its first line (-: standard input).",
)
@click.option("--encoding", default="UTF8", show_default=True, help="The databases' encoding.")
@click.option("--locale", default="C", show_default=True, help="The databases' locale.")
@click.option("--auth", metavar="METHOD", help="Default: scram-sha-256 with a password, else peer.")
@click.pass_obj
def init(
    opened: Opener,
    path: Path,
    user: str | None,
    password_file: TextIO | None,
    encoding: str,
    locale: str,
    auth: str | None,
) -> None:
    """Create the data directory PATH.

    With a password, every connection requires it. Without a password, only this account and the
    server's can connect, by the Unix socket. TCP is off until listen_addresses is set.
    """
    password = password_file.readline().rstrip("\r\n") if password_file is not None else None
    if password == "":
        raise CopydError("the password file's first line is empty")
    made = opened(path)
    made.init(user=user, password=password, encoding=encoding, locale=locale, auth=auth)
    say(f"data directory {path} created for {made.installation.version}")


@cluster.command()
@path_argument
@log_option
@timeout_option
@click.pass_obj
def start(opened: Opener, path: Path, log: Path | None, timeout: float) -> None:
    """Start the server of PATH and wait until it accepts connections."""
    stopped = _existing(opened, path)
    pid = stopped.pid()
    if pid is not None:
        raise CopydError(f"a server is already running in {path} (PID: {pid})")
    _start(stopped, log, timeout)


@cluster.command()
@path_argument
@mode_option
@timeout_option
@click.pass_obj
def stop(opened: Opener, path: Path, mode: str, timeout: float) -> None:
    """Stop the server of PATH and wait until it has ended."""
    _stop(_running(opened, path), mode, timeout)
    say("server stopped")


@cluster.command()
@path_argument
@mode_option
@log_option
@timeout_option
@click.pass_obj
def restart(opened: Opener, path: Path, mode: str, log: Path | None, timeout: float) -> None:
    """Stop the server of PATH if it is running, then start it."""
    found = _existing(opened, path)
    if found.running():
        _stop(found, mode, timeout)
        say("server stopped")
    _start(found, log, timeout)


@cluster.command()
@path_argument
@click.pass_obj
def reload(opened: Opener, path: Path) -> None:
    """Reload the configuration files of the server of PATH."""
    _running(opened, path).reload()
    say("server signaled")


@cluster.command()
@path_argument
@json_option
@click.pass_obj
def status(opened: Opener, path: Path, as_json: bool) -> int:
    """Print whether a server is running in PATH.

    Exit codes: 0 running, 3 not running, 4 no data directory.
    """
    from copyd.cluster import State

    observed = opened(path)
    state, pid = observed.state(), observed.pid()
    if as_json:
        say(json.dumps({"path": str(path), "state": state.value, "pid": pid}))
    elif state is State.VOID:
        say(f"directory {path} is not a data directory")
    else:
        running = f"server is running (PID: {pid}), {state.value}"
        say(running if pid else f"no server running, {state.value}")
    if state is State.VOID:
        return NO_DATA_DIRECTORY
    return 0 if pid is not None else NOT_RUNNING


@cluster.command()
@path_argument
@click.argument("words", metavar="[NAME | NAME=VALUE]...", nargs=-1)
@click.option("--unset", multiple=True, metavar="NAME", help="Remove a setting from the file.")
@json_option
@click.pass_obj
def settings(
    opened: Opener, path: Path, words: tuple[str, ...], unset: tuple[str, ...], as_json: bool
) -> None:
    """Show or change the settings of PATH; without a name, show all.

    Reads all files, with includes and ALTER SYSTEM; writes postgresql.conf only. A running server
    applies changes on reload or restart.
    """
    stored = _existing(opened, path).settings
    changes: dict[str, str | None] = dict.fromkeys(unset)
    names = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            changes[name.strip()] = value.strip()
        else:
            names.append(name)
    if changes:
        for entry in stored.update(changes):
            click.echo(f"written, but {entry} overrides it", err=True)
        if not names:
            return
    shown = stored.getset(names) if names else dict(stored)
    if as_json:
        say(json.dumps(shown, indent=2))
        return
    for name, current in shown.items():
        say(f"{name} is not set" if current is None else f"{name} = {current}")


@cluster.command()
@path_argument
@click.confirmation_option(prompt="Stop the server and remove all its data?")
@click.pass_obj
def drop(opened: Opener, path: Path) -> None:
    """Stop the server of PATH and remove the data directory with all its data."""
    _existing(opened, path).drop()
    say(f"data directory {path} removed")


def _open(path: Path, *, bindir: str | None, run_as: str | None) -> Cluster:
    # The server must outlive this command.
    from copyd.cluster import Cluster, Installation

    installation = Installation.at(bindir) if bindir is not None else _installation_for(path)
    return Cluster(installation, path, run_as=run_as, on_parent_exit="leave")


def _installation_for(path: Path) -> Installation:
    """Return an installation for the data directory at `path`.

    Without an installation of its version: one without programs, sufficient for status and stop.
    """
    from copyd.cluster import Installation

    version_file = path / "PG_VERSION"
    try:
        major = version_file.read_text().strip() if version_file.exists() else None
    except PermissionError as error:
        raise CopydError(f"cannot read {path}: run as its owner or as root") from error
    for installation in Installation.find_all():
        if major in (None, str(installation.version_info.major)):
            return installation
    return Installation({"version": f"PostgreSQL {major}"}) if major else Installation.find()


def _existing(opened: Opener, path: Path) -> Cluster:
    found = opened(path)
    if not found.initialized():
        raise CopydError(
            f"directory {path} is not a data directory; copyd cluster init creates one"
        )
    return found


def _running(opened: Opener, path: Path) -> Cluster:
    found = _existing(opened, path)
    if not found.running():
        raise CopydError(f"no server runs in {path}")
    return found


def _start(stopped: Cluster, log: Path | None, timeout: float) -> None:
    path = log if log is not None else stopped.data_directory / "server.log"
    opener = partial(os.open, mode=0o600) if log is not None else _inside(stopped)
    with open(path, "ab", opener=opener) as file:
        stopped.start(logfile=file)
        stopped.wait_until_started(timeout)
    say(f"server started (PID: {stopped.pid()}), connect with: psql '{stopped.conninfo()}'")


def _inside(cluster: Cluster) -> Callable[[str, int], int]:
    # Root must not follow names in a folder of the server's account, which could have put a link to
    # another user's file there: create the file exclusively, or accept only a plain file of the account.

    def opened(path: str, flags: int) -> int:
        flags |= os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            os.fchown(descriptor, cluster.account.uid, cluster.account.gid)
            return descriptor
        try:
            descriptor = os.open(path, flags & ~os.O_CREAT)
        except OSError as error:
            raise CopydError(f"cannot write {path}: {error.strerror}; choose --log") from error
        found = os.fstat(descriptor)
        is_plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if not is_plain or found.st_uid != cluster.account.uid:
            os.close(descriptor)
            raise CopydError(f"{path} is not a plain file of {cluster.account.name}; choose --log")
        return descriptor

    return opened


def _stop(running: Cluster, mode: str, timeout: float) -> None:
    # The methods have the names of py-postgresql's Cluster.
    {"fast": running.shutdown, "smart": running.stop, "immediate": running.quit}[mode]()
    running.wait_until_stopped(timeout)
