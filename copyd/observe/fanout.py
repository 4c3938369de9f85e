"""One observer made of several, none of which can hurt the run or another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from copyd.events import ObserverFailed
from copyd.status import ObserverStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.events import Event, Observer

Failed = Callable[[str, Exception], None]
"""Is told the name of an observer that raised, and the error."""


def _ignore(name: str, error: Exception) -> None:
    del name, error


class Fanout:
    """Passes each event to every observer; one that raises gets no more events.

    Its name and its error are in ``failures`` then, and ``failed`` is told.
    """

    def __init__(self, observers: Mapping[str, Observer], failed: Failed = _ignore) -> None:
        self._observers = dict(observers)
        self._failed = failed
        self.failures: dict[str, Exception] = {}

    def __call__(self, event: Event) -> None:
        for name, observer in list(self._observers.items()):
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - the observers' boundary: a run goes on without them
                del self._observers[name]
                self.failures[name] = error
                self._failed(name, error)


class Failures:
    """Counts the failures of observers, and logs the first of each.

    The lock guards the counts, between the runs' threads and whoever asks.
    """

    def __init__(self, names: Iterable[str], log: Observer) -> None:
        self._observers = {name: ObserverStatus(name) for name in names}
        self._log = Fanout({"log": log})  # it may be the one that fails
        self._lock = threading.Lock()

    def __call__(self, name: str, error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}"
        with self._lock:
            before = self._observers[name]
            failures = before.failures + 1
            self._observers[name] = replace(before, failures=failures, last_error=cause)
        if failures == 1:
            self._log(ObserverFailed(name, cause))

    def status(self) -> tuple[ObserverStatus, ...]:
        """Return all observers, with the number of their failures."""
        with self._lock:
            return tuple(self._observers.values())
