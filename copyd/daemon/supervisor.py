"""The daemon's loop: an inbox, and a single thread for all changes.

Runs, clusters and files have threads of their own, which post to the inbox. The loop blocks on
nothing else, so its heartbeat proves that the daemon works. The Dispatcher decides which transfers
run; the Reloader replaces the configuration.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import psycopg

from copyd import events
from copyd.daemon.dispatcher import Dispatcher
from copyd.daemon.messages import Halt, Loaded, Pause, Recalled, Released, Reload, Told, Trigger
from copyd.daemon.reloader import Reloader
from copyd.daemon.run_thread import Ended, News
from copyd.daemon.systemd import MICRO
from copyd.errors import CopydError
from copyd.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from copyd.config import Config
    from copyd.daemon.environment import Environment
    from copyd.daemon.messages import Command, Message

BEAT = 5.0  # seconds: the longest wait of the loop
CUT_WITHIN = 10.0  # seconds for runs to end after they were cut off
NOW_WITHIN = 2.0  # seconds for runs and clusters after a second signal
CLUSTERS_WITHIN = 60.0  # seconds for managed clusters to stop
MOST_MESSAGES = 1000  # between two readings of the clock


class Phase(Enum):
    """The phases of the daemon's life; the value is shown in its status."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "stopping: waiting for runs"
    CUTTING = "stopping: cutting runs off"
    RELEASING = "stopping: stopping or leaving clusters"
    OVER = "stopping: done"


MOVES = {
    Phase.STARTING: frozenset({Phase.READY}),
    Phase.READY: frozenset({Phase.DRAINING}),
    Phase.DRAINING: frozenset({Phase.CUTTING, Phase.RELEASING}),
    Phase.CUTTING: frozenset({Phase.RELEASING}),
    Phase.RELEASING: frozenset({Phase.OVER}),
    Phase.OVER: frozenset[Phase](),
}


def moved(phase: Phase, to: Phase) -> Phase:
    """Return the phase `to`; raises RuntimeError for a move missing from the table."""
    if to not in MOVES[phase]:
        raise RuntimeError(f"the daemon cannot go from {phase.name} to {to.name}")
    return to


