"""How long to wait before the next try: twice as long each time, up to a limit, with jitter; pure."""

from __future__ import annotations

MAX_DOUBLINGS = 64


def backoff(failures: int, *, first: float, longest: float, jitter: float) -> float:
    """Return the seconds to wait after so many failures in a row, from 1.

    `jitter` is a random number from 0 to 1. The wait lies between half of its length and all of
    it, so that parties that failed together do not come back together.
    """
    doubled = first * 2.0 ** min(failures - 1, MAX_DOUBLINGS)
    return min(doubled, longest) * (1 + jitter) / 2
