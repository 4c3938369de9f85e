"""One cluster, kept up by a thread of its own: look, decide, act, and look again.

Requests go into a keeper's inbox. Nothing that goes wrong with a cluster ends its keeper's thread,
or reaches another keeper's.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from copyd.cluster import ClusterError, ClusterTimeoutError, State
from copyd.daemon.keeper.configuration import Configured, conninfo
from copyd.daemon.keeper.decision import (
    Await,
    Initialize,
    Intervals,
    Past,
    Rest,
    Start,
    Watch,
    Word,
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

    from copyd.config import Cluster as Section
    from copyd.daemon.keeper.decision import Decision
    from copyd.daemon.keeper.records import Folders
    from copyd.events import Event
    from copyd.status import ClusterStatus

STOP_TIMEOUT = 60.0
"""Seconds that a fast shutdown for a restart may take."""

_AWAITED = {
    Word.SILENT: "it runs, and does not answer",
    Word.STOPPING: "it is being stopped",
}


@dataclass(frozen=True)
class _Apply:
    section: Section


@dataclass(frozen=True)
class _Release:
    pass


@dataclass(frozen=True)
class _Stop:
    deadline: float


class Keeper:
    """Keeps the cluster called ``name`` as ``section`` says.

    ``tell`` gets its events, in the keeper's thread, and must not block. ``clock`` is monotonic,
    ``wall`` is Unix time, ``rng`` returns numbers between 0 and 1.
    """

    def __init__(
        self,
        name: str,
        section: Section,
        *,
        folders: Folders,
        tell: Callable[[Event], None],
        after: Keeper | None = None,
        intervals: Intervals | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._section = section
        self._folders = folders
        self._after = after
        self._intervals = intervals or Intervals()
        self._clock, self._wall, self._rng = clock, wall, rng
        self._inbox: queue.SimpleQueue[_Apply | _Release | _Stop] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._keep, name=f"copyd-keeper-{name}", daemon=True)
        self._managed: ManagedCluster | None = None
        self._past = Past()
        self._reporter = Reporter(name, tell)
        self._leases = Leases()
        self._probe = Probe(self._intervals.probe)
        self._is_over = False
        self._configured: Configured | None = None
        self._configured_at = 0.0
        self._written: Configured | None = None
        self._restarted_for: tuple[str, ...] | None = None

    # What others ask, from any thread

    def start(self) -> None:
        """Begin to keep the cluster; returns at once."""
        self._thread.start()

    def apply(self, section: Section) -> None:
        """Keep it as another configuration of the same data directory and account says."""
        self._inbox.put(_Apply(section))

    def release(self) -> None:
        """Leave the cluster as it is, for good; returns at once."""
        self._inbox.put(_Release())

    def stop(self, within: float) -> bool:
        """End: the server is stopped (fast shutdown) or left, as the configuration says.

        Waits so many seconds at most; False where the end was not seen by then.
        """
        self._inbox.put(_Stop(self._clock() + within))
        return self.join(within)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the keeper has ended, and say whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def status(self) -> ClusterStatus:
        return self._reporter.status

    @property
    def section(self) -> Section:
        """The configuration that holds, as far as the keeper has heard."""
        return self._section

    def is_up(self) -> bool:
        """Whether a run may begin: the server accepts connections and is not about to restart."""
        return self._reporter.is_up.is_set() and not self._leases.wants_restart

    def wait_up(self, timeout: float | None = None) -> bool:
        """Wait until the server accepts connections; False where it did not in time."""
        return self._reporter.is_up.wait(timeout)

    def conninfo(self, dbname: str = "postgres") -> str:
        """Return how to connect as the superuser; it names a password file, and no password.

        Raises `ClusterError` while there is no server to connect to.
        """
        managed, status = self._managed, self._reporter.status
        if managed is None or not self._reporter.is_up.is_set():
            raise ClusterError(
                f"cluster {self.name} is not up: {status.last_error or status.state}"
            )
        return conninfo(managed.cluster, managed.files, dbname)

    def borrow(self) -> Callable[[], None] | None:
        """Ask that the server is not restarted for its settings for a while.

        Returns what to call, once, at the end of that; None, and nothing is borrowed, where the
        cluster is not up or about to restart.
        """
        return self._leases.borrow(self._reporter.is_up)

    # The thread

    def _keep(self) -> None:
        if self._after is not None:
            self._after.join()
        while not self._is_over:
            pause = self._turn()
            try:
                self._obey(self._inbox.get(timeout=pause))
            except queue.Empty:
                continue
            except Exception as error:  # noqa: BLE001 - as in _turn
                self._fall(sentence(error))

    def _turn(self) -> float:
        """Look and act once; returns the seconds until it is worth doing that again.

        The boundary of a keeper: whatever goes wrong is its cluster's misfortune alone.
        """
        try:
            decision = self._decide()
        except Exception as error:  # noqa: BLE001 - see above
            self._reporter.rest(Rest(Word.REFUSED, sentence(error)), self._clock())
            return self._intervals.look
        try:
            return self._act(decision)
        except Exception as error:  # noqa: BLE001 - see above
            self._fall(sentence(error))
            return self._intervals.soon

    def _obey(self, request: _Apply | _Release | _Stop) -> None:
        match request:
            case _Apply(section):
                self._section = section
                self._past = replace(self._past, falls=0, retry_at=0.0)
                self._configured = None
                self._restarted_for = None
                self._leases.want_restart(wants=False)
            case _Release():
                self._is_over = True
                self._reporter.released()
            case _Stop(deadline):
                self._is_over = True
                self._end(deadline)

    def _decide(self) -> Decision:
        managed, now = self._opened(), self._clock()
        answers = self._probe.answers(managed.cluster, now)
        seen = look(managed.cluster, managed.files.read(), answers=answers)
        now = self._clock()
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
        match decision:
            case Watch(is_adopted):
                self._watch(is_adopted=is_adopted)
                return (
                    self._intervals.look if not self._leases.wants_restart else self._intervals.soon
                )
            case Await(word, is_adopted):
                self._reporter.publish(word, is_adopted=is_adopted, cause=_AWAITED.get(word))
                return self._intervals.soon
            case Rest():
                self._reporter.rest(decision, self._clock())
                left = (
                    self._intervals.look
                    if decision.until is None
                    else decision.until - self._clock()
                )
                return max(0.0, min(left, self._intervals.look))
            case Initialize(clears):
                self._reporter.publish(Word.INITIALIZING)
                self._opened().initialize(self._section, clears=clears, now=self._wall())
                return 0.0
            case Start(is_again):
                self._start(is_again=is_again)
                return self._intervals.soon

    def _opened(self) -> ManagedCluster:
        if self._managed is None:
            self._managed = ManagedCluster.of(self.name, self._section, self._folders)
        return self._managed

    # Acting

    def _start(self, *, is_again: bool) -> None:
        self._reporter.publish(Word.STARTING, cause=self._past.cause)
        self._written = self._opened().start(self._section, now=self._wall())
        self._past = self._past.started()
        self._configured = None
        self._reporter.configured(self._written)
        if is_again:
            self._reporter.restarted()

    def _watch(self, *, is_adopted: bool) -> None:
        configured = self._bring_on()
        self._reporter.publish(
            Word.UP,
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

    def _bring_on(self) -> Configured:
        """Return what became of the configuration; what had problems is tried now and then."""
        done, now = self._configured, self._clock()
        if done is not None:
            is_due = bool(done.problems) and now - self._configured_at >= self._intervals.again
            if not is_due:
                return done
        written, self._written = self._written, None
        self._configured = done = self._opened().configure(self._section, written)
        self._configured_at = now
        self._reporter.configured(done)
        return done

    def _restart(self, pending: tuple[str, ...]) -> None:
        """Restart the server for settings; they are not a reason to do that a second time."""
        self._restarted_for = pending
        why = f"it restarts for its settings: {', '.join(pending)}"
        self._reporter.publish(Word.STOPPING, cause=why, retry_in=0.0)
        cluster = self._opened().cluster
        cluster.shutdown()
        cluster.wait_until_stopped(STOP_TIMEOUT)
        self._past = self._past.stopped()
        self._start(is_again=True)

    def _end(self, deadline: float) -> None:
        managed = self._opened()
        cluster, is_ours = managed.cluster, look(managed.cluster, managed.files.read()).is_ours
        if not cluster.running() or not is_stopped_at_exit(self._section, is_ours=is_ours):
            return
        self._reporter.stopping()
        cluster.shutdown()
        try:
            cluster.wait_until_stopped(max(0.0, deadline - self._clock()))
        except ClusterTimeoutError:
            self._reporter.stopped(is_late=True)
        else:
            self._reporter.stopped(is_late=False)

    def _fall(self, cause: str) -> None:
        """Note that the server went down, or could not be brought up, and say so."""
        now, intervals = self._clock(), self._intervals
        self._past = past = self._past.fallen(
            cause, now=now, intervals=intervals, jitter=self._rng()
        )
        self._configured = None
        word = Word.LOOPING if past.falls >= intervals.limit else Word.DOWN
        retry_in = past.retry_at - now
        self._reporter.publish(word, cause=cause, retry_in=retry_in, is_told=True)
