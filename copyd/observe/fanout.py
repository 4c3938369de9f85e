"""One observer made of several, none of which can hurt the run or another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from copyd.events import Event, Observer


class Tee:
    """Passes each event to every observer; one that raises gets no more events."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = list(observers)
        self.failures: list[Exception] = []

    def __call__(self, event: Event) -> None:
        for observer in list(self._observers):
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - the observers' boundary: a run goes on without them
                self._observers.remove(observer)
                self.failures.append(error)
