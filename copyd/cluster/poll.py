"""Poll a condition."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for(is_done: Callable[[], bool], *, timeout: float, delay: float = 0.02) -> bool:
    """Call ``is_done`` every ``delay`` seconds until True; False after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not is_done():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(delay, left))
    return True
