"""Several observers as a single observer; an exception in one does not affect the others."""

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
"""Called with the name of an observer that raised, and its exception."""


class Fanout:
    """Passes each event to every observer, but none to an observer that has raised.

    ``failures`` has the exceptions by observer; ``failed`` is called with each.
    """

    def __init__(self, observers: Mapping[str, Observer], failed: Failed | None = None) -> None:
        self._observers = dict(observers)
        self._failed = failed
        self.failures: dict[str, Exception] = {}

    def __call__(self, event: Event) -> None:
        for name, observer in list(self._observers.items()):
            try:
                observer(event)
            # Decision: An observer that raised is tried again at its next run
            except Exception as error:  # noqa: BLE001 - the observers' boundary: a run goes on without them
                del self._observers[name]
                self.failures[name] = error
                if self._failed is not None:
                    self._failed(name, error)


class Failures:
    """Counts the failures of each observer and logs the first; the lock guards the counts."""

    def __init__(self, names: Iterable[str], log: Observer) -> None:
        self._observers = {name: ObserverStatus(name) for name in names}
        self._log = Fanout({"log": log})  # the log may fail too
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
        with self._lock:
            return tuple(self._observers.values())
