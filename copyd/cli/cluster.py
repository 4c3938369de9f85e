"""``copyd cluster``: a managed server by hand, for those who know pg_ctl.

Exit codes as pg_ctl's: 0 done, 1 failed, and for status 3 not running, 4 no data directory.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click

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
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
timeout_option = click.option(
    "--timeout",
    type=Seconds(),
    default=60.0,
    show_default=True,
    help="How long to wait.",
)
log_option = click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where the server's output goes; default: server.log in PATH.",
)
mode_option = click.option(
    "--mode",
    type=click.Choice(["fast", "smart", "immediate"]),
    default="fast",
    show_default=True,
    help="End connections, wait for clients to leave, or stop without a checkpoint.",
)


@click.group(short_help="Make, start, stop and configure a PostgreSQL data directory.")
@click.option("--bindir", metavar="FOLDER", help="Where PostgreSQL's programs are.")
@click.option("--run-as", metavar="ACCOUNT", help="The server's account, when run by root.")
@click.pass_context
def cluster(context: click.Context, bindir: str | None, run_as: str | None) -> None:
    """Make, start, stop and configure the PostgreSQL server of a data directory.

    The installation is found by itself: for an existing data directory, one of its version.
    """
    context.obj = lambda path: _open(path, bindir=bindir, run_as=run_as)


@cluster.command()
@path_argument
@click.option("--user", metavar="NAME", help="The superuser; default: the server's account.")
@click.option(
    "--password-file",
    type=click.File("r"),
    metavar="FILE",
    help="A file whose first line is the superuser's password (- is standard input).",
)
@click.option("--encoding", default="UTF8", show_default=True, help="The encoding of databases.")
@click.option("--locale", default="C", show_default=True, help="The locale of databases.")
@click.option("--auth", metavar="METHOD", help="Another method than peer, or scram-sha-256.")
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
    """Make the data directory PATH.

    With a password every connection needs it. Without one only this account and the server's
    can connect, over the socket. TCP is off until listen_addresses is set.
    """
    password = password_file.readline().rstrip("\r\n") if password_file is not None else None
    if password == "":
        raise CopydError("the password file's first line is empty")
    made = opened(path)
    made.init(user=user, password=password, encoding=encoding, locale=locale, auth=auth)
    say(f"data directory {path} made for {made.installation.version}")


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
        raise CopydError(f"a server runs in {path} already (PID: {pid})")
    _start(stopped, log, timeout)


@cluster.command()
@path_argument
@mode_option
@timeout_option
@click.pass_obj
def stop(opened: Opener, path: Path, mode: str, timeout: float) -> None:
    """Stop the server of PATH and wait for its end."""
    _stop(_running(opened, path), mode, timeout)
    say("server stopped")


@cluster.command()
@path_argument
@mode_option
@log_option
@timeout_option
@click.pass_obj
def restart(opened: Opener, path: Path, mode: str, log: Path | None, timeout: float) -> None:
    """Stop the server of PATH, if it runs, and start it."""
    found = _existing(opened, path)
    if found.running():
        _stop(found, mode, timeout)
        say("server stopped")
    _start(found, log, timeout)


@cluster.command()
@path_argument
@click.pass_obj
def reload(opened: Opener, path: Path) -> None:
    """Have the server of PATH read its configuration files again."""
    _running(opened, path).reload()
    say("server signaled")


@cluster.command()
@path_argument
@json_option
@click.pass_obj
def status(opened: Opener, path: Path, as_json: bool) -> int:
    """Say whether a server runs in PATH; exit code 0, 3 (not running) or 4 (no data directory)."""
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
@click.option("--unset", multiple=True, metavar="NAME", help="Take a setting out of the file.")
@json_option
@click.pass_obj
def settings(
    opened: Opener,
    path: Path,
    words: tuple[str, ...],
    unset: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show or change the settings of PATH.

    Without a name: all that are set. Includes and what ALTER SYSTEM wrote count when reading;
    postgresql.conf is what is written. A running server takes changes on reload or restart.
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
    for name, shown_value in shown.items():
        is_set = shown_value is not None
        say(f"{name} = {shown_value}" if is_set else f"{name} is not set")


@cluster.command()
@path_argument
@click.confirmation_option(prompt="Stop the server and remove all its data?")
@click.pass_obj
def drop(opened: Opener, path: Path) -> None:
    """Stop the server of PATH and remove the data directory with all its data."""
    _existing(opened, path).drop()
    say(f"data directory {path} removed")


def _open(path: Path, *, bindir: str | None, run_as: str | None) -> Cluster:
    """Return the cluster at `path`, whose server outlives this command."""
    from copyd.cluster import Cluster, Installation

    installation = Installation.at(bindir) if bindir is not None else _installation_for(path)
    return Cluster(installation, path, run_as=run_as, on_parent_exit="leave")


def _installation_for(path: Path) -> Installation:
    """Find an installation that can run the data directory at `path`.

    Where there is none of its version, one without programs: enough to look and to stop.
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
        raise CopydError(f"directory {path} is not a data directory; copyd cluster init makes one")
    return found


def _running(opened: Opener, path: Path) -> Cluster:
    found = _existing(opened, path)
    if not found.running():
        raise CopydError(f"no server runs in {path}")
    return found


def _start(stopped: Cluster, log: Path | None, timeout: float) -> None:
    path = log if log is not None else stopped.data_directory / "server.log"
    opener = _appending if log is not None else _inside(stopped)
    with open(path, "ab", opener=opener) as file:
        stopped.start(logfile=file)
        stopped.wait_until_started(timeout)
    say(f"server started (PID: {stopped.pid()}), connect with: psql '{stopped.conninfo()}'")


def _appending(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _inside(cluster: Cluster) -> Callable[[str, int], int]:
    """Return an opener for a log in the data directory, where root trusts no name.

    The server's account owns that folder and could have put a link to anybody's file there.
    """

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
            raise CopydError(f"{path} is not a file of {cluster.account.name} alone; choose --log")
        return descriptor

    return opened


def _stop(running: Cluster, mode: str, timeout: float) -> None:
    {"fast": running.shutdown, "smart": running.stop, "immediate": running.quit}[mode]()
    running.wait_until_stopped(timeout)
