"""``copyd run``: the daemon, in the foreground. Everything that it is made of is put together here."""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from copyd.cli.assembly import build, build_server, config_option, open_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from copyd.config import Config
    from copyd.daemon import ControlRequests, Environment, Instant, Remembered, Supervisor
    from copyd.events import Event, Observer
    from copyd.observe import Failures, History, Live, Log, Metrics
    from copyd.status import Status
    from copyd.transfers import Transfer

HISTORY = "history.sqlite3"
MOST_RUNS = 10_000


@click.command(short_help="Run the daemon: transfers on schedule, managed clusters.")
@config_option
def run(path: Path) -> int:
    """Carry out all transfers of a configuration file on their schedules, until told to end.

    It stays in the foreground and writes its log to standard error. SIGTERM or SIGINT: no new runs,
    those under way get shutdown_grace, clusters are stopped; a second one ends it at once. SIGHUP:
    the file is read again; one with errors changes nothing.

    Exit codes: 0 ended as it was told to, 1 it could not begin (another daemon uses the state
    directory, say), 2 wrong usage, 78 bad configuration, or a folder that others can write to, 130
    and 143 ended at once by a second SIGINT or SIGTERM.
    """
    from copyd.daemon import limit_arenas

    limit_arenas()
    config = open_config(path)
    with _folders(path, config), ExitStack() as stack:
        return _carry_out(path, config, stack)


@contextmanager
def _folders(path: Path, config: Config) -> Iterator[None]:
    """Prepare the daemon's folders and hold its lock; raises CopydError."""
    from copyd.config import ConfigError
    from copyd.daemon import locked, prepare
    from copyd.errors import UnsafeFolderError

    state, runtime = config.daemon.state_directory, config.daemon.runtime_directory
    # Root's servers run as another account, which has to pass through, and cannot look.
    state_mode, runtime_mode = (0o711, 0o755) if os.geteuid() == 0 else (0o700, 0o750)
    try:
        prepare(state, key="daemon.state_directory", mode=state_mode)
        prepare(runtime, key="daemon.runtime_directory", mode=runtime_mode)
    except UnsafeFolderError as error:
        raise ConfigError(path, [str(error)]) from error
    with locked(state):
        yield


@dataclass(frozen=True, slots=True)
class _Observers:
    """The daemon's observers; one that fails hurts neither a run nor another."""

    log: Log
    metrics: Metrics
    history: History
    live: Live
    failures: Failures

    def watch(self, transfer: str) -> Observer:
        """Return the observer of one run."""
        from copyd.observe import OBSERVERS, Fanout

        observers = {name: getattr(self, name).watch(transfer) for name in OBSERVERS}
        return Fanout(observers, self.failures)

    def observe(self, event: Event) -> None:
        """Pass on an event of the daemon itself."""
        from copyd.observe import Fanout

        observers: dict[str, Observer] = {
            "metrics": self.metrics,
            "log": self.log,
            "history": self.history,
        }
        Fanout(observers, self.failures)(event)


def _carry_out(path: Path, config: Config, stack: ExitStack) -> int:
    from copyd.daemon import NAME, Control, Notifier, Supervisor, handling

    notifier = Notifier.take(os.environ)
    supervisors: list[Supervisor] = []

    def status() -> Status:
        return supervisors[0].status()

    observers = _observers(config, status, stack)
    environment = _environment(path, config, observers, notifier)
    supervisor = Supervisor(config, environment)
    supervisors.append(supervisor)
    stack.enter_context(handling(supervisor.post))
    _serve_http(config, supervisor, observers, stack)
    socket = config.daemon.runtime_directory / NAME
    stack.enter_context(Control(socket, _requests(supervisor, observers)))
    return supervisor.run()


