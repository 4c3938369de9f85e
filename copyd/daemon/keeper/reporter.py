"""Publishes how a cluster is, and tells the events that follow from it."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from copyd.daemon.keeper.decision import Word
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
    """Speaks for the cluster called ``name``.

    ``status`` and ``is_up`` may be read from any thread; all else belongs to the keeper's. An
    error of ``tell`` is dropped: an observer's failure is not the cluster's.
    """

    def __init__(self, name: str, tell: Callable[[Event], None]) -> None:
        self.name = name
        self.status = ClusterStatus(name, Word.NEW.value, is_up=False, is_adopted=False)
        self.is_up = threading.Event()
        self._tell = tell
        self._is_last_word_awaited = False
        self._configured = ClusterConfigured(name, (), (), ())

    def publish(
        self,
        word: Word,
        *,
        is_adopted: bool = False,
        cause: str | None = None,
        pending_restart: tuple[str, ...] = (),
        retry_in: float | None = None,
        is_told: bool = False,
    ) -> None:
        """Replace the status; tell that the cluster is up or down where that, or `is_told`, is new."""
        was_up, is_up = self.status.is_up, word is Word.UP
        self.status = ClusterStatus(
            self.name,
            word.value,
            is_up=is_up,
            is_adopted=is_adopted,
            restarts=self.status.restarts,
            pending_restart=pending_restart,
            last_error=cause,
        )
        if is_up:
            self.is_up.set()
        else:
            self.is_up.clear()
        if is_up and not was_up:
            self._say(ClusterUp(self.name, is_adopted))
        elif is_told or (was_up and not is_up and not self._is_last_word_awaited):
            self._say(ClusterDown(self.name, cause or word.value, retry_in))

    def rest(self, rest: Rest, now: float) -> None:
        """Publish why nothing is done with the cluster."""
        is_news = (rest.word.value, rest.cause) != (self.status.state, self.status.last_error)
        self.publish(
            rest.word,
            is_adopted=rest.is_adopted,
            cause=rest.cause,
            retry_in=None if rest.until is None else max(0.0, rest.until - now),
            is_told=is_news and rest.until is None,
        )

    def configured(self, done: Configured) -> None:
        """Tell what is new of the configuration."""
        event = ClusterConfigured(self.name, done.changed, done.pending_restart, done.problems)
        is_news = done.changed or replace(event, changed=()) != self._configured
        self._configured = replace(event, changed=())
        if is_news:
            self._say(event)

    def restarted(self) -> None:
        self.status = replace(self.status, restarts=self.status.restarts + 1)
        self._say(ClusterRestarted(self.name))

    def released(self) -> None:
        """Publish that the cluster is left as it is, for good."""
        self._is_last_word_awaited = True
        self.publish(Word.RELEASED)
        self._say(ClusterReleased(self.name))

    def stopping(self) -> None:
        """Publish that the server is stopped with the daemon: it is not called down meanwhile."""
        self._is_last_word_awaited = True
        self.publish(Word.STOPPING, cause="it is stopped with the daemon")

    def stopped(self, *, is_late: bool) -> None:
        """Tell how the stop with the daemon went."""
        if is_late:
            cause = "it was asked to stop with the daemon, and did not in time"
            self._say(ClusterDown(self.name, cause, None))
            return
        self.publish(Word.DOWN, cause="it was stopped with the daemon")
        self._say(ClusterStopped(self.name))

    def _say(self, event: Event) -> None:
        with suppress(Exception):
            self._tell(event)
