"""Starts due and triggered transfers, and keeps the reasons why the others wait.

Nothing here blocks or reads a clock: the supervisor's loop passes the time in.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from copyd import events
from copyd.daemon import admission
from copyd.daemon.run_thread import RunThread
from copyd.daemon.schedule import is_set_back
from copyd.daemon.task import PendingRun, Task
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from copyd.config import Config
    from copyd.daemon.environment import Environment, ManagedClusters
    from copyd.daemon.messages import Answer, Pause, Post, Recalled, Trigger
    from copyd.daemon.run_thread import Ended, News
    from copyd.daemon.schedule import Instant
    from copyd.daemon.task import TaskDestination
    from copyd.status import TransferStatus

CLUSTER_PATIENCE = 60.0
"""Seconds that a run waits for its destinations' clusters; for its source's there is no limit."""


class Dispatcher:
    """The tasks of a configuration, and the current ``runs``; belongs to the supervisor's loop."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        clusters: ManagedClusters,
        *,
        post: Post,
        now: Instant,
    ) -> None:
        self._config = config
        self._environment = environment
        self._clusters = clusters
        self._post = post
        self._ticked = now
        self.runs: dict[str, RunThread] = {}
        self._tasks = {name: self._new_task(name, now) for name in config.transfers}

    def status(self, now: Instant) -> tuple[TransferStatus, ...]:
        return tuple(
            task.status(now, is_running=task.name in self.runs) for task in self._tasks.values()
        )

    def restore_pauses(self) -> None:
        """Pause the transfers that an earlier daemon had paused; raises CopydError."""
        paused = self._environment.pauses.read()
        for task in self._tasks.values():
            task.is_paused = task.name in paused

    def apply(self, config: Config, now: Instant) -> None:
        """Change to another configuration; current runs keep theirs."""
        self._config = config
        tasks: dict[str, Task] = {}
        for name, section in config.transfers.items():
            task = self._tasks.get(name)
            if task is None:
                task = self._new_task(name, now)
            elif task.change(section):
                task.plan(now, self._environment.rng)
            tasks[name] = task
        self._tasks = tasks

    def _new_task(self, name: str, now: Instant) -> Task:
        task = Task.of(name, self._config.transfers[name], self._environment.remembered)
        task.plan(now, self._environment.rng)
        return task

    # -- what the history does not know, the ledgers may know -------------------------------------

    def unknown(self) -> Mapping[str, tuple[str, ...]]:
        """Return, by server, the transfers without a verdict there in the history."""
        found: dict[str, tuple[str, ...]] = {}
        for task in self._tasks.values():
            for each in task.destinations.values():
                if each.last_verdict is None:
                    found[each.name] = (*found.get(each.name, ()), task.name)
        return found

    def recalled(self, recalled: Recalled) -> None:
        # Decision: A time of success comes from the ledgers, an age of data does not
        for name, success in recalled.successes.items():
            destination = self._destination(name, recalled.server)
            if destination is not None and destination.last_success is None:
                destination.last_success = success

    # -- runs -------------------------------------------------------------------------------------

    def fall_due(self, now: Instant) -> None:
        """Make due runs pending, and report missed ones."""
        ticked, self._ticked = self._ticked, now
        rng = self._environment.rng
        if is_set_back(ticked, now):
            for task in self._tasks.values():
                task.set_back(now, rng)
        for task in self._tasks.values():
            missed = task.fall_due(now, rng, is_running=task.name in self.runs)
            if missed is not None:
                self._environment.observe(events.RunMissed(task.name, missed))

    def start_pending(self, now: Instant) -> None:
        """Start pending runs within the limits; the others get a reason to wait."""
        waiting: list[admission.Waiting] = []
        chosen: dict[str, tuple[str, ...]] = {}
        for task in self._tasks.values():
            if task.pending is None or not task.is_ready or task.name in self.runs:
                continue
            chosen[task.name] = task.chosen(now.ticks)
            task.obstacle = self._obstacle(task, task.pending, chosen[task.name], now)
            if task.obstacle is None:
                needs = admission.needs(task.section.source, chosen[task.name])
                waiting.append(admission.Waiting(task.name, task.pending.since, needs))
        choice = admission.choose(
            waiting,
            [run.needs for run in self.runs.values()],
            workers=self._config.daemon.workers,
            limits={
                name: server.max_connections
                for name, server in self._config.servers.items()
                if server.max_connections is not None
            },
        )
        for name, reason in choice.reasons.items():
            self._tasks[name].queue = reason
        for name in choice.starting:
            self._start(self._tasks[name], chosen[name], now)

    def wait(self, now: Instant) -> float:
        """Return the seconds until something changes without a message."""
        return min(self._waits(now), default=float("inf"))

    def drop_pending(self) -> None:
        """Forget the pending runs: the daemon is stopping."""
        for task in self._tasks.values():
            task.pending = None

    def stop_runs(self, reason: str) -> None:
        for run in self.runs.values():
            run.stop.ask(reason)

    def note(self, news: News, now: Instant) -> None:
        name, event = news.run.transfer, news.event
        if isinstance(event, events.RunStarted):
            if name in self._tasks:  # a reload may have removed it
                self._tasks[name].run = event.run
        elif event.verdict == "succeeded":
            destination = self._destination(name, event.destination)
            if destination is not None and destination.succeeded(now, event.data_timestamp):
                self._environment.observe(events.DestinationBack(name, destination.name))

    def ended(self, ended: Ended, now: Instant) -> None:
        """Note the end of a run, and count its destinations' failures."""
        run = ended.run
        if self.runs.get(run.transfer) is run:
            del self.runs[run.transfer]
        task = self._tasks.get(run.transfer)
        if task is None:
            return
        task.ended(ended.report, ended.cause, run.destinations, now)
        for outcome in ended.report.outcomes if ended.report is not None else ():
            destination = task.destinations.get(outcome.destination)
            if destination is None or outcome.verdict.value == "succeeded":
                continue
            destination.failed(outcome, task.section, now, self._environment.rng)
            until, failures = destination.next_attempt(now), destination.failures
            if until is not None:
                out = events.DestinationOut(task.name, destination.name, failures, until)
                self._environment.observe(out)

    def _start(self, task: Task, chosen: tuple[str, ...], now: Instant) -> None:
        clusters = {self._cluster_of(name) for name in (task.section.source, *chosen)}
        borrowed = [self._clusters.borrow(name) for name in sorted(filter(None, clusters))]
        run = RunThread(
            transfer=task.name,
            destinations=chosen,
            needs=admission.needs(task.section.source, chosen),
            is_full=task.pending is not None and task.pending.is_full,
            build=partial(self._environment.build, self._config, task.name, chosen),
            give_back=tuple(each for each in borrowed if each is not None),
        )
        task.started(now)
        self.runs[task.name] = run
        run.start(self._environment.watch, self._post, self._environment.spawn)

    def _obstacle(
        self, task: Task, pending: PendingRun, chosen: Sequence[str], now: Instant
    ) -> str | None:
        if not chosen:
            return "all its destinations have failed too often and are skipped for a while"
        source = self._cluster_of(task.section.source)
        if source is not None and not self._clusters.is_up(source):
            return f"cluster {source}, which holds its source, is not up"
        # Past the patience the run starts, and feeds the destinations that are up.
        if now.ticks - pending.since < CLUSTER_PATIENCE:
            for name in chosen:
                cluster = self._cluster_of(name)
                if cluster is not None and not self._clusters.is_up(cluster):
                    return f"cluster {cluster}, which holds destination {name}, is not up"
        return None

    def _waits(self, now: Instant) -> Iterator[float]:
        for task in self._tasks.values():
            if task.due is not None:
                yield task.due.seconds_from(now)
            if task.obstacle is None:
                continue
            attempt = task.next_attempt(now.ticks)
            if attempt is not None:
                yield attempt - now.ticks
            if task.pending is not None and now.ticks - task.pending.since < CLUSTER_PATIENCE:
                yield task.pending.since + CLUSTER_PATIENCE - now.ticks

    def _cluster_of(self, server: str) -> str | None:
        section = self._config.servers.get(server)
        return None if section is None else section.cluster

    def _destination(self, transfer: str, name: str) -> TaskDestination | None:
        task = self._tasks.get(transfer)
        return None if task is None else task.destinations.get(name)

    # -- commands ---------------------------------------------------------------------------------

    def trigger(self, request: Trigger, now: Instant) -> Answer:
        """Make a run pending, regardless of pauses and breakers."""
        task = self._tasks.get(request.transfer)
        if task is None:
            return _unknown(request.transfer)
        for name in request.destinations:
            if name not in task.destinations:
                known = ", ".join(task.destinations)
                return {"error": f"transfer {task.name} has no destination {name}: it has {known}"}
        if task.pending is not None and task.pending.is_triggered:
            return {"error": f"transfer {task.name} was already triggered and has not started yet"}
        since = now.ticks if task.pending is None else task.pending.since
        task.pending = PendingRun(
            since, request.destinations, is_full=request.is_full, is_triggered=True
        )
        return {"transfer": task.name, "is_running": task.name in self.runs}

    def pause(self, request: Pause) -> Answer:
        """Pause a transfer or resume it, also beyond a restart."""
        task = self._tasks.get(request.transfer)
        if task is None:
            return _unknown(request.transfer)
        task.is_paused = request.is_paused
        answer = {"transfer": task.name, "is_running": task.name in self.runs}
        try:
            self._environment.pauses.write(
                each.name for each in self._tasks.values() if each.is_paused
            )
        except CopydError as error:
            return {**answer, "warning": f"a restart of the daemon will forget this: {error}"}
        return answer


def _unknown(transfer: str) -> Answer:
    return {"error": f"there is no transfer {transfer} in the daemon's configuration"}
