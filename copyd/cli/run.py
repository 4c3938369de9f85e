"""``copyd run``: builds the daemon and runs it in the foreground."""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from copyd.cli.assembly import build, build_server, config_option, open_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from copyd.config import Config
    from copyd.daemon import ControlRequests, Environment, Remembered, Supervisor
    from copyd.events import Event, Observer
    from copyd.observe import Failures, History, Live, Log, Metrics
    from copyd.status import Status

HISTORY = "history.sqlite3"
MOST_RUNS = 10_000


@click.command(short_help="Run the daemon: transfers on schedule, managed clusters.")
@config_option
def run(path: Path) -> int:
    """Run all transfers of a configuration file on their schedules, until a signal.

    Runs in the foreground and writes its log to standard error. SIGTERM or SIGINT: starts no more
    runs, gives current runs shutdown_grace, stops the clusters; a second one ends it at once.
    SIGHUP: reloads the file; a file with errors changes nothing.

    Exit codes: 0 stopped by a signal, 1 could not start (for example, another daemon uses the state
    directory), 2 wrong usage, 78 bad configuration, or a folder that other users can write to, 130
    and 143 ended at once by a second SIGINT or SIGTERM.
    """
    from copyd.daemon import limit_arenas, locked

    limit_arenas()  # Decision: Threads share two arenas
    config = open_config(path)
    _prepare_folders(path, config)
    with locked(config.daemon.state_directory), ExitStack() as stack:
        return _carry_out(path, config, stack)


def _prepare_folders(path: Path, config: Config) -> None:
    from copyd.config import ConfigError
    from copyd.daemon import prepare
    from copyd.errors import UnsafeFolderError

    # Root's servers run as another account, which must be able to traverse these folders.
    state_mode, runtime_mode = (0o711, 0o755) if os.geteuid() == 0 else (0o700, 0o750)
    try:
        prepare(config.daemon.state_directory, key="daemon.state_directory", mode=state_mode)
        prepare(config.daemon.runtime_directory, key="daemon.runtime_directory", mode=runtime_mode)
    except UnsafeFolderError as error:
        raise ConfigError(path, [str(error)]) from error


@dataclass(frozen=True, slots=True)
class _Observers:
    """The daemon's observers; an exception in one affects neither a run nor the others."""

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
        """Pass on an event of the daemon; ``live`` observes only runs."""
        from copyd.observe import Fanout

        observers: dict[str, Observer] = {
            name: getattr(self, name) for name in ("metrics", "log", "history")
        }
        Fanout(observers, self.failures)(event)


def _carry_out(path: Path, config: Config, stack: ExitStack) -> int:
    from copyd.control_socket import NAME
    from copyd.daemon import Control, Supervisor, handling
    from copyd.observe import Server, document

    def status() -> Status:
        return supervisor.status()  # the metrics read it, the supervisor's environment has them

    def page() -> dict[str, Any]:
        progress, failures = observers.live.progress(), observers.failures.status()
        return document(supervisor.status(), progress, failures, now=time.monotonic())

    observers = _observers(config, status, stack)
    supervisor = Supervisor(config, _environment(path, config, observers))
    stack.enter_context(handling(supervisor.post))
    if config.http.listen:
        registry = observers.metrics.registry
        server = Server(config.http.listen, registry=registry, status=status, document=page)
        server.start()
        stack.callback(server.close)
    socket = config.daemon.runtime_directory / NAME
    requests = _requests(supervisor, observers.history, page)
    stack.enter_context(Control(socket, requests))
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
    """Set the level of `config`; a reload keeps the format of the `first` configuration."""
    from copyd.observe import logs

    logs.configure(
        level=config.log.level, format=first.log.format, stream=sys.stderr, environ=os.environ
    )


def _environment(path: Path, config: Config, observers: _Observers) -> Environment:
    from copyd.daemon import Environment, Instant, Notifier, Pauses
    from copyd.daemon.keeper import Folders, Keepers

    folders = Folders(config.daemon.state_directory, config.daemon.runtime_directory)

    def configure(current: Config) -> None:
        _configure_log(config, current)
        observers.history.keep = current.daemon.keep_history

    return Environment(
        load=lambda: open_config(path),
        build=build,  # in the run's thread: each run reads the password files again
        observe=observers.observe,
        watch=observers.watch,
        clusters=lambda observe: Keepers(folders, observe),
        notifier=Notifier.take(os.environ),
        pauses=Pauses(config.daemon.state_directory / "paused.json"),
        clock=lambda: Instant(time.monotonic(), time.time()),
        rng=random.random,
        configure=configure,
        recall=_recall,
        remembered=_remember(config, observers.history),
    )


def _recall(config: Config, server: str, transfers: tuple[str, ...]) -> Mapping[str, float]:
    """Return the last successes of `transfers` in the ledgers at `server`."""
    from copyd.transfers.destination import last_successes

    wanted = {name: config.transfers[name].ledger_schema for name in transfers}
    return last_successes(build_server(config, server), wanted)


def _remember(config: Config, history: History) -> Remembered:
    """Return the states that an earlier daemon recorded; nothing if the history is lost."""
    from copyd.daemon import Remembered
    from copyd.errors import CopydError

    started: dict[str, float] = {}
    try:
        for name in config.transfers:
            started |= {run.transfer: run.started for run in history.runs(name, limit=1)}
    except CopydError:
        pass  # the history reports it; transfers without a known run are due at once
    return Remembered(started, history.last_known())


def _requests(
    supervisor: Supervisor, history: History, page: Callable[[], dict[str, Any]]
) -> ControlRequests:
    from copyd.daemon import ControlRequests
    from copyd.observe import history_document

    def runs(request: Mapping[str, Any]) -> dict[str, Any]:
        transfer, limit = request.get("transfer"), request.get("limit")
        number = limit if isinstance(limit, int) and 0 < limit <= MOST_RUNS else 20
        name = transfer if isinstance(transfer, str) else None
        return history_document(history.runs(name, limit=number))

    return ControlRequests(supervisor.post, {"status": lambda _: page(), "history": runs})
