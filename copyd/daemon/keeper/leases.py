"""Runs borrow a server; its restart for settings waits until every run has returned it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Leases:
    """Counts the borrowers of a server; safe to use from any thread."""

    def __init__(self) -> None:
        # Guards both fields: no run may borrow between the decision to restart and the restart.
        # Decision: A restart for settings waits for the runs
        self._lock = threading.Lock()
        self._borrowed = 0
        self.wants_restart = False

    def borrow(self, is_up: Callable[[], bool]) -> Callable[[], None] | None:
        """Lend the server; return a function that takes it back, to be called once. None unless `is_up`."""
        with self._lock:
            if not is_up():
                return None
            self._borrowed += 1
            return self._give_back

    def want_restart(self, *, wants: bool) -> bool:
        """Refuse borrowers from now on, or admit them; return whether there are none."""
        with self._lock:
            self.wants_restart = wants
            return self._borrowed == 0

    def _give_back(self) -> None:
        with self._lock:
            self._borrowed -= 1
