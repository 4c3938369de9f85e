"""Runs borrow a server, and its restart waits until all have given it back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Leases:
    """Counts who uses one server. Every method may be called from any thread."""

    def __init__(self) -> None:
        # Guards the two below: nobody must borrow a server that is about to restart.
        self._lock = threading.Lock()
        self._borrowed = 0
        self._wants_restart = False

    @property
    def wants_restart(self) -> bool:
        """Whether nobody may borrow, because a restart is due."""
        return self._wants_restart

    def borrow(self, is_up: threading.Event) -> Callable[[], None] | None:
        """Return what gives the server back, to be called once; None where it cannot be used."""
        with self._lock:
            if self._wants_restart or not is_up.is_set():
                return None
            self._borrowed += 1
            return self._give_back

    def want_restart(self, *, wants: bool) -> bool:
        """Note whether a restart is due; return whether nobody stands in its way."""
        with self._lock:
            self._wants_restart = wants
            return self._borrowed == 0

    def _give_back(self) -> None:
        with self._lock:
            self._borrowed -= 1
