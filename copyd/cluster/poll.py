"""Polling: look, and look again until something holds or the time is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for(is_done: Callable[[], bool], *, timeout: float, delay: float = 0.02) -> bool:
    """Look every ``delay`` seconds until something holds; False after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not is_done():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(delay, left))
    return True
