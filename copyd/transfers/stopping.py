"""Ends a run from outside: whoever holds the run's `Stop` may, from any thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RunStopped(CopydError):
    """The run was ended from outside; what was not committed by then is as it was before."""


class Stop:
    """Asked for once, it stays asked for; who waits for something else meanwhile is called.

    `ask` never waits, and what is called must not wait either.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()  # guards who is called, and that nobody is forgotten
        self._called: list[Callable[[], None]] = []
        self._reason = "it was stopped"

    @property
    def is_asked(self) -> bool:
        """Whether the run is to end."""
        return self._event.is_set()

    def ask(self, reason: str) -> None:
        """End the run as soon as it can be done cleanly; `reason` is a sentence about why."""
        with self._lock:
            if self._event.is_set():
                return
            self._reason = reason
            self._event.set()
            called = tuple(self._called)
        for callback in called:
            callback()

    @property
    def cause(self) -> RunStopped | None:
        """Why the run is to end; None where it is not."""
        return RunStopped(self._reason) if self._event.is_set() else None

    def require_none(self) -> None:
        """Raise RunStopped where the run is to end."""
        if self._event.is_set():
            raise RunStopped(self._reason)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the run is to end; raises RunStopped then."""
        self._event.wait(seconds)
        self.require_none()

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Have `callback` called, while the block lasts, once the run is to end; at once if it is."""
        with self._lock:
            self._called.append(callback)
            is_late = self._event.is_set()
        try:
            if is_late:
                callback()
            yield
        finally:
            with self._lock:
                self._called.remove(callback)
