"""How much memory the allocator keeps for threads that come and go."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

M_ARENA_MAX = -8
"""In glibc's malloc.h; see mallopt(3)."""
ARENAS = 2


def limit_arenas() -> None:
    """Have all threads share two arenas; to be called before there are any.

    By default glibc makes up to eight for each core, and what was freed in one is of no use to the
    threads of another: a daemon whose threads come and go holds more and more that nobody uses.
    What MALLOC_ARENA_MAX says in the environment stands. Other C libraries have no arenas.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