def _observers(config: Config, status: Callable[[], Status], stack: ExitStack) -> _Observers:
    from copyd import __version__
    from copyd.observe import OBSERVERS, Failures, History, Live, Log, Metrics

    _configure_log(config, config)
    log = Log()
    failures = Failures(OBSERVERS, log)
    file = config.daemon.state_directory / HISTORY
    history = History(file, config.daemon.keep_history, observe=log)
    stack.callback(history.close)
    metrics = Metrics(
        status,
        version=__version__,
        history_failures=lambda: history.failures,
        observers=failures.status,
    )
    return _Observers(log, metrics, history, Live(), failures)


def _configure_log(first: Config, config: Config) -> None:
    """The level is that of `config`, the format that of the `first` one."""
    from copyd.observe import logs

    logs.configure(
        level=config.log.level, format=first.log.format, stream=sys.stderr, environ=os.environ
    )


def _environment(path: Path, config: Config, observers: _Observers, notifier: Any) -> Environment:
    from copyd.daemon import Environment, Pauses
    from copyd.daemon.keeper import Folders, Keepers

    folders = Folders(config.daemon.state_directory, config.daemon.runtime_directory)

    def configure(held: Config) -> None:
        _configure_log(config, held)
        observers.history.keep_for(held.daemon.keep_history)

    return Environment(
        load=lambda: open_config(path),
        build=_build,
        observe=observers.observe,
        watch=observers.watch,
        clusters=lambda tell: Keepers(folders, tell),
        notifier=notifier,
        pauses=Pauses(config.daemon.state_directory / "paused.json"),
        clock=_now,
        rng=random.random,
        configure=configure,
        recall=_recall,
        remembered=_remember(config, observers.history),
    )


def _build(config: Config, name: str, destinations: tuple[str, ...]) -> Transfer:
    return build(config, name, destinations)


def _recall(config: Config, server: str, transfers: tuple[str, ...]) -> Mapping[str, float]:
    """Ask the ledgers at `server` when each of `transfers` last succeeded there."""
    from copyd.transfers.destination import last_successes

    wanted = {name: config.transfers[name].ledger_schema for name in transfers}
    return last_successes(build_server(config, server), wanted)


def _now() -> Instant:
    from copyd.daemon import Instant

    return Instant(time.monotonic(), time.time())


def _remember(config: Config, history: History) -> Remembered:
    """Take from the history what an earlier daemon knew; nothing where it is lost."""
    from copyd.daemon import Remembered
    from copyd.errors import CopydError

    started: dict[str, float] = {}
    try:
        for name in config.transfers:
            started.update({run.transfer: run.started for run in history.runs(name, limit=1)})
    except CopydError:
        pass  # the history says so itself; what is not known is due at once
    return Remembered(started, history.last_known())


def _serve_http(
    config: Config, supervisor: Supervisor, observers: _Observers, stack: ExitStack
) -> None:
    if not config.http.listen:
        return
    from copyd.observe import Server

    server = Server(
        config.http.listen,
        registry=observers.metrics.registry,
        status=supervisor.status,
        document=lambda: _document(supervisor, observers),
    )
    server.start()
    stack.callback(server.close)


def _document(supervisor: Supervisor, observers: _Observers) -> dict[str, Any]:
    from copyd.observe import document

    progress, failures = observers.live.progress(), observers.failures.status()
    return document(supervisor.status(), progress, failures, now=time.monotonic())


def _requests(supervisor: Supervisor, observers: _Observers) -> ControlRequests:
    from copyd.daemon import ControlRequests
    from copyd.observe import history_document

    def status(request: Mapping[str, Any]) -> dict[str, Any]:
        del request
        return _document(supervisor, observers)

    def history(request: Mapping[str, Any]) -> dict[str, Any]:
        transfer, limit = request.get("transfer"), request.get("limit")
        number = limit if isinstance(limit, int) and 0 < limit <= MOST_RUNS else 20
        name = transfer if isinstance(transfer, str) else None
        return history_document(observers.history.runs(name, limit=number))

    return ControlRequests(supervisor.post, {"status": status, "history": history})
