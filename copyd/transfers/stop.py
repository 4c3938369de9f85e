"""A run stopped from outside: any thread with the run's `Stop` may set it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RunStopped(CopydError):
    """The run was stopped from outside; destinations without a COMMIT keep their old data."""


class Stop:
    """A one-way stop flag. `ask` runs the registered callbacks, which wake blocked threads.

    `ask` does not block, and no callback may.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()  # guards the callbacks: none is missed by `ask`
        self._callbacks: list[Callable[[], None]] = []
        self._reason = "it was stopped"

    def ask(self, reason: str) -> None:
        """End the run early; `reason` is a clause such as "the daemon stops". The first one counts."""
        with self._lock:
            if self._event.is_set():
                return
            self._reason = reason
            self._event.set()
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            callback()

    @property
    def cause(self) -> RunStopped | None:
        """The error to end the run with; None before `ask`."""
        return RunStopped(self._reason) if self._event.is_set() else None

    def require_none(self) -> None:
        """Raise RunStopped after `ask`."""
        if self._event.is_set():
            raise RunStopped(self._reason)

    def wait(self, seconds: float) -> None:
        """Sleep for so many seconds; raises RunStopped at `ask`."""
        self._event.wait(seconds)
        self.require_none()

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Register `callback` while the block lasts; after `ask`, it is called at once."""
        with self._lock:
            self._callbacks.append(callback)
            is_late = self._event.is_set()
        try:
            if is_late:
                callback()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)
