"""One inbox, one loop, all that changes: begins runs when they are due, obeys, and ends in order.

Whatever may wait (a run, a cluster, a file) has a thread of its own and reports to the inbox. The
loop waits for nothing else, so its heartbeat says that the daemon lives.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import psycopg

from copyd import events
from copyd.daemon import admission, reload, schedule
from copyd.daemon.messages import (
    Halt,
    Landed,
    Loaded,
    News,
    Pause,
    Recalled,
    Released,
    Reload,
    Told,
    Trigger,
)
from copyd.daemon.run_thread import Flight
from copyd.daemon.systemd import MICRO
from copyd.daemon.task import Task, Wish
from copyd.errors import CopydError
from copyd.status import ReloadStatus, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from copyd.config import Config
    from copyd.daemon.environment import Surroundings
    from copyd.daemon.messages import Answer, Message
    from copyd.daemon.schedule import Moment
    from copyd.status import TransferStatus

BEAT = 5.0
"""Seconds after which the loop goes round at the latest."""
CLUSTER_PATIENCE = 60.0
"""Seconds that a run waits for destinations whose cluster is not up; its source's it waits out."""
CUT_WITHIN = 10.0
"""Seconds that runs get to notice that they were cut off."""
NOW_WITHIN = 2.0
"""The same, and what clusters get to stop, where the daemon is to end at once."""
CLUSTERS_WITHIN = 60.0
"""Seconds that managed clusters get to stop."""
MOST_MESSAGES = 1000
"""Messages between two looks at the clock."""


