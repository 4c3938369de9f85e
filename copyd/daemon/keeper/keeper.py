"""The keeper of a cluster: its thread observes, decides, acts, and observes again.

Requests go through the keeper's inbox. A failure of a cluster neither ends its keeper's thread nor
disturbs another keeper.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from copyd.cluster import ClusterTimeoutError, State
from copyd.daemon.keeper.decision import (
    Await,
    Condition,
    Initialize,
    Past,
    Rest,
    Start,
    Watch,
    decide,
    is_stopped_at_exit,
    may_restart,
)
from copyd.daemon.keeper.leases import Leases
from copyd.daemon.keeper.managed_cluster import ManagedCluster, sentence
from copyd.daemon.keeper.observation import Probe, look
from copyd.daemon.keeper.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from copyd.config import Cluster as Section
    from copyd.daemon.keeper.configuration import Configured
    from copyd.daemon.keeper.decision import Decision, Intervals
    from copyd.daemon.keeper.records import Folders
    from copyd.events import Event
    from copyd.status import ClusterStatus

STOP_TIMEOUT = 60.0  # seconds for a fast shutdown before a restart

_CAUSES = {
    Condition.SILENT: "the server runs, but does not answer",
    Condition.STOPPING: "the server is shutting down",
}


class Keeper:
    """Keeps the cluster ``name`` as ``section`` says, once the keeper ``after`` has ended.

    ``tell`` receives the cluster's events, in the keeper's thread, and must not block.
    """

    def __init__(
        self,
        name: str,
        section: Section,
        *,
        folders: Folders,
        tell: Callable[[Event], None],
        after: Keeper | None,
        intervals: Intervals,
    ) -> None:
        self.name = name
        self._section = section
        self._folders = folders
        self._after = after
        self._intervals = intervals
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # Decision: A keeper for each cluster, and a thread for each keeper
        self._thread = threading.Thread(target=self._keep, name=f"copyd-keeper-{name}", daemon=True)
        self._managed: ManagedCluster | None = None
        self._past = Past()
        self._reporter = Reporter(name, tell)
        self._leases = Leases()
        self._probe = Probe(intervals.probe)
        self._is_over = False
        self._configured: Configured | None = None
        self._configured_at = 0.0
        self._written: Configured | None = None
        self._restarted_for: tuple[str, ...] | None = None

    # -- requests, from any thread ----------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def apply(self, section: Section) -> None:
        """Apply another section with the same data directory and account; returns at once."""
        self._inbox.put(partial(self._apply, section))

    def release(self) -> None:
        """End, and leave the server as it is; returns at once."""
        self._inbox.put(self._release)

    def stop(self, within: float) -> None:
        """End after a fast shutdown, or leave the server: see ``on_exit``. Waits `within` seconds."""
        self._inbox.put(partial(self._end, time.monotonic() + within))
        self.join(within)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the keeper; return whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def status(self) -> ClusterStatus:
        return self._reporter.status

    @property
    def data_directory(self) -> Path:
        return self._section.data_directory

    def is_up(self) -> bool:
        return self._reporter.status.is_up and not self._leases.wants_restart

    def borrow(self) -> Callable[[], None] | None:
        """See `Keepers.borrow`."""
        return self._leases.borrow(self.is_up)

    # -- the keeper's thread ----------------------------------------------------------------------

    def _keep(self) -> None:
        if self._after is not None:
            # Two keepers of one data directory would fight over its server.
            self._after.join()
        while not self._is_over:
            pause = self._turn()
            try:
                self._inbox.get(timeout=pause)()
            except queue.Empty:
                continue
            except Exception as error:  # noqa: BLE001 - as in _turn
                self._fall(sentence(error))

    def _turn(self) -> float:
        """Observe and act once; return the seconds until the next turn.

        The boundary of a keeper: any error becomes the cluster's condition.
        """
        try:
            decision = self._decide()
        except Exception as error:  # noqa: BLE001 - see above
            self._reporter.rest(Rest(Condition.REFUSED, sentence(error)), time.monotonic())
            return self._intervals.look
        try:
            return self._act(decision)
        except Exception as error:  # noqa: BLE001 - see above
            self._fall(sentence(error))
            return self._intervals.soon

    def _apply(self, section: Section) -> None:
        self._section = section
        # The new section may have removed the cause of the failures: start without a pause.
        self._past = replace(self._past, falls=0, retry_at=0.0)
        self._configured = None
        self._restarted_for = None
        self._leases.want_restart(wants=False)

    def _release(self) -> None:
        self._is_over = True
        self._reporter.released()

    def _decide(self) -> Decision:
        managed = self._opened()
        answers = self._probe.answers(managed.cluster, time.monotonic())
        seen = look(managed.cluster, managed.files.read(), answers=answers)
        now = time.monotonic()  # the probe may have waited
        managed.note(seen)
        if seen.runs:
            is_up = seen.state is State.READY and seen.answers
            self._past = self._past.seen_running(is_up=is_up, now=now)
        elif self._past.has_run and (seen.is_ours or self._section.takes_over):
            self._fall(managed.explain(was_up=self._past.up_since is not None))
        else:
            self._past = self._past.stopped()
        return decide(self._section, seen, self._past, now=now, intervals=self._intervals)

    def _act(self, decision: Decision) -> float:
        intervals, now = self._intervals, time.monotonic()
        match decision:
            case Watch(is_adopted):
                self._watch(is_adopted=is_adopted)
                return intervals.soon if self._leases.wants_restart else intervals.look
            case Await(condition, is_adopted):
                cause = _CAUSES.get(condition)
                self._reporter.publish(condition, is_adopted=is_adopted, cause=cause)
                return intervals.soon
            case Rest(until=until):
                self._reporter.rest(decision, now)
                left = intervals.look if until is None else until - now
                return max(0.0, min(left, intervals.look))
            case Initialize(clears):
                self._reporter.publish(Condition.INITIALIZING)
                self._opened().initialize(self._section, clears=clears, now=time.time())
                return 0.0
            case Start(is_again):
                self._start(is_again=is_again)
                return intervals.soon

    def _opened(self) -> ManagedCluster:
        if self._managed is None:
            self._managed = ManagedCluster.of(self.name, self._section, self._folders)
        return self._managed

    def _start(self, *, is_again: bool) -> None:
        self._reporter.publish(Condition.STARTING, cause=self._past.cause)
        self._written = self._opened().start(self._section, now=time.time())
        self._past = self._past.started()
        self._configured = None
        self._reporter.configured(self._written)
        if is_again:
            self._reporter.restarted()

    def _watch(self, *, is_adopted: bool) -> None:
        configured = self._configure()
        self._reporter.publish(
            Condition.UP,
            is_adopted=is_adopted,
            cause="; ".join(configured.problems) or None,
            pending_restart=configured.pending_restart,
        )
        pending = configured.pending_restart
        is_due = bool(pending) and pending != self._restarted_for
        if not (is_due and may_restart(self._section, is_ours=not is_adopted)):
            self._leases.want_restart(wants=False)
        elif self._leases.want_restart(wants=True):
            self._restart(pending)

    def _configure(self) -> Configured:
        done, now = self._configured, time.monotonic()
        is_again = now - self._configured_at >= self._intervals.again
        if done is not None and not (done.problems and is_again):
            return done
        written, self._written = self._written, None
        self._configured = done = self._opened().configure(self._section, written)
        self._configured_at = now
        self._reporter.configured(done)
        return done

    def _restart(self, pending: tuple[str, ...]) -> None:
        # Remembered, because a setting that stays pending would restart the server for ever.
        # Decision: A restart for settings waits for the runs
        self._restarted_for = pending
        cause = f"the server restarts for its settings: {', '.join(pending)}"
        self._reporter.publish(Condition.STOPPING, cause=cause, retry_in=0.0)
        cluster = self._opened().cluster
        cluster.shutdown()
        cluster.wait_until_stopped(STOP_TIMEOUT)
        self._past = self._past.stopped()
        self._start(is_again=True)

    def _end(self, deadline: float) -> None:
        self._is_over = True
        managed = self._opened()
        cluster, is_ours = managed.cluster, look(managed.cluster, managed.files.read()).is_ours
        if not cluster.running() or not is_stopped_at_exit(self._section, is_ours=is_ours):
            return
        self._reporter.stopping()
        # Decision: Servers never end with the daemon by the kernel's hand
        cluster.shutdown()
        try:
            cluster.wait_until_stopped(max(0.0, deadline - time.monotonic()))
        except ClusterTimeoutError:
            self._reporter.stopped(is_late=True)
        else:
            self._reporter.stopped(is_late=False)

    def _fall(self, cause: str) -> None:
        now, intervals = time.monotonic(), self._intervals
        jitter = random.random()  # noqa: S311 - not cryptography
        self._past = past = self._past.fallen(cause, now=now, intervals=intervals, jitter=jitter)
        self._configured = None
        condition = Condition.LOOPING if past.falls >= intervals.limit else Condition.DOWN
        retry_in = past.retry_at - now
        self._reporter.publish(condition, cause=cause, retry_in=retry_in, is_told=True)
