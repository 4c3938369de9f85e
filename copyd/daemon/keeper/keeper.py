"""One cluster, kept up by a thread of its own: look, decide, act, and look again.

What is asked of a keeper goes into its inbox; what it has to say goes to ``tell``, in its thread.
Nothing that goes wrong with a cluster ends the thread, or reaches another one's.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from copyd.cluster import ClusterError, ClusterTimeoutError, State
from copyd.daemon.keeper.configuration import Configured, conninfo
from copyd.daemon.keeper.decision import (
    Await,
    Initialize,
    Pace,
    Past,
    Rest,
    Start,
    Watch,
    Word,
    decide,
    is_stopped_at_exit,
    may_restart,
)
from copyd.daemon.keeper.managed_cluster import Ward, sentence
from copyd.daemon.keeper.observation import look
from copyd.events import (
    ClusterConfigured,
    ClusterDown,
    ClusterReleased,
    ClusterRestarted,
    ClusterStopped,
    ClusterUp,
)
from copyd.status import ClusterStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.cluster import Cluster
    from copyd.config import Cluster as Section
    from copyd.daemon.keeper.decision import Decision
    from copyd.daemon.keeper.records import Folders
    from copyd.events import Event

ANSWER_TIMEOUT = 5.0
"""Seconds that a server gets to answer before it is called silent."""
STOP_TIMEOUT = 60.0
"""Seconds that a fast shutdown for a restart may take."""


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

    ``tell`` gets its events, in the keeper's thread, and must not block; what it raises is lost,
    as an observer's failure is not the cluster's. ``clock`` is monotonic,
    ``wall`` the time since 1970, ``dice`` between 0 and 1.
    """

    def __init__(
        self,
        name: str,
        section: Section,
        *,
        folders: Folders,
        tell: Callable[[Event], None],
        after: Keeper | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._section = section
        self._folders = folders
        self._tell = tell
        self._after = after
        self._pace = pace or Pace()
        self._clock, self._wall, self._dice = clock, wall, dice
        self._inbox: queue.SimpleQueue[_Apply | _Release | _Stop] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._keep, name=f"copyd-keeper-{name}", daemon=True)
        self._ward: Ward | None = None
        self._past = Past()
        self._status = ClusterStatus(name, Word.NEW.value, is_up=False, is_adopted=False)
        self._is_up = threading.Event()
        self._is_over = False
        self._probed_at: float | None = None
        self._answers = True
        self._configured: Configured | None = None
        self._configured_at = 0.0
        self._written: Configured | None = None
        self._told = ClusterConfigured(name, (), (), ())
        self._restarted_for: tuple[str, ...] | None = None
        # Guards the two below: whoever borrows must not find a server that is about to restart.
        self._loans_lock = threading.Lock()
        self._loans = 0
        self._wants_restart = False

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
        self.stopping(within)
        return self.join(within)

    def stopping(self, within: float) -> None:
        """Ask for what `stop` does, and return at once."""
        self._inbox.put(_Stop(self._clock() + within))

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the keeper has ended, and say whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def status(self) -> ClusterStatus:
        """Say how the cluster is."""
        return self._status

    @property
    def section(self) -> Section:
        """The configuration that holds, as far as the keeper has heard."""
        return self._section

    def is_up(self) -> bool:
        """Whether a run may begin: the server accepts connections and is not about to restart."""
        return self._is_up.is_set() and not self._wants_restart

    def wait_up(self, timeout: float | None = None) -> bool:
        """Wait until the server accepts connections; False where it did not in time."""
        return self._is_up.wait(timeout)

    def conninfo(self, dbname: str = "postgres") -> str:
        """Return how to connect as the superuser; it names a password file, and no password.

        Raises `ClusterError` while there is no server to connect to.
        """
        ward = self._ward
        if ward is None or not self._is_up.is_set():
            raise ClusterError(
                f"cluster {self.name} is not up: {self._status.last_error or self._status.state}"
            )
        return conninfo(ward.cluster, ward.files, dbname)

    def borrow(self) -> Callable[[], None] | None:
        """Ask that the server is not restarted for its settings for a while.

        Returns what to call, once, at the end of that; None, and nothing is borrowed, where the
        cluster is not up or about to restart.
        """
        with self._loans_lock:
            if not self.is_up():
                return None
            self._loans += 1
            return self._give_back

    def _give_back(self) -> None:
        with self._loans_lock:
            self._loans -= 1

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
            self._rest(Rest(Word.REFUSED, sentence(error)))
            return self._pace.look
        try:
            return self._act(decision)
        except Exception as error:  # noqa: BLE001 - see above
            self._fall(sentence(error))
            return self._pace.soon

    def _obey(self, wish: _Apply | _Release | _Stop) -> None:
        match wish:
            case _Apply(section):
                self._section = section
                self._past = replace(self._past, falls=0, retry_at=0.0)
                self._configured = None
                self._restarted_for = None
                self._set_wants_restart(wants=False)
            case _Release():
                self._is_over = True
                self._publish(Word.RELEASED)
                self._say(ClusterReleased(self.name))
            case _Stop(deadline):
                self._is_over = True
                self._end(deadline)

    def _decide(self) -> Decision:
        ward = self._opened()
        seen = look(ward.cluster, ward.files.read(), answers=self._probe(ward.cluster))
        now = self._clock()
        ward.note(seen)
        if seen.runs:
            is_up = seen.state is State.READY and seen.answers
            self._past = self._past.seen_running(is_up=is_up, now=now)
        elif self._past.has_run and (seen.is_ours or self._section.takes_over):
            self._fall(ward.explain(was_up=self._past.up_since is not None))
        else:
            self._past = self._past.stopped()
        return decide(self._section, seen, self._past, now=now, pace=self._pace)

    def _act(self, decision: Decision) -> float:
        match decision:
            case Watch(is_adopted):
                self._watch(is_adopted=is_adopted)
                return self._pace.look if not self._wants_restart else self._pace.soon
            case Await(word, is_adopted):
                self._publish(word, is_adopted=is_adopted, cause=_AWAITED.get(word))
                return self._pace.soon
            case Rest():
                self._rest(decision)
                left = self._pace.look if decision.until is None else decision.until - self._clock()
                return max(0.0, min(left, self._pace.look))
            case Initialize(clears):
                self._publish(Word.INITIALIZING)
                self._opened().initialize(self._section, clears=clears, now=self._wall())
                return 0.0
            case Start(is_again):
                self._start(is_again=is_again)
                return self._pace.soon

    # Looking

    def _opened(self) -> Ward:
        if self._ward is None:
            self._ward = Ward.of(self.name, self._section, self._folders)
        return self._ward

    def _probe(self, cluster: Cluster) -> bool:
        """Whether the server answers, asked now and then; always where it does not run."""
        now = self._clock()
        is_due = self._probed_at is None or now - self._probed_at >= self._pace.probe
        if is_due or not self._answers:
            self._answers = cluster.ready_for_connections(ANSWER_TIMEOUT) is not False
            self._probed_at = now
        return self._answers

    # Acting

    def _start(self, *, is_again: bool) -> None:
        self._publish(Word.STARTING, cause=self._past.cause)
        self._written = self._opened().start(self._section, now=self._wall())
        self._past = self._past.started()
        self._configured = None
        self._tell_configured(self._written)
        if is_again:
            self._status = replace(self._status, restarts=self._status.restarts + 1)
            self._say(ClusterRestarted(self.name))

    def _watch(self, *, is_adopted: bool) -> None:
        configured = self._bring_on()
        self._publish(
            Word.UP,
            is_adopted=is_adopted,
            cause="; ".join(configured.problems) or None,
            pending_restart=configured.pending_restart,
        )
        pending = configured.pending_restart
        is_due = bool(pending) and pending != self._restarted_for
        if not (is_due and may_restart(self._section, is_ours=not is_adopted)):
            self._set_wants_restart(wants=False)
        elif self._set_wants_restart(wants=True):
            self._restart(pending)

    def _bring_on(self) -> Configured:
        """Return what became of the configuration; what had problems is tried now and then."""
        done, now = self._configured, self._clock()
        if done is not None:
            is_due = bool(done.problems) and now - self._configured_at >= self._pace.again
            if not is_due:
                return done
        written, self._written = self._written, None
        self._configured = done = self._opened().configure(self._section, written)
        self._configured_at = now
        self._tell_configured(done)
        return done

    def _tell_configured(self, done: Configured) -> None:
        """Say what is new of the configuration."""
        event = ClusterConfigured(self.name, done.changed, done.pending_restart, done.problems)
        is_news = done.changed or replace(event, changed=()) != self._told
        self._told = replace(event, changed=())
        if is_news:
            self._say(event)

    def _restart(self, pending: tuple[str, ...]) -> None:
        """Restart the server for settings; they are not a reason to do that a second time."""
        self._restarted_for = pending
        why = f"it restarts for its settings: {', '.join(pending)}"
        self._publish(Word.STOPPING, cause=why, retry_in=0.0)
        cluster = self._opened().cluster
        cluster.shutdown()
        cluster.wait_until_stopped(STOP_TIMEOUT)
        self._past = self._past.stopped()
        self._start(is_again=True)

    def _set_wants_restart(self, *, wants: bool) -> bool:
        """Note whether a restart is due; returns whether nobody stands in its way."""
        with self._loans_lock:
            self._wants_restart = wants
            return self._loans == 0

    def _end(self, deadline: float) -> None:
        ward = self._opened()
        cluster, is_ours = ward.cluster, look(ward.cluster, ward.files.read()).is_ours
        if not cluster.running() or not is_stopped_at_exit(self._section, is_ours=is_ours):
            return
        self._publish(Word.STOPPING, cause="it is stopped with the daemon")
        cluster.shutdown()
        try:
            cluster.wait_until_stopped(max(0.0, deadline - self._clock()))
        except ClusterTimeoutError:
            cause = "it was asked to stop with the daemon, and did not in time"
            self._say(ClusterDown(self.name, cause, None))
            return
        self._publish(Word.DOWN, cause="it was stopped with the daemon")
        self._say(ClusterStopped(self.name))

    # Saying

    def _say(self, event: Event) -> None:
        with suppress(Exception):  # an observer's failure is not the cluster's
            self._tell(event)

    def _rest(self, rest: Rest) -> None:
        is_news = (rest.word.value, rest.cause) != (self._status.state, self._status.last_error)
        retry_in = None if rest.until is None else max(0.0, rest.until - self._clock())
        self._publish(
            rest.word,
            is_adopted=rest.is_adopted,
            cause=rest.cause,
            retry_in=retry_in,
            is_told=is_news and rest.until is None,
        )

    def _fall(self, cause: str) -> None:
        """Note that the server went down, or could not be brought up, and say so."""
        now = self._clock()
        self._past = past = self._past.fallen(cause, now=now, pace=self._pace, dice=self._dice())
        self._configured = None
        word = Word.LOOPING if past.falls >= self._pace.limit else Word.DOWN
        self._publish(word, cause=cause, retry_in=past.retry_at - now, is_told=True)

    def _publish(
        self,
        word: Word,
        *,
        is_adopted: bool = False,
        cause: str | None = None,
        pending_restart: tuple[str, ...] = (),
        retry_in: float | None = None,
        is_told: bool = False,
    ) -> None:
        was_up, is_up = self._status.is_up, word is Word.UP
        self._status = ClusterStatus(
            self.name,
            word.value,
            is_up=is_up,
            is_adopted=is_adopted,
            restarts=self._status.restarts,
            pending_restart=pending_restart,
            last_error=cause,
        )
        if is_up:
            self._is_up.set()
        else:
            self._is_up.clear()
        if is_up and not was_up:
            self._say(ClusterUp(self.name, is_adopted))
        elif is_told or (was_up and not is_up and not self._is_over):
            self._say(ClusterDown(self.name, cause or word.value, retry_in))


_AWAITED = {
    Word.SILENT: "it runs, and does not answer",
    Word.STOPPING: "it is being stopped",
}