class Phase(Enum):
    """What the daemon is doing; the value is what its status calls it."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "stopping: runs may end"
    CUTTING = "stopping: runs are cut off"
    RELEASING = "stopping: clusters are stopped or left"
    OVER = "stopping: all is done"


MOVES = {
    Phase.STARTING: frozenset({Phase.READY}),
    Phase.READY: frozenset({Phase.DRAINING}),
    Phase.DRAINING: frozenset({Phase.CUTTING, Phase.RELEASING}),
    Phase.CUTTING: frozenset({Phase.RELEASING}),
    Phase.RELEASING: frozenset({Phase.OVER}),
    Phase.OVER: frozenset[Phase](),
}
"""From where to where; anything else is a defect."""


class Supervisor:
    """Carries out a configuration until it is told to end.

    `post` and `status` may be called from any thread, all else belongs to the one of `run`.
    """

    def __init__(self, config: Config, surroundings: Surroundings) -> None:
        self._config = config
        self._around = surroundings
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._keepers = surroundings.keepers(lambda event: self.post(Told(event)))
        self._moment = surroundings.clock()
        self._phase = Phase.STARTING
        self._until = 0.0  # ticks: when the phase ends at the latest
        self._code = 0
        self._tasks: dict[str, Task] = {}
        self._flights: dict[str, Flight] = {}
        self._loading: list[Reload] = []  # the first is being carried out
        self._reloaded = ReloadStatus(is_successful=True, succeeded_at=self._moment.wall)
        self._started_at = self._moment.wall
        self._told = ""
        for name in config.transfers:
            self._tasks[name] = self._new_task(name)
        self._status = self._made_status()

    def post(self, message: Message) -> None:
        """Put a message into the inbox; never waits."""
        self._inbox.put(message)

    def status(self) -> Status:
        """Return what was last published."""
        return self._status

    def run(self) -> int:
        """Work until a Halt has been obeyed; return the exit code."""
        self._begin()
        while self._phase is not Phase.OVER:
            self._turn(self._receive(self._patience()))
        return self._code

    # -- the loop ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Become ready; nothing was connected to until then."""
        paused = self._around.pauses.read()
        for task in self._tasks.values():
            task.is_paused = task.name in paused
        self._around.take(self._config)
        self._keepers.apply(self._config.clusters)
        self._move(Phase.READY)
        ready = events.DaemonReady(len(self._tasks), len(self._config.clusters))
        self._around.observe(ready)
        self._publish()
        self._around.notifier.tell(READY=1)
        self._recall()

    def _recall(self) -> None:
        """Ask the ledgers for what the history does not know, each server in a thread of its own."""
        unknown: dict[str, list[str]] = {}
        for task in self._tasks.values():
            for end in task.ends.values():
                if end.last_verdict is None:
                    unknown.setdefault(end.name, []).append(task.name)
        for server, transfers in unknown.items():
            thread = threading.Thread(
                target=self._ask_ledgers, args=(server, tuple(transfers)), daemon=True
            )
            thread.start()

    def _ask_ledgers(self, server: str, transfers: tuple[str, ...]) -> None:
        successes: Mapping[str, float] = {}
        with suppress(CopydError, psycopg.Error):  # its next run says what is wrong there
            successes = self._around.recall(self._config, server, transfers)
        self.post(Recalled(server, successes))

    def _recalled(self, recalled: Recalled) -> None:
        for name, moment in recalled.successes.items():
            task = self._tasks.get(name)
            end = task.ends.get(recalled.server) if task is not None else None
            if end is not None and end.last_success is None:
                end.last_success = moment

    def _turn(self, messages: Sequence[Message]) -> None:
        self._moment, before = self._around.clock(), self._moment
        for message in messages:
            self._handle(message)
        self._look_at_clock(before)
        self._start_runs()
        self._go_on_ending()
        self._publish()

    def _receive(self, patience: float) -> list[Message]:
        """Wait for messages, not for ever; return those that are there."""
        found: list[Message] = []
        with suppress(Empty):
            found.append(self._inbox.get(timeout=patience))
            while len(found) < MOST_MESSAGES:
                found.append(self._inbox.get_nowait())
        return found

    def _patience(self) -> float:
        """Return how long nothing has to be done, as far as is known."""
        moment = self._moment
        waits = [BEAT]
        if self._around.notifier.watchdog is not None:
            waits.append(self._around.notifier.watchdog / 3)
        if self._phase in {Phase.DRAINING, Phase.CUTTING}:
            waits.append(self._until - moment.ticks)
        for task in self._tasks.values():
            if task.due is not None:
                waits.append(task.due.seconds_from(moment))
            if task.obstacle is not None:
                waits += self._obstacle_ends(task)
        return max(min(waits), 0.0)

    def _handle(self, message: Message) -> None:
        match message:
            case Landed():
                self._land(message)
            case News():
                self._note(message)
            case Told():
                self._around.observe(message.event)
            case Loaded():
                self._loaded(message)
            case Recalled():
                self._recalled(message)
            case Released():
                self._released(message)

            case _:
                self._obey(message)

    def _obey(self, order: Trigger | Pause | Reload | Halt) -> None:
        match order:
            case Trigger():
                order.reply(self._trigger(order))
            case Pause():
                order.reply(self._pause(order))
            case Reload():
                self._reload(order)
            case Halt():
                self._halt(order)

    def _move(self, phase: Phase) -> None:
        """Go on to `phase`.

        Raises RuntimeError for a move that is not in the table.
        """
        if phase not in MOVES[self._phase]:
            raise RuntimeError(f"the daemon cannot go from {self._phase.name} to {phase.name}")
        self._phase = phase

    # -- when runs are due ------------------------------------------------------------------------

    def _new_task(self, name: str) -> Task:
        task = Task.of(name, self._config.transfers[name])
        remembered = self._around.remembered
        for end in task.ends.values():
            known = remembered.destinations.get((name, end.name))
            if known is not None:
                end.remember(known)
        task.last_started = remembered.last_started.get(name)
        self._plan(task)
        return task

    def _plan(self, task: Task) -> None:
        """Find out when a task is due that is new, or has a new schedule."""
        task.due = schedule.first(
            task.schedule, self._moment, last_started=task.last_started, dice=self._around.dice
        )

    def _look_at_clock(self, before: Moment) -> None:
        moment = self._moment
        if schedule.is_set_back(before, moment):
            for task in self._tasks.values():
                if task.schedule.cron is not None:
                    task.due = schedule.first(
                        task.schedule, moment, last_started=None, dice=self._around.dice
                    )
        for task in self._tasks.values():
            if task.due is not None and task.due.seconds_from(moment) <= 0:
                self._fall_due(task, task.due)

    def _fall_due(self, task: Task, due: schedule.Due) -> None:
        reason = self._why_missed(task, due)
        if reason is not None:
            self._around.observe(events.RunMissed(task.name, reason))
        elif task.wish is None and not (task.is_paused and task.schedule.catch_up == "skip"):
            task.wish = Wish(since=self._moment.ticks)
        task.due = schedule.following(task.schedule, due, self._moment, self._around.dice)

    def _why_missed(self, task: Task, due: schedule.Due) -> str | None:
        """Return why a run that is due now does not take place; None where it will."""
        if task.is_paused:
            return None  # somebody wants it so
        if schedule.is_missed(task.schedule, due, self._moment):
            return f"it was noticed {-due.seconds_from(self._moment):.0f} s too late"
        if task.wish is not None:
            waits = task.obstacle or task.queue or "the one that goes on to end"
            return f"the run before it has not begun yet, it waits for this: {waits}"
        if task.name in self._flights and task.schedule.catch_up == "skip":
            return "the run before it is still under way"
        return None

    # -- runs -------------------------------------------------------------------------------------

    def _start_runs(self) -> None:
        """Begin as many of those that are due as may begin."""
        if self._phase is not Phase.READY:
            return
        waiting: list[admission.Waiting] = []
        chosen: dict[str, tuple[str, ...]] = {}
        for task in self._tasks.values():
            if task.wish is None or not task.is_ready or task.name in self._flights:
                continue
            chosen[task.name] = task.chosen(self._moment.ticks)
            task.obstacle = self._obstacle(task, chosen[task.name])
            if task.obstacle is None:
                needs = admission.needs(task.section.source, chosen[task.name])
                waiting.append(admission.Waiting(task.name, task.wish.since, needs))
        choice = admission.choose(
            waiting,
            [flight.needs for flight in self._flights.values()],
            workers=self._config.daemon.workers,
            limits=self._limits(),
        )
        for name, reason in choice.reasons.items():
            self._tasks[name].queue = reason
        for name in choice.starting:
            self._take_off(self._tasks[name], chosen[name])

    def _limits(self) -> admission.Connections:
        return {
            name: server.max_connections
            for name, server in self._config.servers.items()
            if server.max_connections is not None
        }

    def _obstacle(self, task: Task, chosen: Sequence[str]) -> str | None:
        """Return what keeps a task that is due from its turn."""
        if not chosen:
            return "all its destinations have failed too often and are left alone for a while"
        source = self._cluster_of(task.section.source)
        if source is not None and not self._keepers.is_up(source):
            return f"cluster {source}, which holds its source, is not up"
        since = task.wish.since if task.wish is not None else self._moment.ticks
        if self._moment.ticks - since < CLUSTER_PATIENCE:
            for name in chosen:
                cluster = self._cluster_of(name)
                if cluster is not None and not self._keepers.is_up(cluster):
                    return f"cluster {cluster}, which holds destination {name}, is not up"
        return None

    def _obstacle_ends(self, task: Task) -> list[float]:
        """Return in how many seconds an obstacle may be gone without a message about it."""
        ticks = self._moment.ticks
        attempt = task.next_attempt(ticks)
        ends = [] if attempt is None else [attempt - ticks]
        if task.wish is not None and ticks - task.wish.since < CLUSTER_PATIENCE:
            ends.append(task.wish.since + CLUSTER_PATIENCE - ticks)
        return ends

    def _cluster_of(self, server: str) -> str | None:
        section = self._config.servers.get(server)
        return None if section is None else section.cluster

    def _take_off(self, task: Task, chosen: tuple[str, ...]) -> None:
        clusters = {self._cluster_of(name) for name in (task.section.source, *chosen)}
        loans = [self._keepers.borrow(name) for name in sorted(filter(None, clusters))]
        flight = Flight(
            transfer=task.name,
            destinations=chosen,
            needs=admission.needs(task.section.source, chosen),
            is_full=task.wish is not None and task.wish.is_full,
            build=partial(self._around.build, self._config, task.name, chosen),
            give_back=tuple(loan for loan in loans if loan is not None),
        )
        task.begin(self._moment)
        self._flights[task.name] = flight
        flight.take_off(self._around.watch, self.post)

    def _note(self, news: News) -> None:
        """Take what a run in flight says."""
        task = self._tasks.get(news.flight.transfer)
        if task is None:
            return  # removed meanwhile
        if isinstance(news.event, events.RunStarted):
            task.run = news.event.run
        elif news.event.verdict == "succeeded" and news.event.destination in task.ends:
            self._succeed(task, news.event)

    def _succeed(self, task: Task, ended: events.DestinationEnded) -> None:
        if task.ends[ended.destination].succeed(self._moment, ended.data_timestamp):
            self._around.observe(events.DestinationBack(task.name, ended.destination))

    def _land(self, landed: Landed) -> None:
        flight = landed.flight
        if self._flights.get(flight.transfer) is flight:
            del self._flights[flight.transfer]
        task = self._tasks.get(flight.transfer)
        if task is None:
            return
        task.end(landed.report, landed.cause, flight.destinations, self._moment)
        for outcome in landed.report.outcomes if landed.report is not None else ():
            end = task.ends.get(outcome.destination)
            if end is None or outcome.verdict.value == "succeeded":
                continue
            end.fail(outcome, task.section, self._moment, self._around.dice)
            if end.circuit.until is not None and end.circuit.until > self._moment.ticks:
                wait = end.circuit.until - self._moment.ticks
                out = events.DestinationOut(
                    task.name, end.name, end.failures, self._moment.wall + wait
                )
                self._around.observe(out)

    # -- commands ---------------------------------------------------------------------------------

    def _trigger(self, asked: Trigger) -> Answer:
        task = self._tasks.get(asked.transfer)
        if task is None:
            return _unknown(asked.transfer)
        if self._phase is not Phase.READY:
            return {"error": "the daemon is stopping"}
        for name in asked.destinations:
            if name not in task.ends:
                known = ", ".join(task.ends)
                return {"error": f"transfer {task.name} has no destination {name}: it has {known}"}
        if task.wish is not None and task.wish.is_asked:
            return {"error": f"transfer {task.name} was triggered already and has not begun yet"}
        since = self._moment.ticks if task.wish is None else task.wish.since
        task.wish = Wish(since, asked.destinations, is_full=asked.is_full, is_asked=True)
        return {"transfer": task.name, "is_running": task.name in self._flights}

    def _pause(self, asked: Pause) -> Answer:
        task = self._tasks.get(asked.transfer)
        if task is None:
            return _unknown(asked.transfer)
        task.is_paused = asked.is_paused
        paused = [each.name for each in self._tasks.values() if each.is_paused]
        answer = {"transfer": task.name, "is_running": task.name in self._flights}
        try:
            self._around.pauses.write(paused)
        except CopydError as error:
            return {**answer, "warning": f"this is forgotten when the daemon ends: {error}"}
        return answer

    # -- reloading --------------------------------------------------------------------------------

    def _reload(self, asked: Reload) -> None:
        if self._phase is not Phase.READY:
            asked.reply({"error": "the daemon is stopping"})
            return
        self._loading.append(asked)
        if len(self._loading) == 1:
            self._load_next()

    def _load_next(self) -> None:
        asked = self._loading[0]
        if not asked.is_dry:
            ticks = round(self._moment.ticks * MICRO)
            self._around.notifier.tell(RELOADING=1, MONOTONIC_USEC=ticks)
        thread = threading.Thread(target=self._load, args=(asked,), name="copyd load", daemon=True)
        thread.start()

    def _load(self, asked: Reload) -> None:
        """Read the file, in a thread of its own: its disk may be slow."""
        try:
            self.post(Loaded(self._around.load(), (), asked))
        except CopydError as error:
            problems: tuple[str, ...] = getattr(error, "problems", (str(error),))
            self.post(Loaded(None, problems, asked))
        except Exception as error:  # noqa: BLE001 - the boundary of a reload: the old configuration holds
            problem = f"a defect of copyd: {type(error).__name__}"
            self.post(Loaded(None, (problem,), asked))

    def _loaded(self, loaded: Loaded) -> None:
        asked = loaded.asked
        if loaded.config is None:
            asked.reply({"problems": list(loaded.problems)})
        else:
            plan = reload.diff(self._config, loaded.config)
            if not asked.is_dry:
                self._apply(loaded.config, plan)
            asked.reply({"changes": list(plan.sentences)})
        if not asked.is_dry:
            self._tell_reloaded(loaded)
        self._loading.pop(0)
        if self._loading and self._phase is Phase.READY:
            self._load_next()

    def _tell_reloaded(self, loaded: Loaded) -> None:
        if loaded.config is None:
            self._around.observe(events.ConfigRefused(loaded.problems))
            self._reloaded = replace(self._reloaded, is_successful=False, problems=loaded.problems)
        else:
            self._reloaded = ReloadStatus(is_successful=True, succeeded_at=self._moment.wall)
        self._around.notifier.tell(READY=1)

    def _apply(self, wanted: Config, plan: reload.Plan) -> None:
        """Have `wanted` hold from now on; runs in flight go on with what they began with."""
        self._config = reload.effective(self._config, wanted)
        self._around.take(self._config)
        self._keepers.apply(self._config.clusters)
        tasks: dict[str, Task] = {}
        for name, section in self._config.transfers.items():
            task = self._tasks.get(name)
            if task is None:
                task = self._new_task(name)
            elif task.change(section):
                self._plan(task)
            tasks[name] = task
        self._tasks = tasks
        self._around.observe(events.ConfigReloaded(plan.sentences))

    # -- the end ----------------------------------------------------------------------------------

    def _halt(self, asked: Halt) -> None:
        if self._phase is Phase.READY:
            self._around.notifier.tell(STOPPING=1)
            self._around.observe(events.DaemonStopping(asked.reason))
            for task in self._tasks.values():
                task.wish = None
            self._move(Phase.DRAINING)
            self._until = self._moment.ticks + self._config.daemon.shutdown_grace
            return
        self._code = asked.code
        if self._phase is Phase.RELEASING:
            self._move(Phase.OVER)
        elif self._phase is Phase.DRAINING:
            self._move(Phase.CUTTING)
        self._cut_runs("the daemon is to end at once")
        self._until = self._moment.ticks + NOW_WITHIN

    def _go_on_ending(self) -> None:
        """Take the next step towards the end, once there is nothing more to wait for."""
        is_late = self._moment.ticks >= self._until
        if self._phase is Phase.DRAINING and self._flights and is_late:
            self._move(Phase.CUTTING)
            self._until = self._moment.ticks + CUT_WITHIN
            self._cut_runs("the daemon is stopping, and its shutdown_grace is over")
        elif self._phase in {Phase.DRAINING, Phase.CUTTING} and (is_late or not self._flights):
            self._move(Phase.RELEASING)
            within = CLUSTERS_WITHIN if not self._code else NOW_WITHIN
            threading.Thread(
                target=self._release, args=(within,), name="copyd release", daemon=True
            ).start()

    def _cut_runs(self, reason: str) -> None:
        for flight in self._flights.values():
            flight.stop.ask(reason)

    def _release(self, within: float) -> None:
        """Stop or leave the clusters, in a thread of its own: it takes its time."""
        self.post(Released(self._keepers.stop_all(within)))

    def _released(self, released: Released) -> None:
        for name in released.unfinished:
            cause = "it did not stop in time, and is left"
            self._around.observe(events.ClusterDown(name, cause, None))
        if self._phase is Phase.RELEASING:
            self._move(Phase.OVER)

    # -- what is told -----------------------------------------------------------------------------

    def _publish(self) -> None:
        self._status = self._made_status()
        if self._around.notifier.address is None:
            return
        facts: dict[str, str | int] = {"WATCHDOG": 1}
        if self._phase not in {Phase.STARTING, Phase.READY}:
            facts["EXTEND_TIMEOUT_USEC"] = round(3 * BEAT * MICRO)
        sentence = self._sentence()
        if sentence != self._told:
            self._told = facts["STATUS"] = sentence
        self._around.notifier.tell(**facts)

    def _sentence(self) -> str:
        running = len(self._flights)
        if self._phase is Phase.READY:
            return f"{running} of {len(self._tasks)} transfers are running"
        return f"{self._phase.value} ({running} left)" if running else self._phase.value

    def _made_status(self) -> Status:
        return Status(
            state=self._phase.value.partition(":")[0],
            started_at=self._started_at,
            beat=self._moment.ticks,
            workers=self._config.daemon.workers,
            running=len(self._flights),
            clusters=self._keepers.status(),
            transfers=tuple(map(self._status_of, self._tasks.values())),
            reload=self._reloaded,
        )

    def _status_of(self, task: Task) -> TransferStatus:
        return task.status(self._moment, is_running=task.name in self._flights)


def _unknown(transfer: str) -> Answer:
    return {"error": f"there is no transfer {transfer} in the daemon's configuration"}