class Supervisor:
    """Carries out a configuration until a Halt; only `post` and `status` are for any thread."""

    def __init__(self, config: Config, environment: Environment) -> None:
        self._environment = environment
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._now = now = environment.clock()
        self._started_at = now.wall
        self._phase = Phase.STARTING
        self._until = 0.0  # ticks: the latest end of the phase
        self.code = 0
        self._told = ""
        self._clusters = environment.clusters(lambda event: self.post(Told(event)))
        self.dispatcher = Dispatcher(config, environment, self._clusters, post=self.post, now=now)
        self._reloader = Reloader(config, environment, post=self.post, apply=self._apply, now=now)
        self._status = self._made_status()

    @property
    def phase(self) -> Phase:
        return self._phase

    def post(self, message: Message) -> None:
        """Post a message to the inbox; never waits."""
        self._inbox.put(message)

    def status(self) -> Status:
        return self._status

    def run(self) -> int:
        """Work until the end; return the exit code. Raises CopydError before the daemon is ready."""
        self.begin()
        while self._phase is not Phase.OVER:
            self.turn(self.receive(self.patience()))
        return self.code

    # -- the loop ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Become ready; nothing connects to a server before. Raises CopydError."""
        self.dispatcher.restore_pauses()
        config = self._reloader.config
        self._apply(config)
        self._move(Phase.READY)
        self._environment.observe(events.DaemonReady(len(config.transfers), len(config.clusters)))
        self._publish()
        self._environment.notifier.tell(READY=1)
        for server, transfers in self.dispatcher.unknown().items():
            self._environment.spawn(f"recall {server}", partial(self._recall, server, transfers))

    def turn(self, messages: Iterable[Message]) -> None:
        """Handle messages, then start due runs and end phases."""
        self._now = self._environment.clock()
        for message in messages:
            self._handle(message)
        self.dispatcher.fall_due(self._now)
        if self._phase is Phase.READY:
            self.dispatcher.start_pending(self._now)
        self._end_phase()
        self._publish()

    def patience(self) -> float:
        """Return the seconds for which the loop may wait for a message."""
        waits = [BEAT, self.dispatcher.wait(self._now)]
        if self._environment.notifier.watchdog is not None:
            waits.append(self._environment.notifier.watchdog / 3)  # two beats may be late
        if self._phase in {Phase.DRAINING, Phase.CUTTING}:
            waits.append(self._until - self._now.ticks)
        return max(min(waits), 0.0)

    def receive(self, patience: float) -> list[Message]:
        """Return the messages of the inbox; wait so many seconds for the first."""
        found: list[Message] = []
        with suppress(Empty):
            found.append(self._inbox.get(timeout=patience))
            while len(found) < MOST_MESSAGES:
                found.append(self._inbox.get_nowait())
        return found

    def _handle(self, message: Message) -> None:
        match message:
            case Ended():
                self.dispatcher.ended(message, self._now)
            case News():
                self.dispatcher.note(message, self._now)
            case Told():
                self._environment.observe(message.event)
            case Loaded():
                self._reloader.loaded(message, self._now)
            case Recalled():
                self.dispatcher.recalled(message)
            case Released():
                self._released(message)
            case _:
                self._obey(message)

    def _obey(self, command: Command) -> None:
        match command:
            case Trigger() if self._phase is not Phase.READY:
                command.reply({"error": "the daemon is stopping"})
            case Trigger():
                command.reply(self.dispatcher.trigger(command, self._now))
            case Pause():
                command.reply(self.dispatcher.pause(command))
            case Reload():
                self._reloader.request(command, self._now)
            case Halt():
                self._halt(command)

    def _move(self, phase: Phase) -> None:
        self._phase = moved(self._phase, phase)

    def _apply(self, config: Config) -> None:
        self._environment.configure(config)
        self._clusters.apply(config.clusters)
        self.dispatcher.apply(config, self._now)

    def _recall(self, server: str, transfers: tuple[str, ...]) -> None:
        successes: Mapping[str, float] = {}
        with suppress(CopydError, psycopg.Error):  # the next run reports the error
            config = self._reloader.config
            successes = self._environment.recall(config, server, transfers)
        self.post(Recalled(server, successes))

    # -- the end ----------------------------------------------------------------------------------

    def _halt(self, command: Halt) -> None:
        if self._phase is Phase.READY:
            self._environment.notifier.tell(STOPPING=1)
            self._environment.observe(events.DaemonStopping(command.reason))
            self._reloader.close()
            self.dispatcher.drop_pending()
            self._move(Phase.DRAINING)
            self._until = self._now.ticks + self._reloader.config.daemon.shutdown_grace
            return
        self.code = command.code
        if self._phase is Phase.RELEASING:
            self._move(Phase.OVER)
        elif self._phase is Phase.DRAINING:
            self._move(Phase.CUTTING)
        self.dispatcher.stop_runs("the daemon was told to stop at once")
        self._until = self._now.ticks + NOW_WITHIN

    def _end_phase(self) -> None:
        """Move on when the runs have ended, or have had their time."""
        if self._phase not in {Phase.DRAINING, Phase.CUTTING}:
            return
        is_late = self._now.ticks >= self._until
        if self._phase is Phase.DRAINING and self.dispatcher.runs and is_late:
            self._move(Phase.CUTTING)
            self._until = self._now.ticks + CUT_WITHIN
            self.dispatcher.stop_runs("the daemon is stopping and its shutdown_grace is over")
        elif is_late or not self.dispatcher.runs:
            self._move(Phase.RELEASING)
            within = NOW_WITHIN if self.code else CLUSTERS_WITHIN
            # In a thread, because servers take their time to stop.
            # Decision: The loop waits for nothing but its inbox
            stop_all = self._clusters.stop_all
            self._environment.spawn("release", lambda: self.post(Released(stop_all(within))))

    def _released(self, released: Released) -> None:
        for name in released.unfinished:
            cause = "the server did not stop in time and was left running"
            self._environment.observe(events.ClusterDown(name, cause, None))
        if self._phase is Phase.RELEASING:
            self._move(Phase.OVER)

    # -- the status -------------------------------------------------------------------------------

    def _publish(self) -> None:
        self._status = self._made_status()
        if self._environment.notifier.address is None:
            return
        facts: dict[str, str | int] = {"WATCHDOG": 1}
        if self._phase not in {Phase.STARTING, Phase.READY}:
            facts["EXTEND_TIMEOUT_USEC"] = round(3 * BEAT * MICRO)
        sentence = self._sentence()
        if sentence != self._told:
            self._told = facts["STATUS"] = sentence
        self._environment.notifier.tell(**facts)

    def _sentence(self) -> str:
        running = len(self.dispatcher.runs)
        if self._phase is Phase.READY:
            return f"{running} of {len(self._reloader.config.transfers)} transfers are running"
        return f"{self._phase.value} ({running} left)" if running else self._phase.value

    def _made_status(self) -> Status:
        return Status(
            state=self._phase.value.partition(":")[0],
            started_at=self._started_at,
            beat=self._now.ticks,
            workers=self._reloader.config.daemon.workers,
            running=len(self.dispatcher.runs),
            clusters=self._clusters.status(),
            transfers=self.dispatcher.status(self._now),
            reload=self._reloader.status,
        )
