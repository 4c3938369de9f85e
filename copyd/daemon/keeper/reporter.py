"""Publishes a cluster's status and reports the resulting events."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from copyd.daemon.keeper.decision import Condition
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

    from copyd.daemon.keeper.configuration import Configured
    from copyd.daemon.keeper.decision import Rest
    from copyd.events import Event


class Reporter:
    """Reports on the cluster ``name``, in the keeper's thread; ``status`` is for any thread."""

    def __init__(self, name: str, tell: Callable[[Event], None]) -> None:
        self.name = name
        self.status = ClusterStatus(name, Condition.NEW.value, is_up=False, is_adopted=False)
        self._tell = tell
        self._is_ending = False
        self._configured = ClusterConfigured(name, (), (), ())

    def publish(
        self,
        condition: Condition,
        *,
        is_adopted: bool = False,
        cause: str | None = None,
        pending_restart: tuple[str, ...] = (),
        retry_in: float | None = None,
        is_told: bool = False,
    ) -> None:
        """Replace the status. Report a change between up and down, and down if `is_told`."""
        was_up, is_up = self.status.is_up, condition is Condition.UP
        self.status = ClusterStatus(
            self.name,
            condition.value,
            is_up=is_up,
            is_adopted=is_adopted,
            restarts=self.status.restarts,
            pending_restart=pending_restart,
            last_error=cause,
        )
        if is_up and not was_up:
            self._say(ClusterUp(self.name, is_adopted))
        elif is_told or (was_up and not is_up and not self._is_ending):
            self._say(ClusterDown(self.name, cause or condition.value, retry_in))

    def rest(self, rest: Rest, now: float) -> None:
        is_news = (rest.condition.value, rest.cause) != (self.status.state, self.status.last_error)
        self.publish(
            rest.condition,
            is_adopted=rest.is_adopted,
            cause=rest.cause,
            retry_in=None if rest.until is None else max(0.0, rest.until - now),
            is_told=is_news and rest.until is None,
        )

    def configured(self, done: Configured) -> None:
        """Report changes of the server, and problems other than before."""
        event = ClusterConfigured(self.name, done.changed, done.pending_restart, done.problems)
        is_news = done.changed or replace(event, changed=()) != self._configured
        self._configured = replace(event, changed=())
        if is_news:
            self._say(event)

    def restarted(self) -> None:
        self.status = replace(self.status, restarts=self.status.restarts + 1)
        self._say(ClusterRestarted(self.name))

    def released(self) -> None:
        self._is_ending = True
        self.publish(Condition.RELEASED)
        self._say(ClusterReleased(self.name))

    def stopping(self) -> None:
        self._is_ending = True  # `stopped` reports the end: a stop on purpose is no ClusterDown
        self.publish(Condition.STOPPING, cause="the server stops with the daemon")

    def stopped(self, *, is_late: bool) -> None:
        if is_late:
            cause = "the server did not stop in time when the daemon stopped"
            self._say(ClusterDown(self.name, cause, None))
            return
        self.publish(Condition.DOWN, cause="the server was stopped with the daemon")
        self._say(ClusterStopped(self.name))

    def _say(self, event: Event) -> None:
        with suppress(Exception):  # an observer's failure is not the cluster's
            self._tell(event)
