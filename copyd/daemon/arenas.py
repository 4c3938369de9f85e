"""A limit for the memory that glibc keeps after threads have ended."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

M_ARENA_MAX = -8  # in glibc's malloc.h; see mallopt(3)
ARENAS = 2


def limit_arenas() -> None:
    """Let all threads share two arenas, unless MALLOC_ARENA_MAX is set; call before any starts."""
    # glibc creates up to eight arenas a core, and memory freed in one serves no thread of another:
    # a daemon that starts a thread for each run would grow. Other C libraries have no mallopt.
    # Decision: Threads share two arenas
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
