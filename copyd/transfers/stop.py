"""Ending a run from outside: any thread that holds the run's `Stop` may set it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RunStopped(CopydError):
    """The run was ended from outside; destinations that had not committed keep their old data."""


class Stop:
    """A one-way stop flag. Setting it runs the registered callbacks, which wake whoever is blocked.

    `ask` never waits; no callback may wait either.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()  # guards the callbacks: none is missed by `ask`
        self._callbacks: list[Callable[[], None]] = []
        self._reason = "it was stopped"

    @property
    def is_asked(self) -> bool:
        return self._event.is_set()

    def ask(self, reason: str) -> None:
        """End the run as soon as that is clean; `reason` is a clause such as "the daemon stops"."""
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
        """The error that ends the run; None while nobody has asked."""
        return RunStopped(self._reason) if self._event.is_set() else None

    def require_none(self) -> None:
        """Raise RunStopped once somebody has asked."""
        if self._event.is_set():
            raise RunStopped(self._reason)

    def wait(self, seconds: float) -> None:
        """Sleep for so many seconds; raises RunStopped as soon as somebody asks."""
        self._event.wait(seconds)
        self.require_none()

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Register `callback` while the block lasts; called at once where somebody has asked already."""
        with self._lock:
            self._callbacks.append(callback)
            is_asked = self._event.is_set()
        try:
            if is_asked:
                callback()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)
